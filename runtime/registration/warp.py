"""The infrared frame in the geometry of the visible one: a map computed once, applied to each frame."""

from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np

from irvis.runtime.errors import FrameError, IrvisError
from irvis.runtime.registration.homography import CALIBRATE, Registration
from irvis.runtime.sizes import MINIMUM, format_size

TYPES = (np.uint8, np.uint16, np.float32)


class Area(NamedTuple):
    """A part of the visible frame, pixels."""

    top: int
    left: int
    height: int
    width: int


class Warp:
    """Warps infrared frames to the visible's geometry by bilinear interpolation; integer frames in steps of 1/32 pixel.

    Where the infrared sees nothing, its nearest pixel is repeated: a constant would bleed into the outermost pixels as
    a dark rim, and a 0 among the thousands of counts of a 16-bit camera would determine the range by which the whole
    frame is scaled. ``outside`` marks these pixels.

    Args:
        registration: of the two cameras.
        crop: return only the common area, the largest rectangle of the visible frame that the infrared fully covers.

    Raises IrvisError if the two frames have nothing in common, or with ``crop`` less than 16x16.

    Attributes:
        size: (H, W) of the output.
        area: the part of the visible frame that the output covers; all of it without ``crop``.
        outside: uint8 (H, W), 255 where the infrared sees nothing; None if it covers everything.
    """

    def __init__(self, registration: Registration, crop: bool = False) -> None:
        self.registration = registration
        x, y, covered = _sources(registration)
        if not covered.any():
            raise IrvisError(f"with this registration infrared and visible have nothing in common; {CALIBRATE}")
        self.area = largest_rectangle(covered) if crop else Area(0, 0, *registration.visible_size)
        self.size = (self.area.height, self.area.width)
        outside = np.where(self.crop_visible(covered), np.uint8(0), np.uint8(255))
        self.outside: Optional[np.ndarray] = outside if outside.any() else None
        x, y = self.crop_visible(x), self.crop_visible(y)
        self._fixed = cv2.convertMaps(x, y, cv2.CV_16SC2)
        self._exact = cv2.merge([x, y]), None  # for float32, which OpenCV warps in half the time with such a map

    def __call__(self, infrared: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Return an infrared frame as the visible camera would see it.

        Args:
            infrared: uint8, uint16 or float32, (H, W) of the registration's infrared size.
            out: array to write to, contiguous, of the frame's dtype and of ``size``; None allocates.

        Raises FrameError for a frame or an ``out`` of another type or size.
        """
        wanted = self.registration.infrared_size
        if not isinstance(infrared, np.ndarray) or infrared.dtype not in TYPES or infrared.ndim != 2:
            raise FrameError(f"infrared must be uint8, uint16 or float32 (H, W). Got {_described(infrared)}")
        if infrared.shape != wanted:
            raise FrameError(
                f"the registration is for infrared frames of {format_size(wanted)}. Got {format_size(infrared.shape)}; "
                "set the camera to that size, or register at this one with `irvis calibrate`"
            )
        if out is not None:
            self._check_out(out, infrared.dtype)
        maps = self._exact if infrared.dtype == np.float32 else self._fixed
        return cv2.remap(infrared, maps[0], maps[1], cv2.INTER_LINEAR, out, cv2.BORDER_REPLICATE)

    def crop_visible(self, visible: np.ndarray) -> np.ndarray:
        """Return the view of a visible frame, (H, W) or (H, W, 3), that lies under the warped infrared.

        Raises FrameError for a frame of another size.
        """
        wanted = self.registration.visible_size
        if visible.shape[:2] != wanted:
            raise FrameError(
                f"the registration is for visible frames of {format_size(wanted)}. Got {format_size(visible.shape)}; "
                "set the camera to that size, or register at this one with `irvis calibrate`"
            )
        top, left, height, width = self.area
        return visible[top : top + height, left : left + width]

    def _check_out(self, out: np.ndarray, dtype: np.dtype) -> None:
        # OpenCV would silently allocate another array and leave this one unchanged.
        fits = isinstance(out, np.ndarray) and out.dtype == dtype and out.shape == self.size
        if not (fits and out.flags.c_contiguous and out.flags.writeable):
            raise FrameError(f"out must be {dtype} {self.size}, contiguous and writable. Got {_described(out)}")


def largest_rectangle(covered: np.ndarray) -> Area:
    """Find the largest axis-parallel rectangle, 16x16 or more, in a convex mask, bool (H, W).

    A homography maps the infrared's rectangle to a convex shape, and a convex shape contains every rectangle whose four
    corners it contains: only the first and last rows matter, so that trying all pairs of rows is exact. Raises
    IrvisError if there is none.
    """
    height, width = covered.shape
    rows = covered.any(axis=1)
    first = np.where(rows, covered.argmax(axis=1), width)
    last = np.where(rows, width - 1 - covered[:, ::-1].argmax(axis=1), -1)
    best, largest = Area(0, 0, 0, 0), 0
    for top in np.flatnonzero(rows):
        left = np.maximum(first[top], first[top:])
        across = np.minimum(last[top], last[top:]) - left + 1
        down = np.arange(1, height - top + 1)
        pixels = np.where((across >= MINIMUM) & (down >= MINIMUM), across * down, 0)
        index = pixels.argmax()
        if pixels[index] > largest:
            best, largest = Area(int(top), int(left[index]), int(down[index]), int(across[index])), pixels[index]
    if not largest:
        raise IrvisError(
            f"the common area of infrared and visible is smaller than {MINIMUM}x{MINIMUM}; "
            f"check the registration, or {CALIBRATE}"
        )
    return best


def _sources(registration: Registration) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each visible pixel, the infrared x and y to sample, float32 (H, W), and whether the infrared sees it.

    x and y are clipped to the infrared frame, which repeats its outermost pixels and keeps the maps within 16 bits.
    """
    height, width = registration.visible_size
    inverse = np.linalg.inv(registration.homography)
    column, row = np.arange(width), np.arange(height)[:, None]
    x, y, depth = (a * column + (b * row + c) for a, b, c in inverse)
    covered = depth > 0  # the rest lies behind the horizon
    np.maximum(depth, 1e-12, out=depth)
    for source, side in ((x, registration.infrared_size[1]), (y, registration.infrared_size[0])):
        source /= depth
        # A pixel extends half a pixel beyond its centre; the rest allows for rounding.
        covered &= np.abs(source - (side - 1) / 2) <= side / 2 + 1e-6
        np.clip(source, 0, side - 1, out=source)
    return x.astype(np.float32), y.astype(np.float32), covered


def _described(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
