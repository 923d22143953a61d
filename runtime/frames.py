"""Frames as cameras give them, to luminance planes in [0, 1] and back.

Colour is BT.601 (full range, as OpenCV and JPEG have it): the network fuses Y, and Cr and Cb of the visible are kept.
"""

from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np

from irvis.runtime.errors import FrameError
from irvis.runtime.sizes import MINIMUM, format_size


def check_pair(infrared: np.ndarray, visible: np.ndarray) -> None:
    """Raise FrameError unless this is a pair that can be fused.

    Args:
        infrared: uint8 or uint16 (H, W).
        visible: uint8, BGR (H, W, 3) or grey (H, W), of the same H and W, 16 or more each.
    """
    for name, frame, dtypes, shapes in (
        ("infrared", infrared, (np.uint8, np.uint16), "(H, W)"),
        ("visible", visible, (np.uint8,), "BGR (H, W, 3) or grey (H, W)"),
    ):
        if not isinstance(frame, np.ndarray):
            raise FrameError(f"{name} must be a numpy array. Got {type(frame).__name__}")
        if frame.dtype not in dtypes:
            wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
            hint = "; scale it to 0..255 and convert it" if frame.dtype.kind == "f" else ""
            raise FrameError(f"{name} must be {wanted}. Got {frame.dtype} {frame.shape}{hint}")
        if not (frame.ndim == 2 or (name == "visible" and frame.ndim == 3 and frame.shape[2] == 3)):
            raise FrameError(f"{name} must be {shapes}. Got {frame.shape}")
    if infrared.shape != visible.shape[:2]:
        raise FrameError(
            f"infrared and visible differ in size: {format_size(infrared.shape)} and {format_size(visible.shape)}; "
            "register them first"
        )
    if min(infrared.shape) < MINIMUM:
        raise FrameError(f"frames must be at least {MINIMUM}x{MINIMUM}. Got {format_size(infrared.shape)}")


class Luminance(NamedTuple):
    """The visible frame taken apart: what is fused, and what is kept."""

    y: np.ndarray  # uint8 (H, W)
    ycrcb: Optional[np.ndarray]  # uint8 (H, W, 3), None where the frame was grey


def split_luminance(visible: np.ndarray) -> Luminance:
    """uint8 BGR (H, W, 3) or grey (H, W) -> its BT.601 luminance and its colour."""
    if visible.ndim == 2:
        return Luminance(visible, None)
    ycrcb = cv2.cvtColor(visible, cv2.COLOR_BGR2YCrCb)
    return Luminance(ycrcb[:, :, 0], ycrcb)


def to_unit(plane: np.ndarray, out: np.ndarray) -> None:
    """uint8 (H, W) -> ``out``, float32 (H, W) in [0, 1]: exactly plane / 255."""
    np.divide(plane, np.float32(255), out=out, dtype=np.float32)


def join_luminance(fused: np.ndarray, colour: Optional[np.ndarray], out: Optional[np.ndarray] = None) -> np.ndarray:
    """Turn a fused plane into a frame.

    Args:
        fused: float32 (H, W), nominally in [0, 1]; what lies outside saturates.
        colour: ``Luminance.ycrcb`` of the visible frame, overwritten; None gives a grey frame.
        out: where to write, uint8 (H, W, 3), or (H, W) where colour is None; None allocates.

    Returns:
        uint8 BGR (H, W, 3), or grey (H, W).
    """
    if colour is None:
        return cv2.convertScaleAbs(np.maximum(fused, 0), out, alpha=255.0)
    colour[:, :, 0] = cv2.convertScaleAbs(np.maximum(fused, 0), alpha=255.0)
    return cv2.cvtColor(colour, cv2.COLOR_YCrCb2BGR, out)


def check_out(out: np.ndarray, shape: Tuple[int, ...]) -> None:
    """Raise FrameError unless ``out`` is a writable, contiguous uint8 array of ``shape``."""
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != shape:
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise FrameError(f"out must be uint8 {shape}. Got {found}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise FrameError("out must be contiguous and writable; give np.empty(...) rather than a slice")
