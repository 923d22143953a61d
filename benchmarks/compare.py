"""Compare the latency of one student in every form, the forms in turn in one run: ``irvis compare``.

Absolute times are noise on a shared machine; what else it does falls on all forms of a round alike, and ratios stand.
A latency spans from planes in the host's memory to the fused plane there, or from frames to the fused frame for a model
that takes those: it does the luminance and the colour too.

PyTorch on a CPU is much slower unless freed memory stays with the process: set the MALLOC_ variables of the Makefile.
"""

import argparse
import random
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from irvis.benchmarks.bench import heading
from irvis.benchmarks.machine.board import Board, read_board
from irvis.export.deploy import DeployStudent
from irvis.export.sample_frames import Frames, to_planes
from irvis.export.to_onnx import export
from irvis.runtime.backend import Backend, open_backend
from irvis.runtime.errors import ModelError
from irvis.runtime.files import check_writable, sha256, write_json
from irvis.runtime.frames import join_luminance, split_luminance
from irvis.runtime.providers import CPU
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import NAMES, find_model
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_count, parse_size
from irvis.runtime.version import irvis_version
from irvis.student.checkpoint import load_student

SCHEMA_VERSION = 1
EAGER, PLAIN, DEPLOY = "PyTorch", "plain ONNX", "deploy ONNX"
REFERENCES = (EAGER, PLAIN)

# Fuses the one pair that all forms are timed on: float32 (H, W), or uint8 BGR (H, W, 3).
Run = Callable[[], np.ndarray]


class Quartiles(NamedTuple):
    """The middle half of some values."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def take_turns(
    runs: Dict[str, Run], rounds: int, progress: Optional[Callable[[], object]] = None, seed: int = 0
) -> Dict[str, List[float]]:
    """Time each form once a round, after one round of warm-up; give milliseconds, round by round.

    The order is drawn anew in each round, so that no form always follows the same: it would find the caches and the
    other's idle threads as that one leaves them.
    """
    order, draw = list(runs), random.Random(seed)
    latencies_ms: Dict[str, List[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        draw.shuffle(order)
        for name in order:
            start = time.perf_counter()
            runs[name]()
            latency_ms = (time.perf_counter() - start) * 1e3
            if index:
                latencies_ms[name].append(latency_ms)
            if progress is not None:
                progress()
    return latencies_ms


def time_forms(runs: Dict[str, Run], rounds: int) -> Dict[str, List[float]]:
    """``take_turns`` under a progress bar."""
    total = len(runs) * (rounds + 1)
    with tqdm(total=total, unit="frame", desc="time", leave=False, disable=None, file=sys.stderr) as bar:
        return take_turns(runs, rounds, bar.update)


def ratio(over: List[float], under: List[float]) -> Quartiles:
    """Give the quartiles, over rounds, of the ratio of two forms' latencies in the same round."""
    low, middle, high = np.percentile(np.divide(over, under), (25, 50, 75))
    return Quartiles(float(low), float(middle), float(high))


def align(rows: Sequence[Sequence[str]]) -> str:
    """Give a table's cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def largest_difference(found: np.ndarray, fused: np.ndarray, visible: np.ndarray) -> float:
    """Give max |found - fused|, of a range of 1; a frame is held against the frame that the runtime makes of ``fused``.

    Args:
        found: float32 (H, W), or uint8 BGR (H, W, 3).
        fused: the reference, float32 (H, W).
        visible: uint8 BGR (H, W, 3).
    """
    if found.dtype == np.uint8:
        return float(cv2.absdiff(found, join_luminance(fused, split_luminance(visible))).max()) / 255
    return float(np.abs(found - fused).max())


def run_eager(student: nn.Module, device: str, planes: np.ndarray) -> np.ndarray:
    """Fuse float32 (2, H, W) in PyTorch, on the CPU or a GPU, as a program without this package would."""
    with torch.inference_mode():
        infrared, visible = torch.from_numpy(planes).to(device)[:, None, None]
        return student(infrared, visible)[0, 0].cpu().numpy()


def export_form(network: nn.Module, path: Path, frames: Frames) -> None:
    """Export a network of planes just as it is, for the frames' size, checked on them. Raises ModelError."""
    infrared, visible = frames
    pairs = [(infrared, split_luminance(visible).y)]
    export(network, path, infrared.shape, plain=True, pairs=pairs)  # type: ignore[arg-type]


def open_form(model: Path, frames: Frames, arguments: argparse.Namespace, stack: ExitStack) -> Tuple[Backend, Run]:
    """Open a model, to be closed by ``stack``, and bind the frames to it. Raises FileError and ModelError."""
    backend = stack.enter_context(closing(open_backend(model, [arguments.provider], arguments.threads)))
    size = frames[0].shape
    if backend.size is not None and backend.size != size:
        raise ModelError(
            f"{model} takes {format_size(backend.size)} alone, not --size {format_size(size)}; make it for that size"
        )
    return backend, partial(backend.run, *(frames if backend.takes_frames else to_planes(frames)))


@dataclass(frozen=True)
class Comparison:
    """One run over all forms, by name, ``EAGER`` first."""

    board: Board
    checkpoint: Path
    size: Tuple[int, int]  # (H, W)
    threads: int
    backends: Dict[str, str]  # what runs each form
    latencies_ms: Dict[str, List[float]]  # round by round
    differences: Dict[str, float]  # from EAGER, of a range of 1

    @property
    def rounds(self) -> int:
        """How often each form was timed."""
        return len(self.latencies_ms[EAGER])

    def speedup(self, form: str, reference: str) -> Quartiles:
        """How many times as fast as the reference a form is."""
        return ratio(self.latencies_ms[reference], self.latencies_ms[form])

    def to_text(self) -> str:
        """The table for people."""
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
        """The same for programs, with every latency."""
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
            "irvis": irvis_version(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "host": self.board.host,
            "cpu": self.board.cpu,
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
    torch.backends.cudnn.allow_tf32 = False  # it is the reference that the others are held against
    with ExitStack() as stack:
        # The given ones first, so that one that does not run here is told before the exports, which take a while.
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


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe what is timed, and how."""
    parser.add_argument(
        "checkpoint",
        type=partial(find_model, suffix=".safetensors"),
        nargs="?",
        default=find_model(None, ".safetensors"),
        help="student.safetensors, or a .pt or .pth state dict; student, the default, or fast, which irvis ships",
    )
    parser.add_argument(
        "--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="frame size (default: 480x640)"
    )
    parser.add_argument("--rounds", type=parse_count, default=30, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--threads", type=parse_count, default=2, metavar="N", help="CPU threads (default: %(default)s)"
    )
    parser.add_argument(
        "--provider", default=CPU, metavar="NAME", help="execution provider of ONNX Runtime (default: %(default)s)"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``irvis compare``."""
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
    if arguments.json is not None:
        check_writable(arguments.json)
    comparison = compare(arguments)
    print(comparison.to_text(), flush=True)
    if arguments.json is not None:
        write_json(arguments.json, comparison.to_json(), allow_nan=False)
    return 0
