"""Training steps a second with the teachers' outputs from the cache, against running the teachers in every step.

``python -m irvis.benchmarks.train_speed MSRS/train --teacher SHIP=SHIP.pth``. The two take turns in one run, so that
what else the machine does falls on both.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List, Sequence

import torch
from torch import Tensor

from irvis.runtime.cli import guarded
from irvis.runtime.pairs import pairs_of
from irvis.student.datasets import draw_crops, to_unit
from irvis.student.distributed import processes
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import cached_maps, teacher_maps
from irvis.student.teachers.load import Teacher, open_teacher
from irvis.student.trainer import Trainer


def step_seconds(
    crops: Tensor, teachers: Sequence[Teacher], trainer: Trainer, rounds: int, steps: int
) -> Dict[str, List[float]]:
    """Time one step, in seconds, ``rounds`` times each way, each the mean of ``steps`` steps, the ways in turn."""

    def cached() -> None:
        trainer.train_step()

    def naive() -> None:
        infrared, visible = to_unit(crops[trainer.batch_of(trainer.step)].to(trainer.among.device))
        for teacher in teachers:
            teacher_maps(teacher, infrared, visible)
        trainer.train_step()

    ways: Dict[str, Callable[[], None]] = {"cached": cached, "naive": naive}
    seconds: Dict[str, List[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # warm up
    for _ in range(rounds):
        for name, way in ways.items():
            _synchronise(trainer)
            start = time.perf_counter()
            for _ in range(steps):
                way()
            _synchronise(trainer)
            seconds[name].append((time.perf_counter() - start) / steps)
    return seconds


def _synchronise(trainer: Trainer) -> None:
    if trainer.among.device.type == "cuda":
        torch.cuda.synchronize()


def measure(arguments: argparse.Namespace) -> int:
    """Run the comparison and print its table; give the exit code."""
    with processes(arguments.device) as among, tempfile.TemporaryDirectory() as cache:
        config = replace(TrainConfig(), crops=4 * TrainConfig.batch, augment=True)
        crops = draw_crops(pairs_of(arguments.folder), config.crops, config.crop_side, config.seed)
        teachers = [open_teacher(spec, among.device) for spec in arguments.teacher]
        maps = {teacher.name: cached_maps(teacher, crops, Path(cache)) for teacher in teachers}
        trainer = Trainer(config, crops, maps, among=among)
        seconds = step_seconds(crops, teachers, trainer, arguments.rounds, arguments.steps)
    ratios = [naive / cached for naive, cached in zip(seconds["naive"], seconds["cached"])]
    print(f"batch {config.batch} of {config.crop_side}x{config.crop_side}, {', '.join(maps)}, {among.device.type}")
    for name, values in seconds.items():
        print(f"{name:<7}{1 / median(values):8.2f} steps/s")
    print(f"ratio  {median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f} over {arguments.rounds} rounds)")
    return 0


def main() -> int:
    """Parse the command line and run; give the exit code."""
    parser = argparse.ArgumentParser(prog="train_speed.py", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="data set to take crops from")
    parser.add_argument("--teacher", action="append", required=True, metavar="SPEC", help="as for irvis train; repeat")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="a round and way (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()
    return guarded("train_speed.py", lambda: measure(arguments))


if __name__ == "__main__":
    sys.exit(main())
