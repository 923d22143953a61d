"""What each rewrite of the deploy form is worth: ``python -m irvis.benchmarks.rewrites``.

Each rewrite is undone alone, in the deploy form, which then computes the same result the long way. All forms take turns
in one run, so that other load on the machine affects them alike.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Dict, List, NamedTuple, Tuple

from tqdm import tqdm

from irvis.benchmarks.compare import DEPLOY
from irvis.benchmarks.forms import add_common_arguments, export_form, largest_difference, open_form
from irvis.benchmarks.machine.board import read_board
from irvis.benchmarks.report.report import heading
from irvis.benchmarks.turns import Quartiles, Run, ratio, time_forms
from irvis.benchmarks.undone import UNDO, without
from irvis.export.deploy import DeployStudent
from irvis.export.passes import count_traffic
from irvis.runtime.cli import guarded
from irvis.runtime.columns import align
from irvis.runtime.errors import ModelError
from irvis.runtime.files import check_outputs, write_text
from irvis.runtime.samples import make_scene
from irvis.runtime.sizes import format_size
from irvis.student.checkpoint import load_student

TOLERANCE = 1e-5  # of each form from the deploy form, for a range of 1


class Worth(NamedTuple):
    """What a rewrite saves."""

    rewrite: str
    latency_ms: float  # median without it
    slower: Quartiles  # the ratio of the latency without it to the deploy form's
    passes: float  # over memory, that it saves: tensors of 32 channels, in FP16
    difference: float  # greatest without it, from the deploy form, for a range of 1


def measure(arguments: argparse.Namespace) -> int:
    """Time the deploy form without each rewrite, print the table and write it; return the exit code."""
    check_outputs([arguments.markdown], [arguments.checkpoint])
    deploy = DeployStudent(load_student(arguments.checkpoint)).eval()
    frames = make_scene("street", *arguments.size)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs: Dict[str, Run] = {}
        passes: Dict[str, float] = {}
        for index, name in enumerate(tqdm([DEPLOY, *UNDO], desc="export", leave=False, disable=None, file=sys.stderr)):
            model = folder / f"{index}.onnx"
            export_form(without(name, deploy) if name in UNDO else deploy, model, frames)
            runs[name] = open_form(model, frames, arguments, stack)[1]
            passes[name] = count_traffic(model).passes
        fused = runs[DEPLOY]()
        differences = {name: largest_difference(run(), fused, frames[1]) for name, run in runs.items()}
        for name, difference in differences.items():
            if not difference <= TOLERANCE:
                raise ModelError(f"without `{name}` the output differs by {difference:.1e}, over {TOLERANCE:.0e}")
        latencies_ms = time_forms(runs, arguments.rounds)
    base_ms, base = latencies_ms[DEPLOY], passes[DEPLOY]
    worths = [
        Worth(name, median(values), ratio(values, base_ms), passes[name] - base, differences[name])
        for name, values in latencies_ms.items()
        if name in UNDO
    ]
    print(heading(read_board(), None))
    print(
        f"{arguments.checkpoint.name}, {format_size(arguments.size)} (HEIGHTxWIDTH), {arguments.provider}, "
        f"{arguments.threads} CPU threads, {arguments.rounds} rounds; "
        f"{DEPLOY}: {median(base_ms):.1f} ms, {base:.1f} passes over memory"
    )
    print(align(rows_of(worths)))
    if arguments.markdown is not None:
        write_text(arguments.markdown, to_markdown(worths))
    return 0


def rows_of(worths: List[Worth]) -> List[Tuple[str, ...]]:
    """Return the table's rows, the head first."""
    rows: List[Tuple[str, ...]] = [("without", "latency_ms", "times the deploy form's", "more passes", "difference")]
    for name, latency_ms, slower, passes, difference in worths:
        rows.append((name, f"{latency_ms:.1f}", str(slower), f"{round(passes, 1) + 0.0:+.1f}", f"{difference:.1e}"))
    return rows


def to_markdown(worths: List[Worth]) -> str:
    """Return the table in Markdown."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in rows_of(worths))
    return "\n".join([head, "|---" + "|---:" * (len(Worth._fields) - 1) + "|", *body]) + "\n"


def main() -> int:
    """Parse the command line and run; return the exit code."""
    parser = argparse.ArgumentParser(prog="rewrites.py", description=__doc__.split("\n")[0])
    add_common_arguments(parser)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there as well")
    arguments = parser.parse_args()
    return guarded("rewrites.py", lambda: measure(arguments))


if __name__ == "__main__":
    sys.exit(main())
