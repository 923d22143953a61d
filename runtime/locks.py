"""Locks between processes, which go with the process that holds them, however it ends."""

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
    """Lock an open file until it is closed; False where another process has it.

    A file system without locks is told on stderr, and the answer is True. Raises OSError.
    """
    return _lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock(stream: IO[str]) -> None:
    """Lock an open file until it is closed, as soon as no other process has it; otherwise as ``try_lock``."""
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
            f"no locks on the file system of {stream.name} ({error.strerror}): nothing keeps two processes apart",
            file=sys.stderr,
            flush=True,
        )
    return True


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Have ``output`` to oneself: for a run that goes on writing beside it. Raises FileError where another has it.

    ``OUTPUT.lock`` is there meanwhile; one that a killed run left hinders nobody.
    """
    path = output.with_name(output.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error
    with stream:
        # Whoever held it may have removed it between the two, and a third may lock its successor.
        if not try_lock(stream) or not _is_at(path, stream):
            raise FileError(f"another process writes {output}; wait for it, or give another output")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(path: Path, stream: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
