"""Compare whole calls of several models, timed in turn in one process: ``bench.py turns``.

Two reports of ``bench.py`` differ in when they were made: other load and temperature are part of their ratio. Here each
model fuses one frame in every round, so that whatever else happens on the machine affects all of them alike.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from irvis.benchmarks.machine.board import Board, read_board
from irvis.benchmarks.report.report import heading, stamp
from irvis.benchmarks.turns import Run, ratio, time_forms
from irvis.runtime.columns import align
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import sha256
from irvis.runtime.fuser import Fuser
from irvis.runtime.samples import make_scene
from irvis.runtime.sizes import DEFAULT_SIZE, format_size

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TimedFuser:
    """One model, and what its calls took in every round, in milliseconds."""

    name: str  # as it was given
    sha256: str
    backend: str
    size: Tuple[int, int]  # (H, W) at which the network works
    pre_ms: List[float]
    post_ms: List[float]
    total_ms: List[float]


@dataclass(frozen=True)
class FuserTurns:
    """One run over all models; the first is what the others are compared with."""

    board: Board
    size: Tuple[int, int]  # (H, W) of the frames
    threads: Optional[int]
    fusers: List[TimedFuser]

    def to_text(self) -> str:
        """Return the run as a table."""
        first = self.fusers[0]
        threads = f", {self.threads} CPU threads" if self.threads is not None else ""
        lines = [
            heading(self.board, None),
            f"frames of {format_size(self.size)} (HEIGHTxWIDTH){threads}, {len(first.total_ms)} rounds after one of "
            "warm-up; medians in ms, and quartiles of the ratio over rounds",
            "",
        ]
        rows = [("model", "works at", "pre", "post", "total", f"times as fast as {first.name}", "run by")]
        for fuser in self.fusers:
            pre, post, total = (f"{median(values):.2f}" for values in (fuser.pre_ms, fuser.post_ms, fuser.total_ms))
            compared = "" if fuser is first else str(ratio(first.total_ms, fuser.total_ms))
            rows.append((fuser.name, format_size(fuser.size), pre, post, total, compared, fuser.backend))
        return "\n".join([*lines, align(rows)])

    def to_json(self) -> Dict[str, Any]:
        """Return the same as JSON, with the times of every round."""
        first = self.fusers[0]
        return {
            "schema_version": SCHEMA_VERSION,
            **stamp(self.board),
            "size": format_size(self.size),
            "threads": self.threads,
            "models": [
                {
                    "model": fuser.name,
                    "sha256": fuser.sha256,
                    "backend": fuser.backend,
                    "size": format_size(fuser.size),
                    "pre_ms": fuser.pre_ms,
                    "post_ms": fuser.post_ms,
                    "total_ms": fuser.total_ms,
                    "times_as_fast_as_the_first": ratio(first.total_ms, fuser.total_ms)._asdict(),
                }
                for fuser in self.fusers
            ],
        }


def take_turns_of_fusers(
    models: Sequence[Union[str, Path]],
    rounds: int,
    size: Optional[Tuple[int, int]] = None,
    resize: bool = False,
    threads: Optional[int] = None,
) -> FuserTurns:
    """Open all models, and time their calls in turn on one generated pair of colour frames.

    Args:
        models: at least two, each as ``Fuser`` takes it.
        rounds: how often each fuses the pair, after one round of warm-up.
        size: (H, W) of the frames; None: that of the first model of a fixed size, or 480x640. With ``resize``: 480x640.
        resize: fit the frames to the models of another size.
        threads: CPU threads of ONNX Runtime.

    Raises IrvisError if a model cannot be opened, or does not take the frames.
    """
    if len(models) < 2:
        raise IrvisError(f"give two models or more to time in turn. Got {', '.join(map(str, models))}")
    with ExitStack() as stack:
        fusers = [stack.enter_context(Fuser(model, resize=resize, threads=threads)) for model in models]
        if size is None:
            fixed = [fuser.size for fuser in fusers if fuser.size is not None]
            size = fixed[0] if fixed and not resize else DEFAULT_SIZE
        frames = make_scene("street", *size)
        times: List[List[Tuple[float, float]]] = [[] for _ in fusers]

        def fuse(fuser: Fuser, found: List[Tuple[float, float]]) -> np.ndarray:
            fused = fuser(*frames)
            assert fuser.times is not None  # set by every call
            found.append((fuser.times.pre_ms, fuser.times.post_ms))
            return fused

        runs: Dict[str, Run] = {str(index): partial(fuse, *each) for index, each in enumerate(zip(fusers, times))}
        totals_ms = time_forms(runs, rounds)
        timed = [
            TimedFuser(
                name=str(model),
                sha256=sha256(fuser.model),
                backend=fuser.backend.name,
                size=fuser.size or size,
                pre_ms=[pre_ms for pre_ms, _ in found[1:]],
                post_ms=[post_ms for _, post_ms in found[1:]],
                total_ms=totals_ms[str(index)],
            )
            for index, (model, fuser, found) in enumerate(zip(models, fusers, times))
        ]
    return FuserTurns(read_board(), size, threads, timed)
