"""The targets of a downstream task in each crop, from the labels of the pairs: boxes, or a class for each pixel."""

from functools import lru_cache
from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.images import read_image
from irvis.runtime.pairs import Pair
from irvis.runtime.sizes import format_size
from irvis.student.augment import SYMMETRIES, augment
from irvis.student.datasets import Draw
from irvis.student.labels import label_of, read_boxes

TARGETS = {"boxes": ".txt", "masks": ".png"}  # kind of target -> suffix of a label
IGNORE = 255  # in a mask: no class to learn here
MOST_CLASSES = IGNORE

# A box that a crop cuts is dropped unless this much of it is left: less does not show what the object is.
LEAST_SHARE, LEAST_SIDE = 0.25, 2.0  # of its area; pixels


def targets_of(kind: str, classes: int, pairs: Sequence[Pair], drawn: Draw) -> Tensor:
    """Return each crop's targets: float32 (N, K, 5) of boxes or uint8 (N, H, W) of masks, see DownstreamTask.

    K is the largest number of boxes in a crop. Raises FileError, naming the file, and its line if it is text;
    IrvisError if no crop has anything labelled.
    """
    side = drawn.crops.shape[-1]
    labels = [_read(kind, label_of(pair, TARGETS[kind]), size, classes) for pair, size in zip(pairs, drawn.sizes)]
    cuts = [_cut(labels[index], top, left, side) for index, top, left in drawn.places]
    if kind == "masks":
        targets = np.stack(cuts)
        nothing = bool((targets == IGNORE).all())
    else:
        targets = np.zeros((len(cuts), max(map(len, cuts)), 5), np.float32)
        targets[..., 0] = -1
        for target, boxes in zip(targets, cuts):
            target[: len(boxes)] = boxes
        nothing = not any(map(len, cuts))
    if nothing:
        raise IrvisError(f"none of the {len(cuts)} crops has anything labelled; give more --crops or larger ones")
    return torch.from_numpy(targets)


def read_mask(path: Path, size: Tuple[int, int], classes: int) -> np.ndarray:
    """Read a frame's classes, uint8 (H, W), from an 8-bit grey PNG. Raises FileError."""
    mask = read_image(path, "labels")
    if mask.dtype != np.uint8 or mask.ndim != 2 or mask.shape != size:
        raise FileError(f"{path} must be grey, 8 bits, {format_size(size)} as its pair. Got {mask.dtype} {mask.shape}")
    beyond = mask[(mask >= classes) & (mask != IGNORE)]
    if beyond.size:
        raise FileError(f"{path} has pixels of class {beyond[0]}, but the classes of the task are 0 to {classes - 1}")
    return mask


def _read(kind: str, path: Path, size: Tuple[int, int], classes: int) -> np.ndarray:
    if kind == "masks":
        return read_mask(path, size, classes)
    return read_boxes(path, classes) * np.array([1, size[1], size[0], size[1], size[0]], np.float32)


def _cut(label: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    if label.dtype == np.uint8:
        return label[top : top + side, left : left + side]
    return cut_boxes(label, top, left, side)


def cut_boxes(boxes: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """Return a frame's boxes, (M, 5), clipped to a square crop of it, without those of which too little is left."""
    corner, sides = np.array([left, top], np.float32), boxes[:, 3:]
    low = np.clip(boxes[:, 1:3] - sides / 2 - corner, 0, side)
    high = np.clip(boxes[:, 1:3] + sides / 2 - corner, 0, side)
    kept = high - low
    enough = (kept.min(axis=1) >= LEAST_SIDE) & (kept.prod(axis=1) >= LEAST_SHARE * sides.prod(axis=1))
    return np.hstack([boxes[:, :1], (low + high) / 2, kept])[enough]


def turn_targets(targets: Tensor, codes: Tensor, side: int) -> Tensor:
    """Turn targets as ``augment`` turns their crops of ``side`` x ``side`` by ``codes``, int64 (B,)."""
    if targets.dtype == torch.uint8:
        return augment([targets.unsqueeze(1)], codes)[0].squeeze(1)
    turns = _turns(targets.device).index_select(0, codes)
    centres = (targets[..., 1:3] - side / 2) @ turns.transpose(1, 2) + side / 2
    return torch.cat([targets[..., :1], centres, targets[..., 3:] @ turns.abs().transpose(1, 2)], dim=-1)


@lru_cache(maxsize=None)
def _turns(device: torch.device) -> Tensor:
    """Return the matrix by which each code of ``augment.dihedral`` turns (x, y) about the centre: float32 (8, 2, 2)."""
    quarter, mirror = np.array([[0, 1], [-1, 0]]), np.diag([-1, 1])
    turns = [np.linalg.matrix_power(quarter, code % 4) for code in range(SYMMETRIES)]
    turns = [mirror @ turn if code >= 4 else turn for code, turn in enumerate(turns)]
    return torch.tensor(np.stack(turns), dtype=torch.float32).to(device)
