"""How well a task can be learnt from a student's images: ``python -m irvis.student.downstream_probe boxes=6 A B FILE``.

A fresh task is trained on the fused crops of one data set, with the student frozen, and its loss measured on crops of
another. This compares students by what their images show, not by the head that one of them was trained with.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Sequence, Tuple

import torch
from torch import Tensor

from irvis.runtime.cli import guarded
from irvis.runtime.errors import IrvisError
from irvis.runtime.pairs import pairs_of
from irvis.student.augment import augment, codes_of
from irvis.student.checkpoint import load_student
from irvis.student.datasets import draw_crops, epoch_order, to_unit
from irvis.student.downstream import open_task
from irvis.student.downstream_targets import targets_of, turn_targets
from irvis.student.network import Student

BATCH = 16
RATE = 3e-3  # of Adam

Crops = Tuple[Tensor, Tensor]  # of a data set: uint8 (N, 2, side, side), and their targets


def crops_of(folder: Path, spec: str, count: int, side: int) -> Crops:
    """Draw labelled crops for the task. Raises IrvisError."""
    task, pairs = open_task(spec, 0), pairs_of(folder)
    drawn = draw_crops(pairs, count, side, seed=0)
    return drawn.crops, targets_of(task.labels, task.classes, pairs, drawn)


@torch.no_grad()
def fuse_crops(student: Student, crops: Tensor) -> Tensor:
    """Fuse crops: uint8 (N, 2, H, W) -> float32 (N, 1, H, W) in [0, 1]."""
    return torch.cat([student(*to_unit(some)) for some in crops.split(BATCH)])


def probe(spec: str, fused: Tensor, targets: Tensor, steps: int, seed: int) -> torch.nn.Module:
    """Train the task that ``spec`` names on fused crops, turned and flipped; equal seeds see equal batches."""
    task, count = open_task(spec, seed), len(fused) // BATCH
    if count == 0:
        raise IrvisError(f"a batch has {BATCH} crops. Got {len(fused)} in all; give more --crops")
    optimizer = torch.optim.Adam(task.parameters(), RATE)
    for step, codes in enumerate(codes_of(seed, steps, BATCH)):
        at = step % count * BATCH
        rows = epoch_order(len(fused), seed, step // count)[at : at + BATCH]
        loss = task(augment([fused[rows]], codes)[0], turn_targets(targets[rows], codes, fused.shape[-1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task


@torch.no_grad()
def loss_of(task: torch.nn.Module, fused: Tensor, targets: Tensor) -> float:
    """Return the task's mean loss over the crops."""
    return fmean(task(*pair).item() for pair in zip(fused.split(1), targets.split(1)))


def scores_of(spec: str, student: Student, train: Crops, test: Crops, steps: int, seeds: int) -> Sequence[float]:
    """Return the loss on the test crops of the task trained from each seed."""
    seen, held_out = (fuse_crops(student, crops) for crops, _ in (train, test))
    tasks = (probe(spec, seen, train[1], steps, seed) for seed in range(seeds))
    return [loss_of(task, held_out, test[1]) for task in tasks]


def run(arguments: argparse.Namespace) -> int:
    """Print each student's loss."""
    train, test = (
        crops_of(folder, arguments.task, arguments.crops, arguments.crop_side)
        for folder in (arguments.train, arguments.test)
    )
    for path in arguments.students:
        scores = scores_of(arguments.task, load_student(path), train, test, arguments.steps, arguments.seeds)
        deviation = stdev(scores) if len(scores) > 1 else 0.0
        each = " ".join(f"{score:.4f}" for score in scores)
        print(f"{path.name}  {fmean(scores):.4f} +- {deviation:.4f}  ({each})", flush=True)
    return 0


def main() -> int:
    """Parse the command line and run; return the exit code."""
    parser = argparse.ArgumentParser(prog="downstream_probe", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", metavar="SPEC", help="the task, as given to irvis train --downstream")
    parser.add_argument("train", type=Path, help="labelled data set to train on")
    parser.add_argument("test", type=Path, help="labelled data set to measure the loss on")
    parser.add_argument("students", type=Path, nargs="+", help="checkpoints to compare")
    parser.add_argument("--crops", type=int, default=400, help="crops from each data set (default: %(default)s)")
    parser.add_argument("--crop-side", type=int, default=96, help="side of a crop in pixels (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="training steps (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="tasks to train (default: %(default)s)")
    arguments = parser.parse_args()
    return guarded(parser.prog, lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
