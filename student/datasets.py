"""Random crops of registered pairs, on which the student is trained, and the order in which they are visited."""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from irvis.runtime.errors import FrameError
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair
from irvis.runtime.sizes import format_size


class Draw(NamedTuple):
    """Crops, and where they were cut out."""

    crops: Tensor  # uint8 (count, 2, side, side): plane 0 is infrared, plane 1 the visible luminance
    places: np.ndarray  # int64 (count, 3): the pair's index, and the crop's top and left in its frame
    sizes: List[Tuple[int, int]]  # (H, W) of each pair


def draw_crops(pairs: Sequence[Pair], count: int, side: int, seed: int) -> Draw:
    """Draw ``count`` crops of ``side`` x ``side`` at random from one or more pairs.

    Each pair is equally likely, whatever its size. The draw depends only on the seed and on the order and the sizes of
    the pairs. Raises FileError or FrameError, naming the file.
    """
    frames = []
    for pair in tqdm(pairs, desc="reading pairs", unit="pair", disable=None):
        frame = np.stack(read_luminance(pair))
        if min(frame.shape[1:]) < side:
            size = format_size(frame.shape[1:])
            raise FrameError(
                f"crops of {side}x{side} do not fit in the {size} of {pair.infrared}; leave that pair out, or give "
                f"--crop-side {min(frame.shape[1:])}"
            )
        frames.append(frame)
    generator = np.random.default_rng(seed)
    crops, places = np.empty((count, 2, side, side), np.uint8), np.empty((count, 3), np.int64)
    for crop, place, index in zip(crops, places, generator.integers(len(frames), size=count)):
        height, width = frames[index].shape[1:]
        top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
        crop[:] = frames[index][:, top : top + side, left : left + side]
        place[:] = index, top, left
    return Draw(torch.from_numpy(crops), places, [(frame.shape[1], frame.shape[2]) for frame in frames])


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch visits ``count`` crops; it depends only on seed and epoch, so runs resume."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))


def to_unit(crops: Tensor) -> List[Tensor]:
    """uint8 (B, 2, H, W) -> infrared and visible, float32 (B, 1, H, W) in [0, 1]."""
    return [plane.contiguous() for plane in (crops.float() / 255).split(1, dim=1)]


def unit_planes(infrared: np.ndarray, luminance: np.ndarray) -> List[Tensor]:
    """Two planes, uint8 (H, W) each -> infrared and visible, float32 (1, 1, H, W) in [0, 1]."""
    return to_unit(torch.from_numpy(np.stack([infrared, luminance]))[None])
