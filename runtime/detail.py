"""The frames' own detail, restored to what a model of another size fused."""

from typing import NamedTuple, Tuple

import cv2
import numpy as np

from irvis.runtime.buffers import Buffers

RIDGE = 0.01  # variance of detail, in grey levels squared, below which it says nothing of its weight
LARGEST = 1.5  # weight of detail; noise would be seen


class Fitted(NamedTuple):
    """The two planes that are fused, (H, W), and resized to the model's size, (h, w).

    Each is uint8, or the infrared float32 in [0, 1] if it was scaled from 16 bits.
    """

    infrared: np.ndarray
    luminance: np.ndarray
    small_infrared: np.ndarray
    small_luminance: np.ndarray


def resize_plane(plane: np.ndarray, size: Tuple[int, ...], out: np.ndarray) -> np.ndarray:
    """Resize (H, W) to ``size``: averaging when shrinking, so that small hot targets do not vanish."""
    shrinks = size[0] < plane.shape[0] or size[1] < plane.shape[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(plane, (size[1], size[0]), out, interpolation=mode)


def restore_detail(fused: np.ndarray, planes: Fitted, buffers: Buffers) -> np.ndarray:
    """Enlarge the model's output F, and add the detail of both planes that resizing took from them.

    With up() for resizing to full size: up(F) + a (I - up(I_small)) + b (Y - up(Y_small)). The weights a and b are
    those with which F itself holds the detail of I_small and Y_small, see ``detail_weights``: a network of
    convolutions treats detail much the same one scale up.

    Args:
        fused: F, (h, w), uint8 or float32 in [0, 1].
        planes: I and Y, and as the model was given them.
        buffers: for the result and what leads to it.

    Returns:
        uint8 (H, W), in the buffers.
    """
    infrared = _levels(planes.small_infrared, "small infrared", buffers)
    luminance = _levels(planes.small_luminance, "small luminance", buffers)
    smooth = _levels(fused, "small fused", buffers)
    a, b = detail_weights(smooth, infrared, luminance, buffers)
    # up() is linear, so one plane is enlarged instead of three.
    smooth = cv2.scaleAdd(infrared, -a, smooth, smooth)
    smooth = cv2.scaleAdd(luminance, -b, smooth, smooth)
    size = planes.luminance.shape
    full = resize_plane(smooth, size, buffers("fused in full", size, np.float32))
    full = cv2.scaleAdd(_levels(planes.infrared, "full", buffers), a, full, full)
    y = _levels(planes.luminance, "full", buffers)
    return cv2.addWeighted(y, b, full, 1.0, 0.0, buffers("restored", size), dtype=cv2.CV_8U)  # rounds and saturates


def detail_weights(
    fused: np.ndarray, infrared: np.ndarray, luminance: np.ndarray, buffers: Buffers
) -> Tuple[float, float]:
    """Return the a and b for which a detail(infrared) + b detail(luminance) is nearest to detail(fused).

    All are float32 (h, w) in grey levels, and detail is what shrinking to half the size and enlarging again takes away.
    Least squares with a small ridge toward a = 0 and b = 1, which is what frames without detail get.
    """
    planes = {"fused": fused, "infrared": infrared, "luminance": luminance}
    f, i, y = (_detail(plane, f"detail of {name}", buffers).ravel() for name, plane in planes.items())
    ridge = RIDGE * f.size
    ii, yy, iy = float(i @ i) + ridge, float(y @ y) + ridge, float(i @ y)
    fi, fy = float(f @ i), float(f @ y) + ridge
    determinant = ii * yy - iy * iy
    weights = np.array(((fi * yy - fy * iy) / determinant, (fy * ii - fi * iy) / determinant))
    if not np.isfinite(weights).all():  # of a model that returns NaN
        return 0.0, 1.0
    a, b = weights.clip(0, LARGEST)
    return float(a), float(b)


def _detail(plane: np.ndarray, name: str, buffers: Buffers) -> np.ndarray:
    half = tuple(-(-side // 2) for side in plane.shape)
    small = resize_plane(plane, half, buffers("half", half, np.float32))
    smooth = resize_plane(small, plane.shape, buffers(name, plane.shape, np.float32))
    return cv2.subtract(plane, smooth, smooth)


def _levels(plane: np.ndarray, name: str, buffers: Buffers) -> np.ndarray:
    """Return uint8, or float32 in [0, 1], as float32 in grey levels, in the buffers."""
    levels = buffers(name, plane.shape, np.float32)
    if plane.dtype == np.uint8:
        np.copyto(levels, plane)
        return levels
    return np.multiply(plane, np.float32(255), out=levels)
