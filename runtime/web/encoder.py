"""Encodes frames as JPEGs in a thread of its own, so that whoever offers them waits for a copy at most."""

import json
import threading
import time
from typing import Any, Callable, List, NamedTuple, Sequence

import cv2
import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.errors import FrameError
from irvis.runtime.frames import check_pair, to_levels
from irvis.runtime.infrared import InfraredScaler
from irvis.runtime.panels import side_by_side


class Picture(NamedTuple):
    """An infrared, a visible and a fused frame as sent to a browser."""

    number: int
    message: bytes  # header length (uint32, little-endian), header (JSON), then the three JPEGs


class Encoder:
    """Encodes frames that are offered while it is idle, and skips the others.

    Args:
        quality: of the JPEGs, 1 to 100.
        max_fps: the most pictures per second.
        deliver: called with each picture, in the encoder's thread.
    """

    def __init__(self, quality: int, max_fps: float, deliver: Callable[[Picture], object]) -> None:
        self.encoded = self.skipped = 0
        self._quality, self._period, self._deliver = quality, 1 / max_fps, deliver
        self._due = 0.0
        self._scaler = InfraredScaler()
        self._buffers = Buffers()  # for converting 16-bit infrared to 8
        self._frames: List[np.ndarray] = []  # infrared, visible, fused, as offered
        self._index: Any = None
        self._lock = threading.Condition()  # held while copying, never while encoding
        self._fresh = False  # the thread has not seen the frames yet
        self._busy = False  # the thread is reading the frames
        self._closed = False
        self._asked: List[Callable[[bytes], object]] = []
        self._thread = threading.Thread(target=self._run, name="irvis-jpeg", daemon=True)
        self._thread.start()

    def offer(self, infrared: np.ndarray, visible: np.ndarray, fused: np.ndarray, index: Any) -> None:
        """Copy frames, as those of ``LiveView.publish``, into reused buffers, or count them as skipped.

        Raises FrameError for frames that cannot be shown.
        """
        with self._lock:
            now = time.monotonic()
            if self._fresh or self._busy or now < self._due:
                self.skipped += 1
                return
            self._due = max(self._due + self._period, now)
            self._copy((infrared, visible, fused))
            self._index = index
            self._fresh = True
            self.encoded += 1
            self._lock.notify()

    def ask_png(self, answer: Callable[[bytes], object]) -> None:
        """Call ``answer`` in the encoder's thread with a PNG of the last picture's frames, side by side."""
        with self._lock:
            self._asked.append(answer)
            self._lock.notify()

    def close(self) -> None:
        """End the thread. May be called twice."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join()

    def _copy(self, frames: Sequence[np.ndarray]) -> None:
        if [(frame.dtype, frame.shape) for frame in frames] != [(held.dtype, held.shape) for held in self._frames]:
            infrared, visible, fused = frames
            check_pair(infrared, visible)
            if fused.dtype != np.uint8 or fused.shape[:2] != visible.shape[:2] or fused.shape[2:] not in ((), (3,)):
                raise FrameError(f"fused must be uint8 and as large as the visible. Got {fused.dtype} {fused.shape}")
            self._frames = [np.empty(frame.shape, frame.dtype) for frame in frames]
        for frame, held in zip(frames, self._frames):
            np.copyto(held, frame)

    def _run(self) -> None:
        shown: List[np.ndarray] = []
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._fresh or self._asked or self._closed)
                if self._closed:
                    return
                fresh, self._fresh, self._busy = self._fresh, False, True
                asked, self._asked = self._asked, []
            if fresh:
                shown = [self._to_levels(self._frames[0]), *self._frames[1:]]
                self._deliver(Picture(self.encoded, self._message(shown)))
            if asked:
                png = cv2.imencode(".png", side_by_side(shown))[1].tobytes()
                for answer in asked:
                    answer(png)
            with self._lock:
                self._busy = False

    def _message(self, frames: Sequence[np.ndarray]) -> bytes:
        options = (cv2.IMWRITE_JPEG_QUALITY, self._quality)
        jpegs = [cv2.imencode(".jpg", frame, options)[1] for frame in frames]
        header = json.dumps({"index": self._index, "number": self.encoded, "sizes": [len(jpeg) for jpeg in jpegs]})
        return b"".join([len(header).to_bytes(4, "little"), header.encode(), *(jpeg.tobytes() for jpeg in jpegs)])

    def _to_levels(self, infrared: np.ndarray) -> np.ndarray:
        if infrared.dtype == np.uint8:
            return infrared
        unit = self._scaler(infrared, self._buffers("unit", infrared.shape, np.float32))
        return to_levels(unit, self._buffers("levels", infrared.shape), self._buffers)
