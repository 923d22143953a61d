"""One frame of a source, and the memory that it lies in."""

from typing import List

import numpy as np

from irvis.runtime.buffers import Buffers


class Frame:
    """A frame and when it was captured. Its image is the holder's until ``release``, and then the source's again."""

    def __init__(self, pool: "FramePool") -> None:
        self.image: np.ndarray = np.empty((0, 0), np.uint8)  # as its role has it, see ``cameras.reader.Reading``
        self.stamp_s = 0.0  # of its capture, by time.monotonic()
        self.grabbed_s = 0.0  # when it reached this process, by time.monotonic()
        self.buffers = Buffers()
        self._pool = pool
        self._held = True

    def release(self) -> None:
        """Give the memory back. May be called twice; a frame that is merely forgotten costs its memory anew."""
        if self._held:
            self._held = False
            self._pool.free.append(self)

    def hold(self) -> "Frame":
        """Take it out of the pool."""
        self._held = True
        return self


class FramePool:
    """Frames to read into: as many as are held at once, made when needed and never given back."""

    def __init__(self) -> None:
        self.free: List[Frame] = []  # append and pop are atomic: released in any thread, taken in one

    def take(self) -> Frame:
        """Give a frame that nobody holds."""
        return self.free.pop().hold() if self.free else Frame(self)
