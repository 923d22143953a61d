"""Files that are either complete or absent: write beside, then rename."""

import contextlib
import hashlib
import json
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Set, Tuple, Union

from irvis.runtime.errors import FileError, IrvisError

PathLike = Union[str, Path]
_Identity = Union[str, Tuple[int, int]]

LARGEST = 2 << 30  # bytes of a file that is read whole: a sparse one of terabytes costs its sender nothing
LARGEST_JSON = 64 << 20  # bytes; as Python objects they take twenty times as many
DEEPEST = 100  # nested lists and objects
ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
DEVICES = "/dev"  # /dev/stdout is a link there, and root could replace it with a file
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path``, on any exception it is removed.

    The temporary name keeps the suffix, because some writers (video) choose their format by it. Raises FileError if
    the folder cannot be written, or if ``path`` is a folder, a device or a pipe.
    """
    path = Path(path)
    _check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise FileError(f"cannot write {path}: {path.parent} is not a folder") from error
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error
    # Named before it exists, unlike by tempfile: Ctrl-C just after it was made would leave a file nobody knows.
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}{path.suffix}")
    try:
        temporary.open("xb").close()
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where it could not be made
            temporary.unlink()
        if isinstance(error, OSError) and not isinstance(error, FileError):
            raise FileError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def _to_disk(path: Path) -> None:
    """Wait until the content is on the disk: a robot may lose power before the system would have written it there.

    Without this, the new name can survive a power loss without the content.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def user_cache(name: str) -> Path:
    """Return irvis's folder ``name`` in ``$XDG_CACHE_HOME``, or in ``~/.cache`` if that variable is not set.

    Raises FileError for a user without a home folder.
    """
    parent = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if parent == "~/.cache":  # neither HOME nor an entry in /etc/passwd, as of any number given to setpriv
        raise FileError("this user has no home folder to cache in; set HOME or XDG_CACHE_HOME")
    return Path(parent) / "irvis" / name


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all. Raises FileError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: PathLike, text: str) -> None:
    """Write ``text`` in UTF-8, whole or not at all. Raises FileError."""
    write_bytes(path, _escaped(text))


def write_json(path: PathLike, document: Any, allow_nan: bool = True) -> None:
    """Write ``document`` as JSON, whole or not at all. Raises FileError.

    NaN and infinities raise ValueError unless ``allow_nan``, which writes them as Python reads them.
    """
    text = json.dumps(document, indent=1, allow_nan=allow_nan, ensure_ascii=False)
    write_text(path, f"{text}\n")


def _escaped(text: str) -> bytes:
    """Return text in UTF-8. A path that is not UTF-8 holds lone surrogates, which Python escapes as JSON does."""
    return text.encode("utf-8", "backslashreplace")


def new_figure(**options: Any) -> Any:
    """Return an empty matplotlib figure whose parts keep clear of each other; needs no screen.

    Raises IrvisError without matplotlib. ``options`` are passed to its ``Figure``.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise IrvisError("matplotlib is not installed: pip install 'irvis[workstation]'") from error
    return Figure(constrained_layout=True, **options)  # the word that matplotlib 3.1, Ubuntu 20.04's, knows too


def legend_name(name: str) -> str:
    """Return a name for a legend, from which matplotlib leaves out what begins with an underscore."""
    return f" {name}" if name.startswith("_") else name


def save_figure(figure: Any, path: PathLike, **options: Any) -> None:
    """Write a matplotlib figure, whole or not at all; ``options`` are passed to its savefig.

    Raises FileError, also for a suffix that matplotlib cannot write.
    """
    from matplotlib.text import Text

    with replacing(path) as temporary:
        try:
            # matplotlib cannot draw a name that is not UTF-8, and takes one between two $ for a formula.
            for text in figure.findobj(Text):
                text.set_text(_escaped(text.get_text()).decode().replace("$", r"\$"))
            figure.savefig(str(temporary), **options)
        except ValueError as error:
            raise FileError(f"cannot draw into {path}: {error}") from error


def check_writable(path: PathLike) -> None:
    """Raise FileError unless a file can be created at ``path``: before minutes of work rather than after."""
    path = Path(path)
    _check_place(path)
    try:
        folder = next(parent for parent in path.parents if parent.exists())
        with contextlib.suppress(FileNotFoundError):
            (folder / path.name).lstat()  # refuses a name that is too long
        with tempfile.TemporaryFile(dir=folder):
            pass
    except NotADirectoryError as error:
        raise FileError(f"cannot write {path}: {folder} is not a folder") from error
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error


def _check_place(path: Path) -> None:
    """Raise FileError if ``path`` is something that a file must not replace."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # nothing is there, or the write will report the problem
        return
    if stat.S_ISDIR(mode):
        raise FileError(f"cannot write {path}: it is a folder")
    if not stat.S_ISREG(mode) or os.path.realpath(path.parent) == DEVICES:
        raise FileError(f"cannot write {path}: it is not a regular file")


def check_outputs(outputs: Iterable[Optional[PathLike]], inputs: Iterable[Optional[PathLike]] = ()) -> None:
    """Raise FileError if ``check_outputs_apart`` does, or ``check_writable`` for one of the outputs."""
    given = [path for path in outputs if path is not None]
    check_outputs_apart(given, inputs)
    for path in given:
        check_writable(path)


def check_outputs_apart(outputs: Iterable[Optional[PathLike]], inputs: Iterable[Optional[PathLike]]) -> None:
    """Raise FileError if an output is an input, including the sidecar of an engine, or another output.

    None stands for a file that was not requested. Two names of one file, such as links, count as one.
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
    """Return what all names of one file share: its real path, and its device and inode if it exists."""
    found: Set[_Identity] = set()
    with contextlib.suppress(OSError, ValueError):  # the latter for a name with a null byte
        found.add(os.path.realpath(path))  # Path.resolve raises on circular links
        status = os.stat(path)
        found.add((status.st_dev, status.st_ino))
    return found


def read_bytes(path: PathLike, what: str = "file", largest: int = LARGEST) -> bytes:
    """Return the content of ``path``. Raises FileError, which calls the file ``what``, if it cannot be read.

    A pipe may never deliver and a device may never end: both are rejected, as is a file of more than ``largest`` bytes.
    """
    try:
        found = os.stat(path)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise FileError(f"cannot read {what} {path}: it is not a regular file")
        if found.st_size > largest:
            raise FileError(f"cannot read {what} {path}: it has {found.st_size} bytes, at most {largest} are accepted")
        return Path(path).read_bytes()
    except FileError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"{what} not found: {path}") from error
    except (OSError, ValueError) as error:  # the latter for a name with a null byte
        raise FileError(f"cannot read {what} {path}: {getattr(error, 'strerror', None) or error}") from error


def parse_json(data: bytes) -> Any:
    """Parse foreign JSON, UTF-8. Raises ValueError, also if it is nested deeper than DEEPEST.

    Python raises RecursionError for deep nesting, but up to 3.8 it ends the process if anything is cleaned up
    meanwhile. Brackets in strings are counted too: no file that irvis reads has that many.
    """
    import numpy as np  # here, because `irvis doctor` writes files where numpy is broken

    brackets = np.frombuffer(data.translate(None, NO_BRACKETS), np.uint8)
    opening = (brackets == ord("[")) | (brackets == ord("{"))
    if np.where(opening, 1, -1).cumsum().max(initial=0) > DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST}")
    return json.loads(data.decode())


def sha256(path: PathLike) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits. Raises FileError."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()
