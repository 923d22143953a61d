"""One frame of a source, and the memory that it lies in."""

from typing import Callable, Iterator, List, Optional, Protocol, TypeVar

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
    """Frames to read into: at first as many as a loop holds at once, so that memory is level from then on.

    More are made while one of two cameras is silent, and the other's frames wait for it.
    """

    USUAL = 10  # in a loop's five works, paired, waiting for a partner, and being read

    def __init__(self) -> None:
        # append and pop are atomic: released in any thread, taken in one. The latest is taken, which is still in cache.
        self.free: List[Frame] = []
        self._made = 0

    def take(self) -> Frame:
        """Give a frame that nobody holds."""
        if self.free and self._made >= self.USUAL:
            return self.free.pop().hold()
        self._made += 1
        return Frame(self)


class _Releasable(Protocol):
    def release(self) -> None:
        """Give the memory back."""


Held = TypeVar("Held", bound=_Releasable)


def each(read: Callable[[], Optional[Held]]) -> Iterator[Held]:
    """Give what ``read`` gives until that is None; each is released when the next is asked for, and not before."""
    for held in iter(read, None):
        yield held
        held.release()
