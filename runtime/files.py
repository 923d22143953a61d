"""Files that are either whole or not there: write beside, then rename."""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Set, Tuple, Union

from irvis.runtime.errors import FileError, IrvisError

PathLike = Union[str, Path]
_Identity = Union[str, Tuple[int, int]]

LARGEST = 2 << 30  # bytes of a file that is read whole; a sparse one of terabytes costs its sender nothing
LARGEST_JSON = 64 << 20  # bytes; as objects they are twenty times as many
DEEPEST = 100  # lists and objects within each other
ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
DEVICES = "/dev"  # /dev/stdout is a link there, and the superuser could put a file in its place
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it replaces ``path``, on any exception it is removed.

    The temporary name keeps the suffix, which some writers (video) choose their format by. Raises FileError where
    the folder cannot be written, and where a folder, a device or a pipe is at ``path``.
    """
    path = Path(path)
    _check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix)
    except (FileExistsError, NotADirectoryError) as error:
        raise FileError(f"cannot write {path}: {path.parent} is not a folder") from error
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private; give it the permissions of any newly made file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _to_disk(temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, FileError):
            raise
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _to_disk(path: Path) -> None:
    """Wait until what was written is on the disk: a robot's power may go before the system would have put it there.

    Without it the new name can outlive such an end, and the content not.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all. Raises FileError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: PathLike, document: Any, allow_nan: bool = True) -> None:
    """Write ``document`` as JSON, whole or not at all. Raises FileError.

    A number that JSON has not raises ValueError, unless ``allow_nan``, where it is written as Python reads it.
    """
    text = json.dumps(document, indent=1, allow_nan=allow_nan, ensure_ascii=False)
    # A path that is no UTF-8 holds lone surrogates, which Python escapes as JSON does.
    write_bytes(path, f"{text}\n".encode("utf-8", "backslashreplace"))


def new_figure(**options: Any) -> Any:
    """Give an empty figure of matplotlib, ``options`` its own; no screen is needed. Raises IrvisError without it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise IrvisError("matplotlib is not installed: pip install 'irvis[workstation]'") from error
    return Figure(**options)


def save_figure(figure: Any, path: PathLike, **options: Any) -> None:
    """Write a figure of matplotlib, whole or not at all; ``options`` are its savefig's.

    Raises FileError, also where the name's ending is of no picture that matplotlib writes.
    """
    with replacing(path) as temporary:
        try:
            figure.savefig(str(temporary), **options)
        except ValueError as error:
            raise FileError(f"cannot draw into {path}: {error}") from error


def check_writable(path: PathLike) -> None:
    """Raise FileError unless a file can be made at ``path``: to be told so before minutes of work, not after."""
    path = Path(path)
    _check_place(path)
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except NotADirectoryError as error:
        raise FileError(f"cannot write {path}: {folder} is not a folder") from error
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error


def _check_place(path: Path) -> None:
    """Raise FileError where something is at ``path`` that a file must not take the place of."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # nothing is there, or what the writing will tell of
        return
    if stat.S_ISDIR(mode):
        raise FileError(f"cannot write {path}: it is a folder")
    if not stat.S_ISREG(mode) or os.path.realpath(path.parent) == DEVICES:
        raise FileError(f"cannot write {path}: it is no regular file")


def check_outputs(outputs: Iterable[Optional[PathLike]], inputs: Iterable[Optional[PathLike]] = ()) -> None:
    """Raise FileError where ``check_outputs_apart`` or, for one of the outputs, ``check_writable`` does."""
    given = [path for path in outputs if path is not None]
    check_outputs_apart(given, inputs)
    for path in given:
        check_writable(path)


def check_outputs_apart(outputs: Iterable[Optional[PathLike]], inputs: Iterable[Optional[PathLike]]) -> None:
    """Raise FileError where an output is an input, the sidecar of an engine among them, or another output.

    Those that are None were not asked for. Two names of one file, as by links, count as one.
    """
    taken: Set[_Identity] = set()
    for path in inputs:
        if path is not None:
            taken |= _identities(path)
            if Path(path).suffix in ENGINE_SUFFIXES:
                taken |= _identities(f"{path}.json")
    written: Set[_Identity] = set()
    for path in outputs:
        if path is not None:
            found = _identities(path)
            if found & taken:
                raise FileError(f"{path} would overwrite an input; give another name")
            if found & written:
                raise FileError(f"two outputs would go to {path}; give another name to one")
            written |= found


def _identities(path: PathLike) -> "Set[_Identity]":
    """Give what two names of one file have in common: where they lead, and its device and inode where it exists."""
    found: Set[_Identity] = set()
    with contextlib.suppress(OSError, ValueError):  # the latter for a name with a zero in it
        found.add(os.path.realpath(path))  # Path.resolve raises where links go in a circle
        status = os.stat(path)
        found.add((status.st_dev, status.st_ino))
    return found


def read_bytes(path: PathLike, what: str = "file", largest: int = LARGEST) -> bytes:
    """Give the content of ``path``. Raises FileError, naming ``what`` was wanted, where that cannot be done.

    A pipe, which may never come, a device, which may never end, and a file of more than ``largest`` bytes are refused.
    """
    try:
        found = os.stat(path)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise FileError(f"cannot read {what} {path}: it is no regular file")
        if found.st_size > largest and stat.S_ISREG(found.st_mode):
            raise FileError(f"cannot read {what} {path}: it has {found.st_size} bytes, at most {largest} are taken")
        return Path(path).read_bytes()
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{what} not found: {path}") from error
    except (OSError, ValueError) as error:  # the latter for a name with a zero in it
        raise FileError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}") from error


def parse_json(data: bytes) -> Any:
    """Give what JSON from outside says, UTF-8. Raises ValueError, also where it is nested deeper than DEEPEST.

    Python raises RecursionError for that; but up to 3.8 it ends the process where anything is cleaned up meanwhile.
    Brackets in texts are counted too: none that irvis reads has as many.
    """
    import numpy as np  # here, for `irvis doctor` writes files where numpy is broken

    brackets = np.frombuffer(data.translate(None, NO_BRACKETS), np.uint8)
    opening = (brackets == ord("[")) | (brackets == ord("{"))
    if np.where(opening, 1, -1).cumsum().max(initial=0) > DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST}")
    return json.loads(data.decode())


def sha256(path: PathLike) -> str:
    """Give the SHA-256 of a file as 64 hexadecimal digits. Raises FileError."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()
