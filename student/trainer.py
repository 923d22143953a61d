"""The state of one training run: student, optimiser, schedule, step, and how they go to disk and back.

A run is a function of its options, crops and teachers: the batch of a step and its augmentation depend on the seed and
the step alone, so that a saved state resumes to the same weights.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, cast

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import replacing, sha256
from irvis.student.augment import augment, codes_of
from irvis.student.checkpoint import load_student
from irvis.student.datasets import epoch_order, to_unit
from irvis.student.distributed import Processes
from irvis.student.network import Student
from irvis.student.objective import Objective
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import TeacherMaps, digest_of
from irvis.student.weighting import TERMS

ALONE = Processes(rank=0, world=1, device=torch.device("cpu"))


class Trainer:
    """One run on ``crops``, uint8 (N, 2, H, W), with each teacher's maps on them by the teacher's name.

    ``init`` is a checkpoint to start from. ``amp`` runs the student's forward in bfloat16, ``compiled`` has
    torch.compile make its kernels. Raises IrvisError.
    """

    def __init__(
        self,
        config: TrainConfig,
        crops: Tensor,
        teachers: Optional[Dict[str, TeacherMaps]] = None,
        init: Optional[Path] = None,
        among: Processes = ALONE,
        amp: bool = False,
        compiled: bool = False,
    ) -> None:
        teachers = teachers or {}
        if config.batch % among.world:
            raise IrvisError(f"--batch {config.batch} does not divide among {among.world} processes")
        if not teachers and (config.weighting != "fixed" or config.teacher_weighting != "mean"):
            raise IrvisError("--weighting and --teacher-weighting need a teacher; give --teacher")
        self.config = config
        self.among = among
        torch.manual_seed(config.seed)
        self.student = (load_student(init).train() if init else Student()).to(among.device)
        self.objective = Objective(self.student, config).to(among.device)
        if amp:
            self.objective.amp_dtype = torch.bfloat16
        if compiled:
            self.student.compile()
        self._run = self.objective if among.world == 1 else DistributedDataParallel(self.objective)
        self.optimizer = torch.optim.Adam(self.objective.parameters(), lr=config.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            config.learning_rate,
            config.steps,
            pct_start=config.rise,
            div_factor=config.learning_rate / config.learning_rate_start,
            final_div_factor=config.learning_rate_start / config.learning_rate_end,
            cycle_momentum=False,
        )
        self.average = None
        if config.ema:
            self.average = AveragedModel(self.student, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        self.step = 0
        self.crops = crops.to(among.device)
        self.teachers = [TeacherMaps(*(tensor.to(among.device) for tensor in maps)) for maps in teachers.values()]
        # What a saved state must agree in to be resumed.
        self.identity: Dict[str, Any] = {
            "options": asdict(config),
            "crops": digest_of(crops),
            "teachers": sorted(teachers),
            "init": sha256(init) if init else "",
        }

    @property
    def best(self) -> Student:
        """The student to save: its averaged weights where they are kept."""
        return self.student if self.average is None else cast(Student, self.average.module)

    def batch_of(self, step: int) -> List[int]:
        """Give the crops of a step, for all processes together."""
        count, batch = len(self.crops), self.config.batch
        epoch, index = divmod(step * batch, count // batch * batch)
        return epoch_order(count, self.config.seed, epoch)[index : index + batch].tolist()

    def train_step(self) -> Dict[str, Tensor]:
        """Take one step; give its number from 1, the learning rate and the losses, averaged over the processes."""
        config, among = self.config, self.among
        mine = slice(among.rank, None, among.world)
        rows = self.batch_of(self.step)[mine]
        tensors = [*to_unit(self.crops[rows]), *(tensor[rows] for maps in self.teachers for tensor in maps)]
        if config.augment:
            tensors = augment(tensors, codes_of(config.seed, self.step, config.batch)[mine])
        infrared, visible, *flat = tensors
        maps = [TeacherMaps(*flat[at : at + 3]) for at in range(0, len(flat), 3)]
        parts = self._run(infrared, visible, maps, self.step / config.steps)
        self.optimizer.zero_grad()
        parts["loss"].backward()
        learning_rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        means = among.mean(torch.stack([part.detach() for part in parts.values()]))
        parts = dict(zip(parts, means))
        if maps:
            self.objective.weighting.update(torch.stack([parts[name] for name in TERMS]), parts["task"])
        if self.average is not None:
            self.average.update_parameters(self.student)
        self.step += 1
        return {"step": torch.tensor(self.step), "learning_rate": torch.tensor(learning_rate), **parts}

    def read(self, row: Dict[str, Tensor]) -> Dict[str, float]:
        """Turn what ``train_step`` gave into numbers. Raises IrvisError where the loss is NaN or infinite."""
        values = {name: float(value) for name, value in row.items()}
        values["step"] = step = int(values["step"])
        if not math.isfinite(values["loss"]):
            crops = ", ".join(map(str, self.batch_of(step - 1)))
            raise IrvisError(f"the loss is {values['loss']} at step {step}, on crops {crops}; lower --learning-rate")
        return values

    def save(self, path: Path) -> None:
        """Write all that a resumed run needs, whole or not at all. Raises FileError."""
        state = {
            **self.identity,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "step": self.step,
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path) -> None:
        """Take up a saved run. Raises FileError where the file is none, or was made with other options or data."""
        try:
            state = torch.load(path, map_location=self.among.device, weights_only=True)
            for name, wanted in self.identity.items():
                if state[name] != wanted:
                    raise FileError(f"{path} was made with other {_difference(name, state[name], wanted)}")
            self.objective.load_state_dict(state["objective"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.step = state["step"]
        except IrvisError:
            raise
        except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
            raise FileError(f"not the state of a training run: {path}; remove it to start anew") from error


def _difference(name: str, found: Any, wanted: Any) -> str:
    if not isinstance(wanted, dict):
        what = {"crops": "pairs", "teachers": "teachers", "init": "initial weights"}[name]
        return f"{what}; give the same, or remove it to start anew"
    names: Sequence[str] = [key for key in wanted if found.get(key) != wanted[key]]
    options = " ".join(f"--{key.replace('_', '-')} {found.get(key)}" for key in names)
    return f"options: {options}; give the same, or remove it to start anew"
