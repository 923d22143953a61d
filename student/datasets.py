"""Random crops of registered pairs, which the student is trained on, and the order in which they are seen."""

from typing import List, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from irvis.runtime.errors import FrameError
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair
from irvis.runtime.sizes import format_size


def draw_crops(pairs: Sequence[Pair], count: int, side: int, seed: int) -> Tensor:
    """Draw ``count`` crops of ``side`` x ``side`` at random from one pair or more: uint8 (count, 2, side, side).

    Plane 0 is infrared, plane 1 the visible luminance. A crop falls on each pair with the same chance, whatever its
    size. The draw depends on the seed and on the order and the sizes of the pairs alone.
    Raises FileError, FrameError, naming the file.
    """
    frames = []
    for pair in tqdm(pairs, desc="reading pairs", unit="pair", disable=None):
        frame = np.stack(read_luminance(pair))
        if min(frame.shape[1:]) < side:
            size = format_size(frame.shape[1:])
            raise FrameError(f"crops of {side}x{side} do not fit into the {size} of {pair.infrared}; leave it out")
        frames.append(frame)
    generator = np.random.default_rng(seed)
    crops = np.empty((count, 2, side, side), np.uint8)
    for crop, index in zip(crops, generator.integers(len(frames), size=count)):
        height, width = frames[index].shape[1:]
        top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
        crop[:] = frames[index][:, top : top + side, left : left + side]
    return torch.from_numpy(crops)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Give the order in which an epoch visits ``count`` crops: it depends on seed and epoch alone, so runs resume."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))


def to_unit(crops: Tensor) -> List[Tensor]:
    """uint8 (B, 2, H, W) -> infrared and visible, float32 (B, 1, H, W) in [0, 1]."""
    return [plane.contiguous() for plane in (crops.float() / 255).split(1, dim=1)]


def unit_planes(infrared: np.ndarray, luminance: np.ndarray) -> List[Tensor]:
    """Two planes, uint8 (H, W) each -> infrared and visible, float32 (1, 1, H, W) in [0, 1]."""
    return to_unit(torch.from_numpy(np.stack([infrared, luminance]))[None])
