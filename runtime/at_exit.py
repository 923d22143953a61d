"""Closes what is still open when the process ends."""

import atexit
import os
import weakref
from typing import Any

_OPEN: "weakref.WeakSet[Any]" = weakref.WeakSet()


def close_at_exit(item: Any) -> None:
    """Have ``item.close()`` called before Python ends, unless nothing else refers to it by then.

    For what runs threads of its own: Python ends those that are still inside OpenCV or ONNX Runtime by unwinding their
    C++, which aborts the process instead.
    """
    _OPEN.add(item)


@atexit.register
def _close() -> None:
    for item in list(_OPEN):
        item.close()


os.register_at_fork(after_in_child=_OPEN.clear)  # a fork has none of the threads, and what they locked stays locked
