"""Readers, which return the frames of one source one after the other."""

from typing import NamedTuple, Optional, Protocol

import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras.uri import SourceUri
from irvis.runtime.errors import FrameError
from irvis.runtime.frames import to_grey

INFRARED, VISIBLE = ROLES = ("infrared", "visible")


class Reading(NamedTuple):
    """A frame as read from its source."""

    image: np.ndarray  # infrared: uint8 or uint16 (H, W); visible: uint8 BGR (H, W, 3) or grey (H, W)
    stamp_s: float  # of its capture: by time.monotonic() if the reader is live, else since the recording's start


class Reader(Protocol):
    """Reads one source, in one thread at a time."""

    live: bool  # a camera, which sets the pace and is reopened when lost; else a recording, which ends

    @property
    def fps(self) -> Optional[float]:
        """Nominal frames per second, if known."""

    def read(self, buffers: Buffers) -> Optional[Reading]:
        """Wait for the next frame, in memory of ``buffers``; None if the camera is lost or the recording has ended.

        Raises IrvisError for a frame that cannot be used, EndedEarly at the end of a truncated recording.
        """

    def skip(self, until_s: float) -> int:
        """Pass over the frames of a recording with an earlier stamp, without decoding them; return their number.

        Raises IrvisError where the recording is damaged.
        """

    def close(self) -> None:
        """Release the device or close the file. May be called twice."""


def open_reader(uri: SourceUri, role: str) -> Reader:
    """Open the source that a URI names, as "infrared" or "visible". Raises FileError if it cannot be opened."""
    if uri.scheme == "test":
        from irvis.runtime.cameras.scene import SceneReader

        return SceneReader(uri, role)
    if uri.scheme in ("file", "folder"):
        from irvis.runtime.cameras.recording import FolderReader, VideoFileReader

        return VideoFileReader(uri, role) if uri.scheme == "file" else FolderReader(uri, role)
    if uri.scheme == "bag":
        from irvis.runtime.cameras.bag import BagReader

        return BagReader(uri, role)
    from irvis.runtime.cameras.capture import CameraReader

    return CameraReader(uri, role)


def as_role(frame: np.ndarray, role: str, buffers: Buffers) -> np.ndarray:
    """Convert a frame to what its role requires: infrared without colour, visible in 8 bits. Raises FrameError."""
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[:, :, 0]
    colour = frame.ndim == 3
    if frame.dtype not in (np.uint8, np.uint16) or (colour and frame.shape[2] != 3):
        raise FrameError(f"{role} frames must be grey or BGR, of 8 or 16 bits. Got {frame.dtype} {frame.shape}")
    if role == INFRARED:
        return to_grey(frame, buffers) if colour else frame
    if frame.dtype != np.uint8:
        raise FrameError(f"visible frames must be of 8 bits. Got {frame.dtype} {frame.shape}; set the camera's format")
    return frame
