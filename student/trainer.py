"""The state of one training run: student, optimiser, schedule and step, and how they are saved and restored.

A run is a function of its options, crops and teachers: the batch of a step and its augmentation depend only on the seed
and the step, and a saved state includes that of PyTorch's random numbers, which a downstream task may draw. So a
resumed run ends with the same weights. A step finds all its inputs on the device.
"""

import math
import re
from copy import deepcopy
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from irvis.runtime.errors import FileError, IrvisError, ModelError, one_line
from irvis.runtime.files import sha256
from irvis.student.augment import augment
from irvis.student.checkpoint import load_student, save_state
from irvis.student.datasets import to_unit
from irvis.student.distributed import Processes
from irvis.student.downstream import Downstream
from irvis.student.downstream_targets import turn_targets
from irvis.student.network import Student, StudentConfig
from irvis.student.objective import Objective
from irvis.student.recipes import TrainConfig
from irvis.student.schedule import Schedule, schedule_of
from irvis.student.step_graph import StepGraph
from irvis.student.teacher_cache import TeacherMaps, digest_of
from irvis.student.weighting import TERMS

ALONE = Processes(rank=0, world=1, device=torch.device("cpu"))


class Trainer:
    """One training run.

    Args:
        config: the options of the run.
        crops: uint8 (N, 2, H, W), on the CPU.
        teachers: each teacher's maps on the crops, by the teacher's name.
        init: checkpoint to start from; None draws the weights at random.
        among: the processes that share the run, and this one's device.
        amp: run the student's forward in bfloat16.
        compiled: compile the forward and the losses with torch.compile.
        network: shape of the student; from that of ``init`` only its strides may differ. None: that of ``init``, else
            the paper's.
        graph: replay one CUDA graph of the step, if this is the only process and on a GPU.
        channels_last: use that memory layout for the student; None: on a CPU in float32 and on a GPU in bfloat16.
        downstream: task that is trained along, with a target for each crop.

    Raises IrvisError if these do not fit together, or differ between the processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        crops: Tensor,
        teachers: Optional[Dict[str, TeacherMaps]] = None,
        *,
        init: Optional[Path] = None,
        among: Processes = ALONE,
        amp: bool = False,
        compiled: bool = False,
        network: Optional[StudentConfig] = None,
        graph: bool = True,
        channels_last: Optional[bool] = None,
        downstream: Optional[Downstream] = None,
    ) -> None:
        teachers = teachers or {}
        if config.batch % among.world:
            raise IrvisError(f"--batch {config.batch} is not divisible by {among.world} processes")
        if not teachers and (config.weighting != "fixed" or config.teacher_weighting != "mean"):
            raise IrvisError("--weighting and --teacher-weighting need a teacher; give --teacher")
        self.config = config
        self.among = among
        torch.manual_seed(config.seed)
        with among.together():
            self.student = initial_student(init, network).train().to(among.device)
            # What must be equal in all processes, and in a saved state for it to be resumed.
            self.identity: Dict[str, Any] = {
                "options": asdict(config),
                "network": asdict(self.student.config),
                "crops": digest_of(crops),
                "teachers": sorted(teachers),
                "init": sha256(init) if init else "",
                "downstream": _identity(downstream) if downstream else None,
            }
        self._check_alike()
        amp_dtype = torch.bfloat16 if amp else torch.float32
        self.objective = Objective(self.student, config, downstream, amp_dtype, channels_last).to(among.device)
        self._compiled = compiled
        if compiled:
            self.objective.compile()
        self._run = self.objective if among.world == 1 else DistributedDataParallel(self.objective)
        graph = graph and among.device.type == "cuda" and among.world == 1
        self.optimizer = _optimizer_of(self.objective, downstream, among.device, graph)
        self.downstream = downstream
        self._targets = downstream.targets.to(among.device) if downstream else None
        self.average = deepcopy(self.student) if config.ema else None
        self.step = 0  # how many steps were taken
        self.crops = crops.to(among.device)
        self.teachers = [TeacherMaps(*(tensor.to(among.device) for tensor in maps)) for maps in teachers.values()]
        self.schedule = schedule_of(config, len(crops))
        mine = slice(among.rank, None, among.world)
        # This process's part of ``schedule``, and a count equal to ``step``, both on the device.
        self._device_schedule = Schedule(
            self.schedule.crops[:, mine].to(among.device),
            self.schedule.codes[:, mine].to(among.device),
            self.schedule.rates.to(among.device, torch.float32),
        )
        self._device_step = torch.zeros(1, dtype=torch.long, device=among.device)
        self._names: List[str] = []
        self._log = torch.zeros(0, device=among.device)  # (steps, names): the losses
        self._read = 0  # steps whose losses were returned
        self._graph = StepGraph(self._take_step, among.device) if graph else None

    def _check_alike(self) -> None:
        """Raise IrvisError in every process if one has another identity than the first."""
        wanted = self.among.first(lambda: self.identity)
        with self.among.together():
            for name, found in self.identity.items():
                if found != wanted[name]:
                    raise IrvisError(
                        f"process {self.among.rank} has other {_difference(name, found, wanted[name])} than the first; "
                        "give every machine the same files and the same command"
                    )

    @property
    def best(self) -> Student:
        """The student to save, with the averaged weights if they are kept. Call ``read`` first."""
        return self.student if self.average is None else self.average

    @property
    def replays(self) -> bool:
        """Whether the next step replays a CUDA graph."""
        return self._graph is not None and self._graph.recorded

    def launch(self, count: int = 1) -> None:
        """Take steps. On a GPU they are only queued until ``read`` waits.

        Raises ValueError beyond the last step, ModelError if the step cannot be compiled for want of a compiler.
        """
        if self.step + count > self.config.steps:
            raise ValueError(f"{self.config.steps - self.step} steps are left. Got {count}")
        for _ in range(count):
            try:
                if self._graph is None:
                    self._take_step()
                else:
                    self._graph()
            except RuntimeError as error:
                if self._compiled and re.search(r"\bC(\+\+)? compiler", str(error)):
                    raise ModelError(
                        "--compile needs a C++ compiler, and PyTorch finds none that works; install g++ or leave "
                        "--compile out"
                    ) from error
                raise
            self.step += 1

    def read(self) -> List[Dict[str, float]]:
        """Return a row for each step since the last call: its number from 1, the learning rate and the losses.

        The losses are means over the processes. Raises IrvisError if the loss or a weight is NaN or infinite, so call
        this before weights are saved or used.
        """
        self._wait()
        rows = []
        for step, values in enumerate(self._log[self._read : self.step].tolist(), self._read):
            losses = dict(zip(self._names, values))
            if not math.isfinite(losses["loss"]):
                crops = ", ".join(map(str, self.schedule.crops[step].tolist()))
                task = "downstream" in losses and not math.isfinite(losses["downstream"])
                which = f"downstream loss is {losses['downstream']}" if task else f"loss is {losses['loss']}"
                raise IrvisError(f"the {which} at step {step + 1}, on crops {crops}; lower --learning-rate")
            rows.append({"step": step + 1, "learning_rate": self.schedule.rates[step].item(), **losses})
        self._check_weights()
        self._read = self.step
        return rows

    def _check_weights(self) -> None:
        """Raise IrvisError if the last step made a weight NaN or infinite, which shows in no loss before the next."""
        weights = [each.detach() for each in self.objective.parameters() if each.requires_grad]
        if not torch.stack([each.isfinite().all() for each in weights]).all():
            task = ", or correct the gradient of the downstream task" if self.downstream else ""
            raise IrvisError(f"step {self.step} made weights NaN or infinite; lower --learning-rate{task}")

    def _take_step(self) -> None:
        """Take the step of number ``_device_step``. It reads nothing on the host, so a CUDA graph can record it."""
        config, step = self.config, self._device_step
        batch, codes, learning_rate = (table.index_select(0, step)[0] for table in self._device_schedule)
        infrared, visible = to_unit(self.crops[batch])
        maps = [TeacherMaps(*(tensor[batch] for tensor in each)) for each in self.teachers]
        targets = [] if self._targets is None else [self._targets[batch]]
        if config.augment:
            infrared, visible = augment([infrared, visible], codes)
            maps = [TeacherMaps(*augment(each, codes)) for each in maps]
            targets = [turn_targets(each, codes, self.crops.shape[-1]) for each in targets]
        parts = self._run(infrared, visible, maps, step[0] / config.steps, *targets)
        self.optimizer.zero_grad()
        parts["loss"].backward()
        for parameter in self.objective.parameters():
            if parameter.grad is not None:  # the fused optimiser refuses other strides, even along axes of length 1
                parameter.grad = parameter.grad.flatten().view_as(parameter)
        for group in self.optimizer.param_groups:
            group["lr"].copy_(group["share"] * learning_rate)
        self.optimizer.step()
        losses = self.among.mean(torch.stack([part.detach() for part in parts.values()]))
        if maps:
            means = dict(zip(parts, losses))
            self.objective.weighting.update(torch.stack([means[name] for name in TERMS]), means["task"])
        if self.average is not None:
            ours, theirs = list(self.average.parameters()), list(self.student.parameters())
            # The first step's weight is 1; that step is never part of a graph.
            get_ema_multi_avg_fn(config.ema if self.step else 0.0)(ours, theirs, self.step)
        if not self._names:
            self._names = list(parts)
            self._log = self._log.new_zeros(config.steps, len(parts))
        self._log.index_copy_(0, step, losses[None])
        self._device_step += 1

    def _wait(self) -> None:
        if self._graph is not None:
            self._graph.wait()

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs, whole or not at all. Raises FileError."""
        self._wait()
        state = {
            **self.identity,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "average": self.average.state_dict() if self.average is not None else {},
            "step": self.step,
            "random": self._random_states(),
        }
        save_state(path, state)

    def _random_states(self) -> Dict[str, Tensor]:
        """Return the states of the random number generators, which a downstream task may use."""
        device = self.among.device
        cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
        return {"cpu": torch.get_rng_state(), **cuda}

    def restore(self, path: Path) -> None:
        """Restore a saved run, before any step; only the first process reads the file.

        Raises FileError if it is not one, or has other options or data.
        """
        try:
            content = BytesIO(self.among.first(path.read_bytes))
            state = torch.load(content, map_location=self.among.device, weights_only=True)
            state["network"] = asdict(StudentConfig(**state["network"]))  # adds fields that are newer than the state
            for name, wanted in self.identity.items():
                if state.get(name) != wanted:
                    what = _difference(name, state.get(name), wanted)
                    raise FileError(f"{path} was made with other {what}; give the same, or remove it to start anew")
            self.objective.load_state_dict(state["objective"])
            # The optimiser's options are those of this device, whichever device the state is from.
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.step = self._read = state["step"]
            self._device_step.fill_(self.step)
            # A state from another device lacks this device's generator, and old states have none.
            for kind, random in state.get("random", {}).items():
                if kind == "cpu":
                    torch.set_rng_state(random.cpu())
                elif kind == self.among.device.type:
                    torch.cuda.set_rng_state(random.cpu(), self.among.device)
        except IrvisError:
            raise
        except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
            raise FileError(f"not the state of a training run: {path}; remove it to start anew") from error


