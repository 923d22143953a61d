"""Guards for objects that two threads must not use at once, or that a fork must not use: misuse raises immediately."""

import functools
import os
import threading
from typing import Any, Callable, TypeVar, cast

from irvis.runtime.at_exit import begin_call, end_call
from irvis.runtime.errors import ModelError

Method = TypeVar("Method", bound=Callable[..., Any])


def exclusive(method: Method) -> Method:
    """Make a method raise ModelError, naming both threads, while another call of it on the same object is running.

    An error rather than a lock: waiting would hide that each call takes twice as long. This costs a few microseconds.
    The end of the process waits for such calls (``at_exit``).
    """
    attribute = f"_{method.__name__}_by"

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        ours = (threading.get_ident(), object())  # the object distinguishes two calls from one thread
        theirs = vars(self).setdefault(attribute, ours)  # atomic, so that one of two calls finds the other
        if theirs is not ours:
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            raise ModelError(
                f"a {type(self).__name__} serves one thread at a time: {names.get(theirs[0], theirs[0])} is using it, "
                f"{names.get(ours[0], ours[0])} called it too; give each thread its own, or put a lock around it"
            )
        begin_call(ours[0])
        try:
            return method(self, *arguments, **options)
        finally:
            end_call(ours[0])
            del vars(self)[attribute]

    return cast(Method, call)


class Birthplace:
    """The process in which an object was created of which a fork has the memory, but not the GPU or threads behind it.

    Args:
        lost: says what does not survive the fork, for the error.
    """

    def __init__(self, lost: str = "CUDA does not survive a fork") -> None:
        self._process, self._lost = os.getpid(), lost

    def check(self, what: str) -> None:
        """Raise ModelError, naming ``what``, if called in another process."""
        if os.getpid() != self._process:
            raise ModelError(
                f"{what} was opened in process {self._process}, which was forked since, and {self._lost}: "
                "open it in the process that uses it (with multiprocessing, use the start method spawn)"
            )
