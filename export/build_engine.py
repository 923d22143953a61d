"""ONNX to TensorRT engine, on the machine that will run it: ``build_engine.py student.onnx`` writes ``student.engine``.

Beside it goes its sidecar, ``student.engine.json``. Needs tensorrt and pycuda, and neither torch nor onnx.
"""

import argparse
import contextlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

try:
    from irvis.export.clock import is_at_work
    from irvis.export.engine import MIB, BuildOptions, build_engine
    from irvis.runtime.cli import INTERRUPTED, guarded
    from irvis.runtime.fuser import SHIPPED_MODEL
    from irvis.runtime.sizes import format_size, parse_size
except ModuleNotFoundError as missing:
    if missing.name != "irvis":
        sys.exit(f"build_engine.py: {missing.name} is not installed: it comes with `pip install -e .` or with JetPack")
    sys.exit("build_engine.py: irvis is not installed: run `pip install -e .` in the root of its repository")

PROGRAM = "build_engine.py"


def parse_tactic_sources(text: str) -> Tuple[str, ...]:
    """``"-CUBLAS,+CUDNN"`` or ``"CUBLAS,CUDNN"`` -> its names. Raises argparse.ArgumentTypeError."""
    names = tuple(name.strip().upper() for name in text.split(","))
    if any(re.fullmatch(r"[+-]?[A-Z_]+", name) is None for name in names):
        raise argparse.ArgumentTypeError(f"a list such as -CUBLAS,-CUDNN or CUBLAS,CUDNN is wanted. Got {text!r}")
    if len({name[0] in "+-" for name in names}) > 1:
        raise argparse.ArgumentTypeError(f"give + or - to each name or to none. Got {text!r}")
    return names


def parse_mebibytes(text: str) -> int:
    """Give a whole number from 1. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of MiB from 1 is wanted. Got {text!r}")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Build a TensorRT engine from an ONNX, on the very machine that will run it.",
    )
    parser.add_argument("onnx", type=Path, nargs="?", metavar="ONNX", help="model (default: the student of irvis)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="ENGINE",
        help="engine to write (default: the ONNX's name with .engine, beside it; of the shipped student, here)",
    )
    precision = parser.add_mutually_exclusive_group()
    for name, help_text in (("fp16", "allow FP16 layers (the default)"), ("fp32", "FP32 throughout")):
        precision.add_argument(f"--{name}", dest="precision", action="store_const", const=name, help=help_text)
    parser.set_defaults(precision="fp16")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HEIGHTxWIDTH",
        help="frame size (default: the ONNX's own, or 480x640 where that is dynamic)",
    )
    parser.add_argument(
        "--workspace",
        type=parse_mebibytes,
        metavar="MIB",
        help="memory that layers may use while they run, in MiB (default: half of what is free)",
    )
    parser.add_argument(
        "--timing-cache", type=Path, metavar="FILE", help="keep tactic timings here, which makes the next build fast"
    )
    parser.add_argument(
        "--tactic-sources",
        type=parse_tactic_sources,
        default=(),
        metavar="LIST",
        help="libraries to take kernels from: --tactic-sources=-CUBLAS,-CUDNN takes some away from TensorRT's default, "
        "+NAME adds one, and names without a sign are the whole list",
    )
    parser.add_argument("--verbose", action="store_true", help="show all that TensorRT says")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says. Raises FileError and ModelError."""
    onnx, engine = arguments.onnx, arguments.output
    if onnx is None:
        onnx, engine = SHIPPED_MODEL, engine or Path(SHIPPED_MODEL.stem + ".engine")
    engine = engine or onnx.with_suffix(".engine")
    options = BuildOptions(
        arguments.precision, arguments.size, arguments.workspace, arguments.timing_cache, arguments.tactic_sources
    )
    with _verbose_log() if arguments.verbose else contextlib.nullcontext():
        sidecar = build_engine(onnx, engine, options, plain=arguments.verbose)
    print(
        f"wrote {engine}: {sidecar.precision.upper()}, {format_size(sidecar.size)}, "
        f"{engine.stat().st_size / MIB:.1f} MiB, for TensorRT {sidecar.tensorrt_version} on {sidecar.gpu_name}, "
        f"built in {sidecar.build_seconds:.0f} s"
    )
    if sidecar.measured_error is not None:
        print(
            "against the ONNX in FP32 on {pairs} generated pairs: PSNR at least {worst_psnr_db:.1f} dB, "
            "largest error {max_abs:.4f}".format(**sidecar.measured_error)
        )
    return 0


@contextlib.contextmanager
def _verbose_log() -> Iterator[None]:
    """Let all that TensorRT says go to stderr inside ``with``."""
    logger, handler = logging.getLogger("irvis.tensorrt"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command; give the exit code: 0, 1 for a failure, 2 for usage, 130 for Ctrl-C."""
    arguments = make_parser().parse_args(argv)
    code = guarded(PROGRAM, lambda: run(arguments))
    if code == INTERRUPTED and is_at_work():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # TensorRT is still building, and would bring down an interpreter that ends under it
    return code


if __name__ == "__main__":
    sys.exit(main())
