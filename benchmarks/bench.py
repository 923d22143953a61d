"""Measure the latency of a student or an engine on this machine, stage by stage, beside the paper's figure.

`bench.py compare A.json B.json` compares two reports, `bench.py table A.json B.json ...` prints reports as a Markdown
table, `bench.py plot A.json -o A.png` plots one. `bench.py turns A.engine B.engine ...` times models in turn.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

try:
    from irvis.runtime.imports import importing_for
except ModuleNotFoundError as error:
    if error.name != "irvis":
        raise
    sys.exit(f"bench.py: irvis is not installed: run `pip install -e .` in {Path(__file__).resolve().parents[1]}")

with importing_for("bench.py"):
    from irvis.benchmarks.accuracy import Accuracy, measure_accuracy
    from irvis.benchmarks.fuser_turns import take_turns_of_fusers
    from irvis.benchmarks.machine.board import Board, read_board
    from irvis.benchmarks.machine.requirements import require_locked_clocks, require_mode, set_mode
    from irvis.benchmarks.measurement import Plan, changes_of, measure_model, runs_on_gpu
    from irvis.benchmarks.report import compare as compare_reports
    from irvis.benchmarks.report.file import read_report, write_report
    from irvis.benchmarks.report.plot import draw, require_matplotlib
    from irvis.benchmarks.report.report import Model, Report
    from irvis.benchmarks.report.text import to_markdown, to_text
    from irvis.export.onnx_wire import is_onnx
    from irvis.runtime import Fuser, IrvisError
    from irvis.runtime.cli import guarded, parse
    from irvis.runtime.files import check_outputs, read_bytes, sha256, write_json, write_text
    from irvis.runtime.pairs import files_of, pairs_of
    from irvis.runtime.shipped import find_model
    from irvis.runtime.sidecar import read_sidecar
    from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_size

PRECISIONS = ("FP32", "FP16", "INT8")


def bench(arguments: argparse.Namespace) -> int:
    """Verify the mode, measure, print the report and write it. Raises IrvisError.

    If only the accuracy on --pairs cannot be measured, the report says so and is written before the error is raised.
    """
    outputs = (arguments.json, arguments.markdown, arguments.plot)
    pairs = pairs_of(arguments.pairs) if arguments.pairs is not None else []  # fails now, not after the run
    check_outputs(outputs, (arguments.engine, arguments.onnx, arguments.reference, *files_of(pairs)))
    if arguments.plot is not None:
        require_matplotlib()
    if arguments.reference is not None:
        if arguments.pairs is None:
            raise IrvisError("--reference needs pairs to fuse; give --pairs FOLDER too")
        if not is_onnx(read_bytes(arguments.reference, "reference")):
            raise IrvisError(f"--reference is not an ONNX file, or is corrupt: {arguments.reference}")
    read_bytes(find_model(arguments.engine or arguments.onnx), "model")
    # Last, because it may change the power mode. jtop shows a newly set mode a second late.
    read = partial(read_board, ask_jtop=lambda: None) if arguments.set_mode is not None else read_board
    board, verified_mode = _prepare_board(arguments, read)
    failure: Optional[IrvisError] = None
    begin_s = time.monotonic()
    cache = arguments.engine_cache
    options = {"engine_cache": cache, "engine_size": arguments.size if cache else None, "resize": arguments.resize}
    with Fuser(arguments.engine or arguments.onnx, threads=arguments.threads, **options) as fuser:
        loaded_ms = (time.monotonic() - begin_s) * 1e3
        size = _choose_size(arguments.size, arguments.resize, fuser)
        model_size = None if fuser.size == size else fuser.size
        measured = measure_model(fuser, loaded_ms, Plan(size, arguments.iterations, arguments.warmup, arguments.rate))
        changes = changes_of(board, read())
        try:
            accuracy, not_measured = _measure_accuracy(fuser, arguments)
        except IrvisError as error:  # the latencies are worth keeping
            accuracy, not_measured, failure = None, {"error": str(error), "quality": str(error)}, error
        model, backend = _describe_model(fuser, arguments.engine), fuser.backend.name
    if measured.energy is None:
        not_measured["energy"] = measured.why_no_energy
    report = Report(
        board=board,
        verified_mode=verified_mode,
        model=model,
        backend=backend,
        size=size,
        model_size=model_size,
        warmup=measured.warmup,
        threads=arguments.threads,
        cold=measured.cold,
        run=measured.run,
        history=measured.history,
        changes=changes,
        energy=measured.energy,
        accuracy=accuracy,
        not_measured=not_measured,
    )
    print(to_text(report), flush=True)
    document = report.to_json()
    if arguments.json is not None:
        write_report(arguments.json, document)
    if arguments.markdown is not None:
        write_text(arguments.markdown, to_markdown([document]))
    if arguments.plot is not None:
        draw(document, arguments.plot)
    if failure is not None:
        raise failure
    return 0


def make_parser(name: Optional[str] = None) -> argparse.ArgumentParser:
    """Describe ``bench.py``, or ``bench.py NAME`` of COMMANDS."""
    if name is None:
        parser = argparse.ArgumentParser(
            prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        _add_arguments(parser)
        return parser
    add_arguments, run = COMMANDS[name]
    parser = argparse.ArgumentParser(prog=f"bench.py {name}", description=run.__doc__)
    add_arguments(parser)
    return parser


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command; return its exit code: 0, 1 for a failure, 130 for Ctrl-C. Usage errors exit with 2."""
    argv = sys.argv[1:] if argv is None else argv
    name = argv[0] if argv and argv[0] in COMMANDS else None
    run = COMMANDS[name][1] if name is not None else bench
    parser = make_parser(name)
    arguments = parse(parser, argv if name is None else argv[1:])
    return guarded(parser.prog, lambda: run(arguments))


