"""Read something repeatedly in a thread beside the run, with the time of each reading."""

import threading
import time
from typing import Callable, Generic, List, Tuple, TypeVar

T = TypeVar("T")


class Sampler(Generic[T]):
    """Samples what ``read`` returns, at ``rate_hz`` inside ``with``, and once at either end.

    A reading that raises OSError or ValueError is left out: a sensor may be busy. Each is stamped with the middle of
    the time that reading took, by the monotonic clock.
    """

    def __init__(self, read: Callable[[], T], rate_hz: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate_hz = rate_hz
        self.samples: List[Tuple[float, T]] = []
        self._read, self._clock = read, clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="irvis-sampler", daemon=True)

    def sample(self) -> None:
        """Take one sample now."""
        before_s = self._clock()
        try:
            value = self._read()
        except (OSError, ValueError):
            return
        self.samples.append(((before_s + self._clock()) / 2, value))

    def __enter__(self) -> "Sampler[T]":
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self.sample()

    def _run(self) -> None:
        due_s = self._clock()
        while True:
            # If reading takes longer than a period, the rate falls, as the stamps show.
            due_s = max(due_s + 1 / self.rate_hz, self._clock())
            if self._stopping.wait(due_s - self._clock()):
                return
            self.sample()