def initial_student(init: Optional[Path], network: Optional[StudentConfig]) -> Student:
    """Return a student of the shape ``network``, with the parameters of the checkpoint ``init``. Raises IrvisError."""
    if init is None:
        return Student(network or StudentConfig())
    known = load_student(init)
    if network is None or network == known.config:
        return known
    student = Student(network)
    try:
        student.load_state_dict(known.state_dict())
    except RuntimeError as error:
        raise IrvisError(f"{init} has other parameters than the student to train: {one_line(error, 150)}") from error
    return student


def _optimizer_of(
    objective: Objective, downstream: Optional[Downstream], device: torch.device, graph: bool
) -> torch.optim.Adam:
    """Return Adam, whose groups have a ``share``: their learning rate as a multiple of the schedule's."""
    groups: List[Dict[str, Any]] = [{"params": objective.student_parameters(), "share": 1.0}]
    if downstream:
        groups.append({"params": objective.task_parameters(), "share": downstream.config.rate})
    for group in groups:
        group["lr"] = torch.zeros((), device=device)  # a tensor, so that it can differ between replays of a CUDA graph
    return torch.optim.Adam(groups, capturable=graph, fused=device.type == "cuda")


def _identity(downstream: Downstream) -> Dict[str, Any]:
    return {**asdict(downstream.config), "targets": digest_of(downstream.targets)}


def _difference(name: str, found: Any, wanted: Any) -> str:
    if name != "options":
        return {
            "network": "network",
            "crops": "pairs",
            "teachers": "teachers",
            "init": "initial weights",
            "downstream": "downstream task or labels",
        }[name]
    names: Sequence[str] = [key for key in wanted if found.get(key) != wanted[key]]
    options = " ".join(f"--{key.replace('_', '-')} {found.get(key)}" for key in names)
    return f"options: {options}"
