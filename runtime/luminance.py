"""A pair of files as the two planes that are fused, for training and measuring: 8 bits, one size."""

from typing import List, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.frames import split_luminance
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.pairs import Pair
from irvis.runtime.sizes import MINIMUM, format_size


def read_luminance(pair: Pair) -> Tuple[np.ndarray, np.ndarray]:
    """Return the infrared and the visible's BT.601 luminance, uint8 (H, W) each, of one size, 16x16 or more.

    Raises FileError if a file cannot be read or holds 16 bits, FrameError if the sizes differ or are too small.
    """
    infrared, visible = read_infrared(pair.infrared), read_visible(pair.visible)
    if infrared.dtype != np.uint8:
        raise FileError(
            f"{pair.name} is not a pair of 8-bit images: expected 8-bit infrared. "
            f"Got {infrared.dtype} in {pair.infrared}; save it as 8 bits, from its 0.5 to its 99.5 percentile"
        )
    size, other = infrared.shape, visible.shape[:2]
    if size != other:
        raise FrameError(
            f"{pair.name} is not a pair of 8-bit images of one size. Got {format_size(size)} and {format_size(other)} "
            f"in {pair.infrared} and {pair.visible}; register them first"
        )
    if min(size) < MINIMUM:
        raise FrameError(
            f"{pair.name} is not a pair of 8-bit images of {MINIMUM}x{MINIMUM} or more. "
            f"Got {format_size(size)} in {pair.infrared}; leave it out"
        )
    return infrared, split_luminance(visible).y


def read_sizes(pairs: Sequence[Pair]) -> List[Tuple[int, int]]:
    """Return each pair's size (H, W), by reading it all: a bad pair is told before long work on them, not amid it.

    Raises what ``read_luminance`` does.
    """
    bar = tqdm(pairs, desc="reading pairs", unit="pair", disable=None, leave=False)
    shapes = (read_luminance(pair)[0].shape for pair in bar)
    return [(height, width) for height, width in shapes]
