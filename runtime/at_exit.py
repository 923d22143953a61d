"""Closes what is still open when the process ends, and waits for calls in other threads."""

import atexit
import os
import threading
import time
import weakref
from typing import Any, Dict

CALLS_S = 10.0  # that the end waits for the calls that are running

_OPEN: "weakref.WeakSet[Any]" = weakref.WeakSet()
_CALLS: Dict[int, int] = {}  # thread -> how many calls it is in, one inside the other
_ENDING = threading.Event()


def close_at_exit(item: Any) -> None:
    """Have ``item.close()`` called before Python ends, unless nothing else refers to it by then.

    For what runs threads of its own: Python ends those that are still inside OpenCV or ONNX Runtime by unwinding their
    C++, which aborts the process instead.
    """
    _OPEN.add(item)


def begin_call(thread: int) -> None:
    """Note that this thread enters OpenCV or ONNX Runtime, so that the end waits; call ``end_call`` behind it.

    Once the process ends, this does not return in daemon threads, the only ones left: Python can end them here.
    """
    outer = _CALLS.get(thread, 0)
    _CALLS[thread] = outer + 1
    if _ENDING.is_set() and not outer and thread != threading.main_thread().ident:
        del _CALLS[thread]
        threading.Event().wait()


def end_call(thread: int) -> None:
    """Note that what ``begin_call`` noted last in this thread has ended."""
    if _CALLS[thread] == 1:
        del _CALLS[thread]
    else:
        _CALLS[thread] -= 1


@atexit.register
def _close() -> None:
    for item in list(_OPEN):
        item.close()
    _ENDING.set()
    end_s = time.monotonic() + CALLS_S
    while _CALLS and time.monotonic() < end_s:
        time.sleep(0.001)


def _forget() -> None:
    _OPEN.clear()
    _CALLS.clear()


os.register_at_fork(after_in_child=_forget)  # a fork has none of the threads, and what they locked stays locked
