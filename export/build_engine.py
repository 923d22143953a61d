"""ONNX to TensorRT engine, on the machine that will run it: ``build_engine.py student.onnx`` writes ``student.engine``.

Its sidecar, ``student.engine.json``, goes beside it. Needs tensorrt and pycuda, but neither torch nor onnx.
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
    from irvis.runtime.imports import importing_for
except ModuleNotFoundError as error:
    if error.name != "irvis":
        raise
    sys.exit("build_engine.py: irvis is not installed: run `pip install -e .` in the root of its repository")

with importing_for("build_engine.py"):
    from irvis.export.build_options import MIB, BuildOptions
    from irvis.export.engine import build_engine
    from irvis.export.spinner import is_at_work
    from irvis.runtime.cli import INTERRUPTED, guarded, parse
    from irvis.runtime.files import check_writable
    from irvis.runtime.shipped import find_model
    from irvis.runtime.sizes import format_size, parse_size

PROGRAM = "build_engine.py"


def parse_tactic_sources(text: str) -> Tuple[str, ...]:
    """``"-CUBLAS,+CUDNN"`` or ``"CUBLAS,CUDNN"`` -> the names. Raises argparse.ArgumentTypeError."""
    names = tuple(name.strip().upper() for name in text.split(","))
    if any(re.fullmatch(r"[+-]?[A-Z_]+", name) is None for name in names):
        raise argparse.ArgumentTypeError(f"must be a list such as -CUBLAS,-CUDNN or CUBLAS,CUDNN. Got {text!r}")
    if len({name[0] in "+-" for name in names}) > 1:
        raise argparse.ArgumentTypeError(f"give + or - to each name or to none. Got {text!r}")
    return names


def parse_mebibytes(text: str) -> int:
    """Return a whole number of MiB, 1 or more. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of MiB, 1 or more. Got {text!r}")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Build a TensorRT engine from an ONNX, on the machine that will run it.",
    )
    parser.add_argument(
        "onnx", type=Path, nargs="?", metavar="ONNX", help="model, or irvis's own: student (default) or fast"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="ENGINE",
        help="engine to write (default: the ONNX's name with .engine, beside it or, if shipped, in the current folder)",
    )
    precision = parser.add_mutually_exclusive_group()
    for name, help_text in (
        ("fp16", "allow FP16 layers (the default)"),
        ("fp32", "FP32 throughout"),
        ("int8", "allow INT8 convolutions, and FP16 for the rest; needs --calibrate"),
    ):
        precision.add_argument(f"--{name}", dest="precision", action="store_const", const=name, help=help_text)
    parser.set_defaults(precision="fp16")
    interface = parser.add_mutually_exclusive_group()
    interface.add_argument(
        "--frames",
        dest="frames",
        action="store_true",
        default=None,
        help="take and return uint8 frames: luminance, colour and rounding are done on the GPU (the default, "
        "or planes if this TensorRT cannot build frames)",
    )
    interface.add_argument(
        "--planes", dest="frames", action="store_false", help="take and return float32 planes in [0, 1], like the ONNX"
    )
    parser.add_argument(
        "--no-pins",
        dest="pins",
        action="store_false",
        help="let reductions, softmax and norms run in FP16 too, to measure what keeping them in FP32 costs",
    )
    parser.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="registered 8-bit pairs to find INT8's ranges on"
    )
    parser.add_argument(
        "--calibration-cache",
        type=Path,
        metavar="FILE",
        help="keep those ranges here (default: ENGINE.calibration), to be reused for the same ONNX, TensorRT and pairs",
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HEIGHTxWIDTH",
        help="frame size (default: the ONNX's own, or 480x640 if that is dynamic)",
    )
    parser.add_argument(
        "--workspace",
        type=parse_mebibytes,
        metavar="MIB",
        help="memory that layers may use while they run, in MiB (default: half of the free memory)",
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
    parser.add_argument(
        "--pairs",
        type=Path,
        metavar="FOLDER",
        help="registered 8-bit pairs on which to compare the engine with the ONNX (default: generated ones)",
    )
    parser.add_argument(
        "--force", action="store_true", help="write the engine even if it is too far from the ONNX; its sidecar says so"
    )
    parser.add_argument(
        "--profile",
        nargs="?",
        const="",
        metavar="PLACE",
        help="write each layer's time and precision to PLACE.profile.json, or into the folder PLACE, and a plot beside "
        "it (default: beside the engine); such an engine keeps its layers' details, which makes a run start later",
    )
    parser.add_argument("--verbose", action="store_true", help="show everything that TensorRT logs")
    return parser


def check_together(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Exit with a usage error if options contradict each other."""
    if arguments.precision == "int8" and arguments.calibrate is None:
        parser.error("--int8 needs --calibrate FOLDER, registered pairs to find its ranges on")
    for name in ("calibrate", "calibration_cache"):
        if arguments.precision != "int8" and getattr(arguments, name) is not None:
            parser.error(f"--{name.replace('_', '-')} is only for --int8")
    if arguments.profile is not None and arguments.profile.endswith(".onnx"):
        parser.error(f"--profile took {arguments.profile} as its PLACE: give the ONNX first")


def profile_path(place: str, engine: Path) -> Path:
    """Return the profile's path: beside the engine for ``""``, in ``place`` if it is a folder, else named after it."""
    if not place:
        return engine.with_suffix(".profile.json")
    if Path(place).is_dir():
        return Path(place) / f"{engine.stem}.profile.json"
    return Path(place if place.endswith(".json") else place + ".profile.json")


def run(arguments: argparse.Namespace) -> int:
    """Build the engine and print its properties. Raises FileError and ModelError."""
    onnx, engine = find_model(arguments.onnx), arguments.output
    if engine is None:
        engine = (onnx.parent if onnx == arguments.onnx else Path()) / f"{onnx.stem}.engine"
    check_writable(engine)  # before other names are made from it, which fails for ""
    options = BuildOptions(
        precision=arguments.precision,
        size=arguments.size,
        workspace_mib=arguments.workspace,
        timing_cache=arguments.timing_cache,
        tactic_sources=arguments.tactic_sources,
        frames=arguments.frames,
        pins=arguments.pins,
        calibrate=arguments.calibrate,
        calibration_cache=arguments.calibration_cache,
        pairs=arguments.pairs,
        force=arguments.force,
        profile=None if arguments.profile is None else profile_path(arguments.profile, engine),
    )
    with _verbose_log() if arguments.verbose else contextlib.nullcontext():
        sidecar = build_engine(onnx, engine, options, plain=arguments.verbose)
    print(
        f"wrote {engine}: {sidecar.precision.upper()}, {'frames' if sidecar.takes_frames else 'planes'} of "
        f"{format_size(sidecar.size)}, "
        f"{engine.stat().st_size / MIB:.1f} MiB, for TensorRT {sidecar.tensorrt_version} on {sidecar.gpu_name}, "
        f"built in {sidecar.build_seconds:.0f} s"
    )
    if sidecar.measured_error is not None:
        print(
            "against the ONNX in FP32 on {pairs} pairs: PSNR {worst_psnr_db:.1f} dB at the worst, "
            "{mean_psnr_db:.1f} dB in the mean, largest error {max_abs:.4f}".format(**sidecar.measured_error)
        )
    if sidecar.accepted is False:
        print("warning: that is too far from the ONNX; the engine was written because of --force")
    return 0


@contextlib.contextmanager
def _verbose_log() -> Iterator[None]:
    """Log everything that TensorRT says to stderr inside ``with``."""
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
    """Run the command; return the exit code: 0, 1 for a failure, 2 for usage, 130 for Ctrl-C."""
    parser = make_parser()
    arguments = parse(parser, argv)
    check_together(parser, arguments)
    code = guarded(PROGRAM, lambda: run(arguments))
    if code == INTERRUPTED and is_at_work():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # TensorRT is still building, and would crash an interpreter that exits normally
    return code


if __name__ == "__main__":
    sys.exit(main())
