"""Locks between processes, released with the process that holds them, however it ends."""

import contextlib
import errno
import fcntl
import os
import sys
from pathlib import Path
from typing import IO, Iterator

from irvis.runtime.errors import FileError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def try_lock(stream: IO[str]) -> bool:
    """Lock an open file until it is closed; return False if another process holds the lock.

    A file system without locks is reported on stderr, and the result is True. Raises OSError.
    """
    return _lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock(stream: IO[str]) -> None:
    """Lock an open file like ``try_lock``, but wait until no other process holds the lock."""
    _lock(stream, fcntl.LOCK_EX)


def _lock(stream: IO[str], how: int) -> bool:
    try:
        fcntl.flock(stream, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(
            f"no locks on the file system of {stream.name} ({error.strerror}): two processes may interfere",
            file=sys.stderr,
            flush=True,
        )
    return True


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Hold ``output`` exclusively, for a run that keeps writing beside it. Raises FileError if another process does.

    ``OUTPUT.lock`` exists meanwhile; one left by a killed run blocks nobody.
    """
    path = output.with_name(output.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error
    with stream:
        # The previous holder may have removed the file since it was opened, and a third process may lock a new one.
        if not try_lock(stream) or not _is_at(path, stream):
            raise FileError(f"another process is writing {output}; wait for it, or choose another output")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(path: Path, stream: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
