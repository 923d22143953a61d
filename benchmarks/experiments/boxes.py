"""The boxes that a picture magnifies: the infrared's hottest target, the visible's richest texture, or given ones."""

import argparse
import re
from typing import NamedTuple, Sequence

import cv2
import numpy as np

from irvis.runtime.errors import IrvisError
from irvis.runtime.sizes import format_size

SIDE = 1 / 6  # of a box, relative to the frame's shorter side
TARGETS = (1 / 24, 1 / 12)  # sides of the targets searched for, in the same unit

MARGIN = 1.2  # side of a box, relative to the target in it


class Box(NamedTuple):
    """A rectangle of a frame, in pixels from its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the part of an image, (H, W) or (H, W, C), that is in the box, as a view."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]

    def shared(self, other: "Box") -> int:
        """Count the pixels that are in both boxes."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0, width) * max(0, height)

    def scaled(self, factor: int) -> "Box":
        """Return the box in a frame enlarged by ``factor``."""
        return Box(*(factor * value for value in self))

    def check_inside(self, size: Sequence[int], what: str) -> None:
        """Raise IrvisError unless the whole box lies in a frame of ``size`` (H, W)."""
        if self.x + self.width > size[1] or self.y + self.height > size[0]:
            box = ",".join(map(str, self))
            raise IrvisError(f"{what} does not lie within the {format_size(size)} of the frame. Got {box}")


def parse_box(text: str) -> Box:
    """``"40,60,80,80"`` -> x, y, width, height, for an argument's ``type=``. Raises argparse.ArgumentTypeError."""
    if not re.fullmatch(r"\d{1,5}(,\d{1,5}){3}", text) or not all(map(int, text.split(",")[2:])):
        raise argparse.ArgumentTypeError(f"a box is X,Y,WIDTH,HEIGHT in pixels, such as 40,60,80,80. Got {text!r}")
    return Box(*map(int, text.split(",")))


def salient_box(infrared: np.ndarray) -> Box:
    """Return a box around the target in uint8 (H, W) that is hottest relative to its surroundings.

    The target is the square, of a side in TARGETS, whose mean is highest above that of the ring around it, three times
    as wide. The box is centred on the region that is connected with that place and hotter than halfway between the two
    means, and grows with the region up to twice its side.
    """
    plane, size = infrared.astype(np.float32), infrared.shape
    contrast, halfway = np.full(size, -np.inf, np.float32), plane
    for share in TARGETS:
        side = 2 * round(min(size) * share / 2) + 1
        inner, all_of_it = cv2.blur(plane, (side, side)), cv2.blur(plane, (3 * side, 3 * side))
        ring = (9 * all_of_it - inner) / 8
        halfway = np.where(inner - ring > contrast, (inner + ring) / 2, halfway)
        contrast = np.maximum(contrast, inner - ring)
    row, column = map(int, np.unravel_index(contrast.argmax(), size))
    side = _side(size)
    around = _centred(column, row, 3 * side, size)
    near = around.cut(plane)
    hot = near >= min(halfway[row, column], near.max())  # the latter for a flat frame
    _, parts = cv2.connectedComponents(hot.astype(np.uint8))
    part = parts[row - around.y, column - around.x]
    y, x = np.nonzero(parts == part if part else parts > 0)  # the place itself may be between two hot things
    extent = round(MARGIN * max(np.ptp(x), np.ptp(y)))
    middle = around.x + (x.min() + x.max()) / 2, around.y + (y.min() + y.max()) / 2
    return _centred(*middle, int(np.clip(extent, side, 2 * side)), size)


def texture_box(luminance: np.ndarray, taken: Sequence[Box]) -> Box:
    """Return the box of uint8 (H, W) with the greatest sum of |gx| + |gy| (Sobel) that overlaps none of ``taken``."""
    gradient = sum(np.abs(cv2.Sobel(luminance, cv2.CV_32F, *order)) for order in ((1, 0), (0, 1)))
    side = _side(luminance.shape)
    sums = cv2.integral(gradient)
    sums = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    for box in taken:
        sums[max(0, box.y - side + 1) : box.y + box.height, max(0, box.x - side + 1) : box.x + box.width] = -1
    y, x = np.unravel_index(sums.argmax(), sums.shape)
    return Box(int(x), int(y), side, side)


def _side(size: Sequence[int]) -> int:
    return max(2, round(min(size) * SIDE))


def _centred(column: float, row: float, side: int, size: Sequence[int]) -> Box:
    """Return the square around a pixel, moved to lie within a frame of ``size`` (H, W)."""
    x, y = (int(np.clip(round(at - side / 2), 0, end - side)) for at, end in ((column, size[1]), (row, size[0])))
    return Box(x, y, side, side)
