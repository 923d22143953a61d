"""Registered frames of one size, as an engine sees them, to calibrate an engine on and to measure it on."""

from pathlib import Path
from typing import List, Optional, Tuple

import cv2
import numpy as np

from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.frames import check_pair, split_luminance, to_unit
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.luminance import read_sizes
from irvis.runtime.pairs import Pair, pairs_of
from irvis.runtime.spread import spread_by_parts

Frames = Tuple[np.ndarray, np.ndarray]  # infrared uint8 (H, W), visible uint8 BGR (H, W, 3)


def find_pairs(folder: Path, at_most: Optional[int]) -> List[Pair]:
    """Return up to ``at_most`` pairs of a data set, evenly spread over it, or all.

    Raises FileError if it has none, and for a bad one what ``read_luminance`` does.
    """
    pairs = pairs_of(folder)
    chosen = pairs if at_most is None else spread_by_parts(pairs, at_most)
    read_sizes(chosen)
    return chosen


def read_frames(pair: Pair, size: Optional[Tuple[int, int]] = None) -> Frames:
    """Return a pair as frames of ``size`` (H, W), resized by area; a grey visible becomes three equal channels.

    Raises FileError if a file cannot be read or the infrared holds 16 bits, or if the two do not make a pair.
    """
    infrared, visible = read_infrared(pair.infrared), read_visible(pair.visible)
    if infrared.dtype != np.uint8:
        raise FileError(f"infrared must hold 8 bits a pixel here. Got {infrared.dtype} in {pair.infrared}")
    try:
        check_pair(infrared, visible)
    except FrameError as error:
        raise FileError(f"{pair.infrared} and {pair.visible} cannot be fused: {error}") from error
    if visible.ndim == 2:
        visible = cv2.cvtColor(visible, cv2.COLOR_GRAY2BGR)
    return resized((infrared, visible), size)


def resized(frames: Frames, size: Optional[Tuple[int, int]]) -> Frames:
    """Return frames of ``size`` (H, W), by area; None leaves them as they are."""
    if size is None or frames[0].shape == size:
        return frames
    infrared, visible = (cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in frames)
    return infrared, visible


def to_planes(frames: Frames) -> np.ndarray:
    """Return frames as the infrared and the luminance of the visible, float32 (2, H, W) in [0, 1]."""
    infrared, visible = frames
    planes = np.empty((2, *infrared.shape), np.float32)
    to_unit(infrared, planes[0])
    to_unit(split_luminance(visible).y, planes[1])
    return planes
