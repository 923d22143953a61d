"""One frame of a source, and the pool that recycles its memory."""

from typing import Callable, Iterator, List, Optional, Protocol, TypeVar

import numpy as np

from irvis.runtime.buffers import Buffers


class Frame:
    """A frame and when it was captured. Its image stays valid until ``release``; then the source reuses it."""

    def __init__(self, pool: "FramePool") -> None:
        self.image: np.ndarray = np.empty((0, 0), np.uint8)  # for dtype and shape see ``cameras.reader.Reading``
        self.stamp_s = 0.0  # when it was captured, by time.monotonic()
        self.grabbed_s = 0.0  # when it reached this process, by time.monotonic()
        self.buffers = Buffers()
        self._pool = pool
        self._held = True

    def release(self) -> None:
        """Return the memory to the pool. May be called twice; a frame that is never released costs new memory."""
        if self._held:
            self._held = False
            self._pool.free.append(self)

    def hold(self) -> "Frame":
        """Mark the frame as in use and return it."""
        self._held = True
        return self


class FramePool:
    """A pool of frames to read into. As many as a loop holds at once are made first, so that memory stays level after.

    More are made while one of two cameras is silent and the other's frames wait for it.
    """

    USUAL = 11  # frames in a loop's six Works, paired, waiting for a partner, and being read

    def __init__(self) -> None:
        # append and pop are atomic: any thread may release, one takes. The last one released is still in cache.
        self.free: List[Frame] = []
        self._made = 0

    def take(self) -> Frame:
        """Return a frame that is not in use."""
        if self.free and self._made >= self.USUAL:
            return self.free.pop().hold()
        self._made += 1
        return Frame(self)


class _Releasable(Protocol):
    def release(self) -> None:
        """Release the memory for reuse."""


Held = TypeVar("Held", bound=_Releasable)


def each(read: Callable[[], Optional[Held]]) -> Iterator[Held]:
    """Yield what ``read`` returns, until it returns None; each item is released when the next is requested."""
    for held in iter(read, None):
        yield held
        held.release()