def compare(arguments: argparse.Namespace) -> int:
    """Print the ratios of B's latencies to A's; if they may not be compared, say why and exit with 1."""
    files = arguments.reports
    a, b = (read_report(file) for file in files)
    obstacles = compare_reports.find_obstacles(a, b)
    if obstacles and not arguments.force:
        raise IrvisError(
            f"{files[0]} and {files[1]} may not be compared: {'; '.join(obstacles)}; --force compares them anyway"
        )
    print(compare_reports.to_text((str(files[0]), str(files[1])), a, b))
    return 0


def table(arguments: argparse.Namespace) -> int:
    """Print reports as a Markdown table, one row per report."""
    print(to_markdown([read_report(file) for file in arguments.reports]), end="")
    return 0


def plot(arguments: argparse.Namespace) -> int:
    """Plot a report: a histogram of its latencies, and each frame's latency over time."""
    check_outputs([arguments.output], [arguments.report])
    draw(read_report(arguments.report), arguments.output)
    return 0


def turns(arguments: argparse.Namespace) -> int:
    """Time whole calls of several models in turn in one run, so that other load affects all alike; print the ratios."""
    check_outputs([arguments.json], map(find_model, arguments.models))
    found = take_turns_of_fusers(
        arguments.models, arguments.rounds, arguments.size, arguments.resize, arguments.threads
    )
    print(found.to_text(), flush=True)
    if arguments.json is not None:
        write_json(arguments.json, found.to_json(), allow_nan=False)
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--engine", type=Path, metavar="FILE", help="a TensorRT engine made by build_engine.py")
    model.add_argument("--onnx", type=Path, metavar="FILE", help="an ONNX, or irvis's own: student (default) or fast")
    parser.add_argument("--engine-cache", type=Path, metavar="DIR", help="run the ONNX as an engine, cached there")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--mode", type=str.upper, help="refuse unless this is a Jetson in that power mode (MAXN, or 0)")
    mode.add_argument("--set-mode", type=str.upper, metavar="MODE", help="set that power mode first: as root")
    parser.add_argument("--require-locked-clocks", action="store_true", help="refuse unless the clocks are locked")
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="default: the model's, else 480x640")
    parser.add_argument(
        "--resize", action="store_true", help="frames of --size (default: 480x640) are fitted to the model's and back"
    )
    parser.add_argument("--iterations", type=_at_least(1), default=200, metavar="N", help="default: %(default)s")
    parser.add_argument("--warmup", type=_at_least(0), default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--rate", type=_rate, metavar="HZ", help="frame rate, as from a camera (default: back to back)")
    parser.add_argument("--threads", type=_at_least(1), metavar="N", help="CPU threads of ONNX Runtime")
    parser.add_argument("--pairs", type=Path, metavar="FOLDER", help="a data set: measure error and quality on it too")
    parser.add_argument(
        "--reference",
        type=find_model,
        metavar="ONNX",
        help="measure the error on --pairs against this ONNX, or student or fast",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write its table row there")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="plot its latencies there")


def _add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", type=Path, nargs=2, metavar="REPORT.json")
    parser.add_argument("--force", action="store_true", help="compare them anyway, and exit with 0")


def _add_table_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT.json")


def _add_plot_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", type=Path, metavar="REPORT.json")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.png"), help="(default: %(default)s)")


