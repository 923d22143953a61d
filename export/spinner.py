"""Shows that long, silent work is going on, and responds to Ctrl-C meanwhile."""

import contextlib
import sys
import threading
import time
from typing import Callable, Iterator, List, TypeVar, Union

THREAD_NAME = "irvis-under-clock"
PLAIN_S, WHEEL_S = 10.0, 0.125  # between updates: lines if stderr is not a terminal, else a turning wheel

Result = TypeVar("Result")
Label = Union[str, Callable[[], str]]  # a function returns the current one


def under_clock(work: Callable[[], Result], label: Label, plain: bool = False) -> Result:
    """Return the result of ``work``, or raise what it raised, with the time running on stderr.

    TensorRT 8.5 reports no progress and cannot be stopped, so ``work`` has its own thread, and this one can respond to
    Ctrl-C. (``build_serialized_network`` releases Python's GIL.)
    """
    results: List[Result] = []
    failures: List[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=target, name=THREAD_NAME, daemon=True)
    with _clock(label, plain or not sys.stderr.isatty()) as tick:
        thread.start()
        while True:
            thread.join(tick())
            if not thread.is_alive():
                break
    if failures:
        raise failures[0]
    return results[0]


@contextlib.contextmanager
def _clock(label: Label, plain: bool) -> Iterator[Callable[[], float]]:
    """Yield a function that shows the time since now, and returns the seconds after which to call it again."""
    started = time.monotonic()

    def tick() -> float:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        text = label() if callable(label) else label
        if plain:
            print(f"{text}: {minutes}:{seconds:02}", file=sys.stderr, flush=True)
            return PLAIN_S
        wheel = "|/-\\"[int((time.monotonic() - started) / WHEEL_S) % 4]
        print(f"\r\x1b[K{wheel} {text}: {minutes}:{seconds:02} ", end="", file=sys.stderr, flush=True)
        return WHEEL_S

    try:
        yield tick
    finally:
        if not plain:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def is_at_work() -> bool:
    """Return whether some ``work`` outlived the Ctrl-C that ended the wait for it."""
    return any(thread.name == THREAD_NAME for thread in threading.enumerate())
