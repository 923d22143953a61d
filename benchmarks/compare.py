"""Compare the latency of one student in every form, timed in turn in one run: ``irvis compare``.

Absolute times are noisy on a shared machine; other load slows all forms of a round alike, so that the ratios hold.
A latency spans from planes in host memory to the fused plane there; for a model that takes frames, from frames to the
fused frame, which includes luminance and colour.

PyTorch on a CPU is much slower unless the process keeps freed memory: set the MALLOC_ variables of the Makefile.
"""

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Tuple

import torch

from irvis.benchmarks.forms import add_common_arguments, export_form, largest_difference, open_form, run_eager
from irvis.benchmarks.machine.board import Board, read_board
from irvis.benchmarks.report.report import heading, stamp
from irvis.benchmarks.turns import Quartiles, Run, ratio, time_forms
from irvis.export.deploy import DeployStudent
from irvis.export.sample_frames import to_planes
from irvis.runtime.columns import align
from irvis.runtime.files import check_outputs, sha256, write_json
from irvis.runtime.providers import CPU
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import NAMES, find_model
from irvis.runtime.sizes import format_size
from irvis.student.checkpoint import load_student

SCHEMA_VERSION = 1
EAGER, PLAIN, DEPLOY = "PyTorch", "plain ONNX", "deploy ONNX"
REFERENCES = (EAGER, PLAIN)


@dataclass(frozen=True)
class Comparison:
    """One run over all forms, by name, ``EAGER`` first."""

    board: Board
    checkpoint: Path
    size: Tuple[int, int]  # (H, W)
    threads: int
    backends: Dict[str, str]  # what runs each form
    latencies_ms: Dict[str, List[float]]  # round by round
    differences: Dict[str, float]  # greatest, from EAGER, for a range of 1

    @property
    def rounds(self) -> int:
        """How often each form was timed."""
        return len(self.latencies_ms[EAGER])

    def speedup(self, form: str, reference: str) -> Quartiles:
        """Return how many times as fast as the reference a form is."""
        return ratio(self.latencies_ms[reference], self.latencies_ms[form])

    def to_text(self) -> str:
        """Return the table as text."""
        lines = [
            heading(self.board, None),
            f"{self.checkpoint.name}, {format_size(self.size)} (HEIGHTxWIDTH), {self.threads} CPU threads, "
            f"{self.rounds} rounds after one of warm-up; medians (and quartiles) over rounds",
            "",
        ]
        head = ("form", "latency_ms", *(f"times as fast as {name}" for name in REFERENCES), f"from {EAGER}", "run by")
        rows = [head]
        for name, values in self.latencies_ms.items():
            ratios = ["" if name == reference else str(self.speedup(name, reference)) for reference in REFERENCES]
            difference = "" if name == EAGER else f"{self.differences[name]:.1e}"
            rows.append((name, f"{median(values):.1f}", *ratios, difference, self.backends[name]))
        return "\n".join([*lines, align(rows)])

    def to_json(self) -> Dict[str, Any]:
        """Return the same as JSON, with every latency."""
        forms = {
            name: {
                "backend": self.backends[name],
                "median_ms": median(values),
                "latencies_ms": values,
                "max_difference": self.differences[name],
                "times_as_fast_as": {to: self.speedup(name, to)._asdict() for to in REFERENCES},
            }
            for name, values in self.latencies_ms.items()
        }
        return {
            "schema_version": SCHEMA_VERSION,
            **stamp(self.board),
            "checkpoint": {"file": self.checkpoint.name, "sha256": sha256(self.checkpoint)},
            "size": {"height": self.size[0], "width": self.size[1]},
            "threads": self.threads,
            "rounds": self.rounds,
            "forms": forms,
        }


def compare(arguments: argparse.Namespace) -> Comparison:
    """Export, open, check and time every form. Raises FileError and ModelError."""
    student = load_student(arguments.checkpoint)
    frames = make_scene("street", *arguments.size)
    device = "cuda" if arguments.provider != CPU and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = False  # eager PyTorch is the reference for the others
    with ExitStack() as stack:
        # The given ones first, so that one that does not run here fails before the exports, which take a while.
        opened = {name: open_form(find_model(name), frames, arguments, stack) for name in arguments.engine or []}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, network in ((PLAIN, student), (DEPLOY, DeployStudent(student))):
            model = folder / f"{name}.onnx"
            export_form(network, model, frames)
            opened[name] = open_form(model, frames, arguments, stack)
        names = list(dict.fromkeys((PLAIN, DEPLOY, *opened)))
        runs: Dict[str, Run] = {EAGER: partial(run_eager, student.to(device), device, to_planes(frames))}
        runs.update((name, opened[name][1]) for name in names)
        fused = runs[EAGER]()
        differences = {name: largest_difference(run(), fused, frames[1]) for name, run in runs.items()}
        latencies_ms = time_forms(runs, arguments.rounds)
    backends = {EAGER: f"PyTorch {torch.__version__}, {device}"}
    backends.update((name, opened[name][0].name) for name in names)
    return Comparison(
        board=read_board(),
        checkpoint=arguments.checkpoint,
        size=arguments.size,
        threads=arguments.threads,
        backends=backends,
        latencies_ms=latencies_ms,
        differences=differences,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis compare``."""
    add_common_arguments(parser)
    parser.add_argument(
        "--engine",
        action="append",
        metavar="FILE",
        help=f"compare this one too: a .engine of planes or frames, an .onnx, or {' or '.join(NAMES)}; may be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every latency there as well")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis compare``."""
    check_outputs([arguments.json], [arguments.checkpoint, *map(find_model, arguments.engine or [])])
    comparison = compare(arguments)
    print(comparison.to_text(), flush=True)
    if arguments.json is not None:
        write_json(arguments.json, comparison.to_json(), allow_nan=False)
    return 0
