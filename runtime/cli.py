"""The command ``irvis``: a subcommand is a module with ``add_arguments(parser)`` and ``main(arguments) -> int``."""

import argparse
import contextlib
import importlib
import logging
import os
import signal
import stat
import sys
import threading
from typing import IO, Any, Callable, List, NamedTuple, Optional

from irvis.runtime.errors import IrvisError, one_line
from irvis.runtime.imports import importing
from irvis.runtime.version import irvis_version


class Subcommand(NamedTuple):
    """Where a subcommand lives; it is imported only when called, so that the runtime never imports torch."""

    module: str
    summary: str
    extra: str = "cpu"  # the package's extra that installs what the module needs


SUBCOMMANDS = {
    "fuse": Subcommand("irvis.runtime.fuse", "fuse two images, two folders or two videos"),
    "run": Subcommand("irvis.runtime.run", "fuse two cameras live; show, record or serve the result"),
    "calibrate": Subcommand("irvis.runtime.registration.calibrate", "register the infrared camera to the visible one"),
    "ros1": Subcommand("irvis.runtime.ros.ros1", "fuse two topics of ROS 1 (Noetic)"),
    "ros2": Subcommand("irvis.runtime.ros.ros2", "fuse two topics of ROS 2 (Foxy, Humble)"),
    "demo": Subcommand("irvis.benchmarks.demo", "fuse samples or given pairs, show them side by side with the latency"),
    "samples": Subcommand("irvis.runtime.samples", "generate small registered scenes to try things on"),
    "doctor": Subcommand("irvis.benchmarks.doctor.command", "check this machine for everything that irvis needs"),
    "teachers": Subcommand("irvis.student.teachers.listing", "list the available teachers, or try one", "workstation"),
    "train": Subcommand("irvis.student.train", "train a student on registered pairs", "workstation"),
    "plot": Subcommand("irvis.student.plot", "draw the losses of training runs", "workstation"),
    "export": Subcommand("irvis.export.to_onnx", "turn a checkpoint into a checked ONNX", "workstation"),
    "passes": Subcommand("irvis.export.passes", "count what two ONNX read from and write to memory", "workstation"),
    "fp16": Subcommand("irvis.benchmarks.fp16", "measure the effect of half precision on an ONNX", "workstation"),
    "int8": Subcommand("irvis.benchmarks.int8", "measure the effect of INT8 convolutions on an ONNX", "workstation"),
    "compare": Subcommand("irvis.benchmarks.compare", "time PyTorch, plain, deploy form and engines", "workstation"),
    "roofline": Subcommand("irvis.benchmarks.roofline.command", "show what bounds an ONNX on a device", "workstation"),
    "complexity": Subcommand("irvis.benchmarks.complexity", "count parameters and multiply-adds", "workstation"),
    "peers": Subcommand("irvis.benchmarks.peers.command", "time published networks beside the student", "workstation"),
    "evaluate": Subcommand("irvis.benchmarks.evaluate", "measure fusion quality on data sets", "workstation"),
    "experiment": Subcommand("irvis.benchmarks.experiments.command", "repeat a table of the paper", "workstation"),
    "visualize": Subcommand("irvis.benchmarks.experiments.visualize", "draw a figure of the paper", "workstation"),
}

FAILURE, INTERRUPTED = 1, 130
NO_MEMORY = ("out of memory", "insufficient memory", "allocate memory")  # of CUDA, OpenCV and PyTorch, no MemoryError

# OpenCV and FFmpeg report a bad file on stderr as well, in addition to our one line. They read these variables when
# they are first imported, which is after this.
QUIET = {"OPENCV_LOG_LEVEL": "ERROR", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


def guarded(program: str, body: Callable[[], int]) -> int:
    """Run ``body`` and return its exit code; an expected error is one line on stderr, never a traceback.

    SIGTERM, and SIGHUP unless it is ignored as under nohup, end it as Ctrl-C does: by an exception, so that nothing
    half-written is left behind.
    """
    _replace_closed_streams()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    in_main_thread = threading.current_thread() is threading.main_thread()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # a non-UTF-8 path must not fail a command that has done its work
    try:
        if in_main_thread:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            if before[signal.SIGHUP] != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, _hang_up)
        code = body()
        sys.stdout.flush()  # otherwise Python would report a failure only at exit, in its own words
        return code
    except IrvisError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return FAILURE
    except MemoryError as error:
        print(f"{program}: out of memory {error}".rstrip(), file=sys.stderr)
        return FAILURE
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has exited, as `| head` does
        return FAILURE
    except OSError as error:  # the system's error about a path or a device that no check anticipated
        where = "cannot write to stdout: " if error.filename is None and _give_up_stdout() else ""
        print(f"{program}: {where}{one_line(error)}", file=sys.stderr)
        return FAILURE
    except Exception as error:
        if not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        print(f"{program}: out of memory: {one_line(error, 150)}", file=sys.stderr)
        return FAILURE
    finally:
        _give_up_stdout()
        if in_main_thread:
            for number, handler in before.items():
                signal.signal(number, handler)


def parse(parser: argparse.ArgumentParser, argv: Optional[List[str]]) -> argparse.Namespace:
    """Parse a command line; whoever reads its help may close the pipe early."""
    try:
        return parser.parse_args(argv)
    finally:
        _give_up_stdout()


def _replace_closed_streams() -> None:
    """Open the streams that a caller closed, as a daemon by ``2>&-``, to nowhere.

    tqdm cannot write to a stream that is None, and the next file to be opened would get a closed one's number, with all
    that C libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, nowhere)


def _give_up_stdout() -> bool:
    """Discard what stdout no longer accepts, because Python flushes once more at exit; return if there was any."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        return False
    except OSError:
        _discard(sys.stdout)
        return True


def leave_terminal() -> None:
    """Discard further output to a terminal that is gone, so that writing does not fail: for a handler of SIGHUP."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):  # the stream is None, or in memory
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode) and not stream.isatty():
                _discard(stream)


def _hang_up(number: int, frame: Any) -> None:
    leave_terminal()
    raise KeyboardInterrupt


def _discard(stream: IO[str]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def main(argv: Optional[List[str]] = None) -> int:
    """Run ``irvis SUBCOMMAND ...``; return the exit code: 0, 1 for a failure, 2 for usage, 130 for Ctrl-C."""
    summaries = "\n".join(f"  {name:<12}{command.summary}" for name, command in SUBCOMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="irvis",
        description="Infrared-visible image fusion, from training to a robot's control loop.",
        epilog=f"subcommands:\n{summaries}\n\nsee also: build_engine.py and bench.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"irvis {irvis_version()}")
    parser.add_argument("subcommand", choices=SUBCOMMANDS, metavar="SUBCOMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parsed = parse(parser, argv)
    return guarded(f"irvis {parsed.subcommand}", lambda: _run(parsed.subcommand, parsed.arguments))


def make_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of ``irvis NAME``. Raises IrvisError if a package that its module needs is not installed."""
    command = SUBCOMMANDS[name]
    parser = argparse.ArgumentParser(prog=f"irvis {name}", description=command.summary)
    parser.add_argument("-v", "--verbose", action="store_true", help="log which backend and provider are used")
    _import(command).add_arguments(parser)
    return parser


def _run(name: str, argv: List[str]) -> int:
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    arguments = make_parser(name).parse_args(argv)
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING, format="%(name)s: %(message)s")
    return _import(SUBCOMMANDS[name]).main(arguments)


def _import(command: Subcommand) -> Any:
    with importing(f"pip install 'irvis[{command.extra}]'"):
        return importlib.import_module(command.module)


if __name__ == "__main__":
    sys.exit(main())
