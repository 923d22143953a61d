"""A folder of engines, each built on first use: ``Fuser("student.onnx", engine_cache=DIR)``.

    DIR/student-480x640-fp16-Xavier-8.5.2.2-0a1b2c3d4e5f.engine    with its sidecar beside it; the last part is a
                                                                   digest of everything that the engine depends on
    DIR/.building/                                                 the lock, the timing caches, and unfinished files

Nothing is ever removed from DIR itself: an engine of an older ONNX or TensorRT stays until someone deletes it.
"""

import argparse
import atexit
import contextlib
import hashlib
import json
import os
import re
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Callable, Iterator, NamedTuple, Optional, Tuple

from irvis.runtime.engine_tensors import INPUTS
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_writable, read_bytes
from irvis.runtime.gpu import describe_gpu, first_gpu, import_pycuda
from irvis.runtime.locks import try_lock
from irvis.runtime.sidecar import check_machine, read_engine, read_sidecar, sidecar_path
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_size
from irvis.runtime.tensorrt_messages import import_tensorrt

WORK, LOCK, TIMINGS = ".building", "lock", "timing-"
POLL_S = 0.2

Say = Callable[[str], None]
Build = Callable[[Path, Path, Any, Say], object]  # ONNX, engine to write, BuildOptions


class Machine(NamedTuple):
    """What an engine is built for; it runs on nothing else."""

    tensorrt_version: str
    gpu_name: str
    compute_capability: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--engine-cache`` and ``--engine-size``."""
    parser.add_argument(
        "--engine-cache",
        type=Path,
        metavar="DIR",
        help="run the .onnx as a TensorRT engine from this folder, built there on first use",
    )
    parser.add_argument(
        "--engine-size",
        type=parse_size,
        metavar="HEIGHTxWIDTH",
        help="frame size of that engine (default: the ONNX's own, or 480x640 if that is dynamic)",
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise IrvisError for an ``--engine-size`` without ``--engine-cache``, which would have no effect."""
    if arguments.engine_size is not None and arguments.engine_cache is None:
        raise IrvisError("--engine-size is for the engine that --engine-cache builds: add --engine-cache DIR")


def this_machine() -> Machine:
    """Return what engines are built for here. Raises ModelError if TensorRT, pycuda or a GPU is missing."""
    version = import_tensorrt().__version__
    return Machine(version, *describe_gpu(first_gpu(import_pycuda())))


def cached_engine(
    onnx: Path,
    folder: Path,
    size: Optional[Tuple[int, int]] = None,
    build: Optional[Build] = None,
    machine: Optional[Machine] = None,
) -> Path:
    """Return the engine of ``onnx`` from ``folder``; build it first if it is missing, broken or of another ONNX.

    If several processes start at once, one builds and the others wait for it. Progress goes to stderr, with the elapsed
    time. A folder that cannot be written is fine if the engine is already in it.

    Args:
        onnx: the planes ONNX.
        folder: created if missing.
        size: (H, W) of the frames; None: the ONNX's own, or 480x640 if that is dynamic.
        build: the function that builds; None: ``irvis.export.engine.build_engine``.
        machine: what to build for; None: this machine.

    Raises FileError and ModelError. If anything ends it early, KeyboardInterrupt included, no partial engine is left.
    """
    from irvis.export.build_options import BuildOptions
    from irvis.export.engine import build_engine, read_onnx
    from irvis.export.onnx_wire import own_size

    model = read_onnx(onnx)
    digest = hashlib.sha256(model).hexdigest()
    machine = machine or this_machine()
    work = folder / WORK
    timings = work / f"{TIMINGS}{machine.tensorrt_version}-{_plain(machine.gpu_name)}.cache"
    options = BuildOptions(size=size or own_size(model, INPUTS[0]) or DEFAULT_SIZE, timing_cache=timings)
    engine = folder / engine_name(onnx, digest, machine, options)
    if _fault(engine, digest, machine) is None:
        return engine
    check_writable(work / LOCK)
    with _file_errors(folder):
        work.mkdir(parents=True, exist_ok=True)
        with (work / LOCK).open("a") as lock:
            _acquire(lock, folder)
            fault = _fault(engine, digest, machine)
            if fault is None:  # another process has built it since
                return engine
            if engine.exists() or sidecar_path(engine).exists():
                _say(f"{fault}; rebuilding it")
            _clear(work)  # leftovers of a process that was killed
            atexit.register(_leave_at_once)  # before: the thread of a FusionLoop is told of no KeyboardInterrupt
            try:
                built = work / engine.name
                (build or build_engine)(onnx, built, options, _say)
                # The sidecar last: an older one does not match the engine, and a missing one is reported as missing.
                built.replace(engine)
                sidecar_path(built).replace(sidecar_path(engine))
            finally:
                if not is_building():
                    atexit.unregister(_leave_at_once)
                _clear(work)
    return engine


def is_building() -> bool:
    """Return whether an engine is being built, by this process or by another that this one waits for."""
    from irvis.export.spinner import is_at_work

    return is_at_work()


def engine_name(onnx: Path, digest: str, machine: Machine, options: Any) -> str:
    """Return the file name of an engine: readable parts, and a digest of everything that the engine depends on.

    Args:
        onnx: its path, used for the name only.
        digest: SHA-256 of the ONNX.
        machine: what the engine is built for.
        options: the ``BuildOptions``, with a size.
    """
    depends = {**asdict(options), "timing_cache": None, "onnx": digest, "machine": machine, "code": _builders_digest()}
    key = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:12]
    parts = (onnx.stem[:60], format_size(options.size), options.precision, _plain(machine.gpu_name))
    return "-".join((*parts, machine.tensorrt_version, key)) + ".engine"


def _builders_digest() -> str:
    """Return a digest of the code that builds, so that an engine of another irvis version is not reused."""
    from irvis.export import engine

    digest = hashlib.sha256()
    for path in sorted(Path(engine.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + read_bytes(path))
    return digest.hexdigest()


def _fault(engine: Path, digest: str, machine: Machine) -> Optional[str]:
    """Return why the engine cannot be used; None if it can."""
    try:
        sidecar = read_sidecar(engine)
        read_engine(engine, sidecar)
        check_machine(sidecar, *machine)
    except IrvisError as error:
        return str(error).partition("; ")[0]  # the rest is how to fix it by hand
    return None if sidecar.onnx_sha256 == digest else f"{engine} was built from another ONNX"


def _acquire(lock: IO[str], folder: Path) -> None:
    """Wait until no other process builds in ``folder``; closing the file, or the end of the process, unlocks it."""
    from irvis.export.spinner import under_clock

    if try_lock(lock):
        return
    given_up = threading.Event()

    def wait() -> None:
        while not given_up.is_set() and not try_lock(lock):
            given_up.wait(POLL_S)

    try:
        under_clock(wait, f"waiting for another process that is building an engine in {folder}")
    finally:
        given_up.set()


def _clear(work: Path) -> None:
    for path in work.iterdir():
        if path.is_file() and path.name != LOCK and not path.name.startswith(TIMINGS):
            path.unlink()


@contextlib.contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot write the engine cache {folder}: {error.strerror or error}") from error


def _leave_at_once() -> None:
    """End the process at once if TensorRT is still building, which would crash an interpreter that is shutting down."""
    from irvis.runtime.cli import INTERRUPTED

    if is_building():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def _plain(name: str) -> str:
    """``"Orin (nvgpu)"`` -> ``"Orin-nvgpu"``: safe in a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


def _say(line: str) -> None:
    print(f"engine cache: {line}", file=sys.stderr, flush=True)
