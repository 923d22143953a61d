"""The loss that a training step minimises: the task loss, the distillation loss (eq. 16), and three optional losses."""

from contextlib import nullcontext
from typing import Dict, List, Optional, Sequence, Union

import torch
from torch import Tensor, nn

from irvis.student.channels_last import forward_channels_last
from irvis.student.downstream import Downstream
from irvis.student.losses import (
    attention_map,
    attention_map_loss,
    correlation_loss,
    fidelity_loss,
    gradient_loss,
    guarded_gradient_loss,
    intensity_loss,
    response_terms,
    similarity_samples,
    similarity_samples_loss,
    total_loss,
)
from irvis.student.network import Student
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import TeacherMaps
from irvis.student.weighting import TEACHER_WEIGHTINGS, TERMS, WEIGHTINGS


class Objective(nn.Module):
    """The student and its losses in one module, so that whatever parallelises or averages a module covers both.

    ``forward(infrared, visible, teachers, progress, targets)`` takes (B, 1, H, W) planes in [0, 1], each teacher's maps
    on them, the share of the run that is done, (), and the targets of the downstream task, if there is one; it returns
    scalars: ``loss``, the sum, and its parts.
    """

    def __init__(
        self,
        student: Student,
        config: TrainConfig,
        downstream: Optional[Downstream] = None,
        amp_dtype: torch.dtype = torch.float32,
        channels_last: Optional[bool] = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.config = config
        self.downstream_task = downstream.task if downstream else None
        self.downstream_weight = downstream.config.weight if downstream else 0.0
        lambdas = (config.lambda_att, config.lambda_sim, config.lambda_out)
        # An epoch; less in a run of few epochs, or a weighting that compares past epochs would have none to compare.
        window = max(1, min(config.crops // config.batch, config.steps // 20))
        self.weighting = WEIGHTINGS[config.weighting](lambdas, window)
        self.amp_dtype = amp_dtype  # of the student's forward; the losses stay in float32
        self.channels_last = channels_last  # None: where it is faster
        self.guarded = config.warmup > 0  # from negatives; without a warm-up, all is as in the paper

    def forward(
        self,
        infrared: Tensor,
        visible: Tensor,
        teachers: Sequence[TeacherMaps],
        progress: Tensor,
        targets: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        config = self.config
        fused, feature = self._run_student(infrared, visible)
        compare_edges = guarded_gradient_loss if self.guarded else gradient_loss
        parts = {
            "intensity": intensity_loss(fused, infrared, visible),
            "gradient": compare_edges(fused, infrared, visible),
        }
        task = loss = parts["intensity"] + self.beta_grad(progress) * parts["gradient"]
        parts["task"] = task
        if teachers:
            terms = self._distil(fused, feature, infrared, visible, teachers)
            parts.update(zip(TERMS, terms))
            loss = total_loss(task, self.weighting(terms, task.detach(), progress), config.alpha_kd)
        if config.correlation:
            parts["correlation"] = correlation_loss(fused, infrared, visible)
            loss = loss + config.correlation * parts["correlation"]
        if config.fidelity:
            parts["fidelity"] = fidelity_loss(fused, infrared, visible)
            loss = loss + config.fidelity * parts["fidelity"]
        if self.downstream_task is not None:
            parts["downstream"] = self.downstream_task(fused, targets)
            loss = loss + self.downstream_weight * parts["downstream"]
        return {"loss": loss, **parts}

    def student_parameters(self) -> List[nn.Parameter]:
        """Return the parameters of the student and of the weighting: all but the downstream task's."""
        task = {id(parameter) for parameter in self.task_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in task]

    def task_parameters(self) -> List[nn.Parameter]:
        """Return the parameters of the downstream task."""
        return [] if self.downstream_task is None else list(self.downstream_task.parameters())

    def beta_grad(self, progress: Tensor) -> Union[Tensor, float]:
        """Return the weight of the gradient loss, eq. 20, which rises from 0 over the warm-up."""
        warmup, full = self.config.warmup, self.config.beta_grad
        return full * (progress / warmup).clamp(max=1) if warmup else full

    def _run_student(self, infrared: Tensor, visible: Tensor) -> Sequence[Tensor]:
        device, full = infrared.device.type, self.amp_dtype == torch.float32
        faster = full == (device == "cpu")  # measured on a CPU in float32, on a GPU in both
        channels_last = faster if self.channels_last is None else self.channels_last
        with nullcontext() if full else torch.autocast(device, self.amp_dtype):
            if channels_last:
                fused, feature = forward_channels_last(self.student, infrared, visible)
            else:
                fused, feature = self.student(infrared, visible, return_feature=True)
        return fused.float(), feature.float()

    def _distil(
        self, fused: Tensor, feature: Tensor, infrared: Tensor, visible: Tensor, teachers: Sequence[TeacherMaps]
    ) -> Tensor:
        """Return the attention, similarity and response losses, (3,), summed over the teachers by their shares."""
        shares = TEACHER_WEIGHTINGS[self.config.teacher_weighting](
            torch.stack([teacher.fused for teacher in teachers]), infrared, visible
        )
        attention, samples = attention_map(feature), similarity_samples(feature)
        terms = []
        for teacher, share in zip(teachers, shares):
            intensity, gradient = response_terms(teacher.fused, fused, share, self.guarded)
            terms.append(
                torch.stack(
                    [
                        attention_map_loss(teacher.attention, attention, share),
                        similarity_samples_loss(teacher.samples.float(), samples, share),
                        intensity + self.config.lambda_grad * gradient,
                    ]
                )
            )
        return torch.stack(terms).sum(dim=0)
