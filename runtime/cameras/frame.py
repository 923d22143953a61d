"""One frame of a source, and the memory that it lies in."""

from collections import deque
from typing import Deque

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
    """Frames to read into, in turn: as many as a loop holds at once, and more where they are needed after all.

    More are needed while one of two cameras is silent, and the other's frames wait for it.
    """

    USUAL = 10  # in a loop's five works, paired, waiting for a partner, and being read

    def __init__(self) -> None:
        # append and popleft are atomic: released in any thread, taken in one.
        self.free: Deque[Frame] = deque()
        for _ in range(self.USUAL):
            Frame(self).release()

    def take(self) -> Frame:
        """Give a frame that nobody holds."""
        return self.free.popleft().hold() if self.free else Frame(self)
