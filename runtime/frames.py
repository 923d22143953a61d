"""Conversion of camera frames to luminance planes in [0, 1] and back.

Colour is BT.601 (full range, as in OpenCV and JPEG): the network fuses Y, and Cr and Cb of the visible are kept.
Adding the change of Y to each of B, G and R keeps them without rounding them, so that an unchanged Y reproduces the
visible bit for bit. An engine that takes frames computes the same (``irvis.export.frames_layers``).
"""

from typing import NamedTuple, Optional

import cv2
import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.errors import FrameError
from irvis.runtime.sizes import MINIMUM, format_size


def check_pair(infrared: np.ndarray, visible: np.ndarray) -> None:
    """Raise FrameError unless this is a pair that can be fused.

    Args:
        infrared: uint8 or uint16 (H, W).
        visible: uint8, BGR (H, W, 3) or grey (H, W), of the same H and W, 16 or more each.
    """
    check_kinds(infrared, visible)
    if infrared.shape != visible.shape[:2]:
        raise FrameError(
            f"infrared and visible differ in size: {format_size(infrared.shape)} and {format_size(visible.shape)}; "
            "register them first (irvis calibrate)"
        )
    if min(infrared.shape) < MINIMUM:
        raise FrameError(f"frames must be at least {MINIMUM}x{MINIMUM}. Got {format_size(infrared.shape)}")


def check_kinds(infrared: np.ndarray, visible: np.ndarray) -> None:
    """Raise FrameError unless the types and ranks are those of ``check_pair``; the sizes may differ."""
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


class Luminance(NamedTuple):
    """The visible frame split up: the plane that is fused, and the frame that the result recolours."""

    y: np.ndarray  # uint8 (H, W), contiguous
    colour: Optional[np.ndarray]  # the frame itself, uint8 BGR (H, W, 3); None if it was grey


def to_grey(frame: np.ndarray, buffers: Optional[Buffers] = None) -> np.ndarray:
    """uint8 or uint16 BGR (H, W, 3) -> its BT.601 luminance (H, W), same type, contiguous.

    Y = floor((1868 B + 9617 G + 4899 R + 8192) / 16384), OpenCV's own fixed-point formula. A grey frame stored in
    colour is reproduced bit for bit. With ``buffers``, the result lies in them until they are used again.
    """
    buffers = buffers or Buffers()
    # Not COLOR_BGR2GRAY: its weights have one more bit, and a few colours in a thousand come out one level off.
    colours = cv2.cvtColor(frame, cv2.COLOR_BGR2YCrCb, buffers("colours", frame.shape, frame.dtype))
    return cv2.extractChannel(colours, 0, buffers("grey", frame.shape[:2], frame.dtype))


def split_luminance(visible: np.ndarray, buffers: Optional[Buffers] = None) -> Luminance:
    """uint8 BGR (H, W, 3) or grey (H, W) -> its luminance, as from ``to_grey``, and its colour."""
    return Luminance(visible, None) if visible.ndim == 2 else Luminance(to_grey(visible, buffers), visible)


def to_unit(plane: np.ndarray, out: np.ndarray) -> None:
    """uint8 (H, W) -> ``out``, float32 (H, W) in [0, 1]: exactly plane / 255."""
    np.divide(plane, np.float32(255), out=out, dtype=np.float32)


def to_levels(plane: np.ndarray, out: Optional[np.ndarray] = None, buffers: Optional[Buffers] = None) -> np.ndarray:
    """float32 (H, W), nominally in [0, 1] -> uint8 (H, W): 255 times it, rounded half to even and saturated."""
    positive = np.maximum(plane, 0, out=buffers("positive", plane.shape, plane.dtype) if buffers else None)
    return cv2.convertScaleAbs(positive, out, alpha=255.0)


def recolour(
    y_fused: np.ndarray, luminance: Luminance, out: Optional[np.ndarray] = None, buffers: Optional[Buffers] = None
) -> np.ndarray:
    """Change the luminance of the visible frame: clip(visible + (y_fused - y), 0, 255) for each of B, G and R.

    Args:
        y_fused: uint8 (H, W).
        luminance: of the visible frame; if that was grey, the result is ``y_fused``.
        out: where to write, uint8 of the visible frame's shape; None allocates.
        buffers: for intermediate results; None allocates them.

    Returns:
        uint8 BGR (H, W, 3), or grey (H, W).
    """
    y, colour = luminance
    if colour is None:
        if out is None:
            return y_fused.copy()
        np.copyto(out, y_fused)
        return out
    buffers = buffers or Buffers()
    step, steps = buffers("step", y.shape), buffers("steps", colour.shape)
    # First increase, then decrease: one of the two is 0 at every pixel, so that two saturating steps are exact, in a
    # third of the time of 16-bit arithmetic.
    out = cv2.add(colour, cv2.cvtColor(cv2.subtract(y_fused, y, step), cv2.COLOR_GRAY2BGR, steps), out)
    return cv2.subtract(out, cv2.cvtColor(cv2.subtract(y, y_fused, step), cv2.COLOR_GRAY2BGR, steps), out)


def join_luminance(
    fused: np.ndarray,
    luminance: Optional[Luminance],
    out: Optional[np.ndarray] = None,
    buffers: Optional[Buffers] = None,
) -> np.ndarray:
    """Turn a fused plane into a frame.

    Args:
        fused: float32 (H, W), nominally in [0, 1]; values outside saturate.
        luminance: of the visible frame; None, or that of a grey frame, returns a grey frame.
        out: where to write, uint8 (H, W, 3) or grey (H, W) like the visible frame; None allocates.
        buffers: for intermediate results; None allocates them.

    Returns:
        uint8 BGR (H, W, 3), or grey (H, W).
    """
    if luminance is None or luminance.colour is None:
        return to_levels(fused, out, buffers)
    levels = buffers("levels", fused.shape) if buffers else None
    return recolour(to_levels(fused, levels, buffers), luminance, out, buffers)


def check_out(out: np.ndarray, visible: np.ndarray) -> None:
    """Raise FrameError unless ``out`` is a writable, contiguous uint8 array like ``visible``, apart from it or it."""
    shape = visible.shape
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != shape:
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise FrameError(f"out must be uint8 {shape}. Got {found}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise FrameError("out must be contiguous and writable; pass np.empty(...) rather than a slice")
    # Row by row the result would overwrite what is still to be read; pixel by pixel, in place, it does not.
    if np.may_share_memory(out, visible) and (_address(out), out.strides) != (_address(visible), visible.strides):
        raise FrameError("out overlaps the visible frame, but is not the same array; pass that frame or other memory")


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
