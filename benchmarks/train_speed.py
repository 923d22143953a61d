"""Training steps per second of several ways to run the step, timed in turn in one run.

``python -m irvis.benchmarks.train_speed MSRS/train --teacher SHIP=SHIP.pth``: with the teachers' outputs computed once,
and with the teachers run in every step; on a GPU also as a CUDA graph, in bfloat16, with channels last, compiled, and
with several runs at once. They take turns, so that other load on the machine affects all alike.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from irvis.runtime.cli import guarded
from irvis.runtime.errors import IrvisError, one_line
from irvis.runtime.files import check_outputs, write_json
from irvis.runtime.pairs import files_of, pairs_of
from irvis.runtime.sizes import parse_count
from irvis.student.crop_pack import read_pack
from irvis.student.datasets import draw_crops, to_unit
from irvis.student.distributed import Processes, processes
from irvis.student.recipes import TrainConfig
from irvis.student.step_graph import WARM_UP
from irvis.student.teacher_cache import TeacherMaps, teacher_maps
from irvis.student.teachers.load import Teacher, open_teacher, teacher_file
from irvis.student.trainer import Trainer

COMPARED = WARM_UP + 3  # first steps on a GPU, whose losses are compared with those of the first way
CROPS = 16


class Way(NamedTuple):
    """How a step is run."""

    graph: bool = False
    amp: bool = False
    channels_last: Optional[bool] = None
    compiled: bool = False
    tuned: bool = False  # cuDNN times its kernels and takes the fastest
    together: int = 1  # runs at once
    naive: bool = False  # the teachers run in every step


WAYS = {"cached": Way(), "naive": Way(naive=True)}
GPU_WAYS = {
    "bf16": Way(amp=True, channels_last=False),
    "graph": Way(graph=True),
    "graph, channels last": Way(graph=True, channels_last=True),
    "graph, bf16": Way(graph=True, amp=True, channels_last=False),
    "graph, bf16, tuned": Way(graph=True, amp=True, channels_last=False, tuned=True),
    "graph, bf16, channels last": Way(graph=True, amp=True, channels_last=True),
    "graph, bf16, channels last, tuned": Way(graph=True, amp=True, channels_last=True, tuned=True),
    **{
        f"graph, bf16, {count} together": Way(graph=True, amp=True, channels_last=False, together=count)
        for count in (2, 4, 8)
    },
    "graph, compiled": Way(graph=True, compiled=True),
    "graph, bf16, compiled": Way(graph=True, amp=True, channels_last=False, compiled=True),
    "graph, bf16, compiled, channels last": Way(graph=True, amp=True, compiled=True, channels_last=True),
}


class Contest:
    """The ways that run here, each with its own trainers, and their results."""

    def __init__(self, config: TrainConfig, crops: Tensor, teachers: Sequence[Teacher], among: Processes) -> None:
        self.config, self.crops, self.teachers, self.among = config, crops, teachers, among
        self.told: Dict[str, Dict[str, Any]] = {}
        self._maps = {teacher.name: self._maps_of(teacher, slice(None)) for teacher in teachers}
        self._ways: Dict[str, Way] = {}
        self._trainers: Dict[str, List[Trainer]] = {}
        self._first = COMPARED if among.device.type == "cuda" else 1
        self._losses: List[float] = []  # of the first way

    def enter(self, name: str, way: Way) -> None:
        """Make the trainers of a way and warm them up, or record why that failed."""
        told = self.told[name] = {"seconds": []}
        began = time.monotonic()
        try:
            torch.backends.cudnn.benchmark = way.tuned
            trainers = [self._made(way) for _ in range(way.together)]
            for trainer in trainers:
                trainer.launch(self._first)
            rows = [trainer.read() for trainer in trainers]
        except Exception as error:  # whatever a compiler raises: the other ways continue
            told["failed"] = f"{type(error).__name__}: {one_line(error)}"
            return
        losses = [row["loss"] for row in rows[0]]
        self._losses = self._losses or losses
        told["difference"] = max(abs(loss / wanted - 1) for loss, wanted in zip(losses, self._losses))
        told["replays"] = all(trainer.replays for trainer in trainers)
        told["start_s"] = time.monotonic() - began
        self._ways[name], self._trainers[name] = way, trainers

    def time(self, rounds: int, steps: int) -> None:
        """Time a step of each way, in seconds: ``rounds`` times, each the mean of ``steps`` steps, the ways in turn."""
        for _ in range(rounds):
            for name, way in list(self._ways.items()):
                torch.backends.cudnn.benchmark = way.tuned
                try:
                    self._synchronise()
                    start = time.perf_counter()
                    for _ in range(steps):
                        self._step(way, self._trainers[name])
                    self._synchronise()
                    self.told[name]["seconds"].append((time.perf_counter() - start) / steps / way.together)
                except (IrvisError, RuntimeError) as error:
                    self.told[name]["failed"] = one_line(error)
                    del self._ways[name]

    def _step(self, way: Way, trainers: Sequence[Trainer]) -> None:
        for trainer in trainers:
            if way.naive:
                for teacher in self.teachers:
                    self._maps_of(teacher, trainer.schedule.crops[trainer.step])
            trainer.launch()

    def _made(self, way: Way) -> Trainer:
        return Trainer(
            self.config,
            self.crops,
            self._maps,
            among=self.among,
            amp=way.amp,
            compiled=way.compiled,
            graph=way.graph,
            channels_last=way.channels_last,
        )

    def _maps_of(self, teacher: Teacher, rows: Any) -> TeacherMaps:
        return teacher_maps(teacher, *to_unit(self.crops[rows].to(self.among.device)))

    def _synchronise(self) -> None:
        if self.among.device.type == "cuda":
            torch.cuda.synchronize()


def measure(arguments: argparse.Namespace) -> int:
    """Run the contest, print its table and write it; return the exit code."""
    is_pack = arguments.crops.is_file()
    pairs = [] if is_pack else pairs_of(arguments.crops)
    check_outputs([arguments.json], [arguments.crops, *files_of(pairs), *map(teacher_file, arguments.teacher)])
    with processes(arguments.device) as among:
        known = {**WAYS, **GPU_WAYS} if among.device.type == "cuda" else WAYS
        if unknown := set(arguments.ways or ()) - set(known):
            raise IrvisError(f"no way here is called {', '.join(sorted(unknown))}. There are: {'; '.join(known)}")
        steps = COMPARED + arguments.rounds * arguments.steps
        config = TrainConfig(crops=CROPS, augment=True, steps=steps)
        if is_pack:
            crops = next(iter(read_pack(arguments.crops).crops.values()))[:CROPS]
        else:
            crops = draw_crops(pairs, CROPS, config.crop_side, config.seed).crops
        contest = Contest(config, crops, [open_teacher(spec, among.device) for spec in arguments.teacher], among)
        for name in arguments.ways or known:
            contest.enter(name, known[name])
        contest.time(arguments.rounds, arguments.steps)
        device = torch.cuda.get_device_name() if among.device.type == "cuda" else "cpu"
    names = ", ".join(teacher.name for teacher in contest.teachers)
    print(
        f"batch {config.batch} of {config.crop_side}x{config.crop_side}, {names}, {device}, torch {torch.__version__}"
    )
    print("\n".join(rows_of(contest.told)))
    if arguments.json is not None:
        told = {"device": device, "torch": torch.__version__, "teachers": names, "ways": contest.told}
        write_json(arguments.json, told)
    return 0


def rows_of(told: Dict[str, Dict[str, Any]]) -> List[str]:
    """Return a line per way: steps per second, their ratio to the first way's, and the distance from its losses."""
    width = max(map(len, told))
    first: List[float] = next((one["seconds"] for one in told.values() if one["seconds"]), [])
    lines = []
    for name, one in told.items():
        if "failed" in one:
            lines.append(f"{name:<{width}}  failed: {one['failed']}")
            continue
        ratios = [base / seconds for base, seconds in zip(first, one["seconds"])]
        lines.append(
            f"{name:<{width}}{1 / median(one['seconds']):9.2f} steps/s {median(ratios):8.2f} times "
            f"({min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} rounds)  losses within {one['difference']:.1e}"
        )
    return lines


def main() -> int:
    """Parse the command line and run; return the exit code."""
    parser = argparse.ArgumentParser(prog="train_speed.py", description=__doc__.split("\n")[0])
    parser.add_argument("crops", type=Path, help="data set to take crops from, or a pack of gpu_train.py")
    parser.add_argument("--teacher", action="append", required=True, metavar="SPEC", help="as for irvis train; repeat")
    parser.add_argument("--ways", nargs="+", metavar="NAME", help="(default: all that run on the device)")
    parser.add_argument("--rounds", type=parse_count, default=7, help="(default: %(default)s)")
    parser.add_argument("--steps", type=parse_count, default=3, help="per round and way (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    return guarded("train_speed.py", lambda: measure(arguments))


if __name__ == "__main__":
    sys.exit(main())
