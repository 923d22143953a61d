"""Registered pairs as luminance tensors, and the random crops that the student is trained on."""

from pathlib import Path
from typing import List, Tuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.images import read_infrared, read_visible, to_grey
from irvis.runtime.pairs import Pair, pairs_of


def read_planes(pair: Pair) -> Tuple[np.ndarray, np.ndarray]:
    """Give the infrared and the visible luminance of a pair, uint8 (H, W) each. Raises FileError, FrameError."""
    infrared, visible = read_infrared(pair.infrared), read_visible(pair.visible)
    if visible.ndim == 3:
        visible = to_grey(visible)
    if infrared.dtype != np.uint8:
        raise FileError(f"training takes 8-bit infrared. Got {infrared.dtype} in {pair.infrared}; convert it first")
    if infrared.shape != visible.shape:
        raise FrameError(
            f"infrared and visible of {pair.name} differ in size: {infrared.shape} and {visible.shape} (H, W)"
        )
    return infrared, visible


def draw_crops(folder: Path, count: int, side: int, seed: int) -> Tensor:
    """Draw ``count`` crops of ``side`` x ``side`` at random from a data set's folder: uint8 (count, 2, side, side).

    Plane 0 is infrared, plane 1 the visible luminance. The draw depends on the seed and the files' names alone.
    Raises FileError, FrameError.
    """
    planes = [np.stack(read_planes(pair)) for pair in tqdm(pairs_of(folder), desc="reading pairs", unit="pair")]
    small = min(min(plane.shape[1:]) for plane in planes)
    if small < side:
        raise FrameError(f"crops of {side} x {side} do not fit into frames with a side of {small} in {folder}")
    generator = np.random.default_rng(seed)
    crops = np.empty((count, 2, side, side), np.uint8)
    for crop, index in zip(crops, generator.integers(len(planes), size=count)):
        height, width = planes[index].shape[1:]
        top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
        crop[:] = planes[index][:, top : top + side, left : left + side]
    return torch.from_numpy(crops)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Give the order in which an epoch visits ``count`` crops: it depends on seed and epoch alone, so runs resume."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))


def to_unit(crops: Tensor) -> List[Tensor]:
    """uint8 (B, 2, H, W) -> infrared and visible, float32 (B, 1, H, W) in [0, 1]."""
    return [plane.contiguous() for plane in (crops.float() / 255).split(1, dim=1)]