def _add_turns_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="engines and ONNX, or student or fast; the first is the reference"
    )
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="default: the models', else 480x640")
    parser.add_argument(
        "--resize", action="store_true", help="frames of --size (default: 480x640) are fitted to each model's and back"
    )
    parser.add_argument("--rounds", type=_at_least(1), default=50, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=_at_least(1), metavar="N", help="CPU threads of ONNX Runtime")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every latency there as well")


COMMANDS = {
    "compare": (_add_compare_arguments, compare),
    "table": (_add_table_arguments, table),
    "plot": (_add_plot_arguments, plot),
    "turns": (_add_turns_arguments, turns),
}


def _prepare_board(arguments: argparse.Namespace, read: Callable[[], Board]) -> Tuple[Board, Optional[str]]:
    """Set and verify what was requested; return the machine and its verified power mode."""
    board, mode = read(), arguments.set_mode or arguments.mode
    if arguments.set_mode is not None:
        set_mode(board, mode, _confirm)
        board = read()
    if mode is not None:
        require_mode(board, mode)
    if arguments.require_locked_clocks:
        require_locked_clocks(board)
    return board, None if mode is None else board.mode_name or board.mode


def _confirm(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _measure_accuracy(fuser: Fuser, arguments: argparse.Namespace) -> Tuple[Optional[Accuracy], Dict[str, str]]:
    """Return error and quality on --pairs, and why either is missing."""
    if arguments.pairs is None:
        return None, {"error": "no --pairs", "quality": "no --pairs"}
    reference = arguments.reference
    if reference is None and fuser.model.suffix == ".onnx" and runs_on_gpu(fuser.backend.name):
        reference = fuser.model
    accuracy = measure_accuracy(fuser, arguments.pairs, reference, arguments.resize)
    missing = {}
    if accuracy.error is None:
        missing["error"] = "no --reference, and the model is not an ONNX that runs on a GPU"
    if accuracy.quality is None:
        missing["quality"] = "scikit-image is not installed"
    return accuracy, missing


def _describe_model(fuser: Fuser, engine: Optional[Path]) -> Model:
    words = fuser.backend.name.replace(",", " ").split()
    precision = next((word.lower() for word in words if word in PRECISIONS), None)
    return Model(fuser.model, sha256(fuser.model), precision, read_sidecar(engine).measured_error if engine else None)


def _choose_size(asked: Optional[Tuple[int, int]], resize: bool, fuser: Fuser) -> Tuple[int, int]:
    if resize or fuser.size is None:
        return asked or DEFAULT_SIZE
    if asked is not None and asked != fuser.size:
        raise IrvisError(
            f"--size {format_size(asked)} does not fit {fuser.model}, which takes only {format_size(fuser.size)}; "
            "drop --size, add --resize, or make the model for that size"
        )
    return fuser.size


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e4:
        raise argparse.ArgumentTypeError(f"must be frames a second, over 0 and up to 10000. Got {text!r}")
    return value


def _at_least(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be a whole number, {minimum} or more. Got {text!r}")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
