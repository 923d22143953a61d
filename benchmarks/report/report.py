"""The report of one run: its machine, its model, every latency, and reasons to doubt it."""

from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from irvis.benchmarks.accuracy import Accuracy
from irvis.benchmarks.latency import Run, Summary, histogram, jitter_ms, summarize
from irvis.benchmarks.machine.board import Board
from irvis.benchmarks.machine.energy import Energy
from irvis.benchmarks.machine.requirements import find_doubts
from irvis.benchmarks.report.stability import History, Stability, judge
from irvis.runtime.errors import printable
from irvis.runtime.sizes import format_size
from irvis.runtime.version import irvis_version

SCHEMA_VERSION = 2
PAPER_MEAN_MS, PAPER_STD_MS = 250.31, 7.17
PAPER_SIZE, PAPER_MODE = (480, 640), "MAXN"
PAPER = (
    f"paper: {PAPER_MEAN_MS} ± {PAPER_STD_MS} ms a frame (Jetson AGX Xavier, {PAPER_MODE}, PyTorch, "
    f"{PAPER_SIZE[1]}x{PAPER_SIZE[0]})"
)


class ColdStart(NamedTuple):
    """What a robot waits for once, in milliseconds."""

    load_ms: float  # imports of the runtime, opening the model, and building its engine if there was none
    first_frame_ms: float


class Model(NamedTuple):
    """What was measured."""

    file: Path
    sha256: str
    precision: Optional[str]  # of an engine; None: the ONNX's
    built_error: Optional[Dict[str, Any]]  # against its ONNX, from its sidecar; None: no engine, or not measured


@dataclass(frozen=True)
class Report:
    """One run."""

    board: Board
    verified_mode: Optional[str]  # the power mode that was requested and read back; None: not requested
    model: Model
    backend: str
    size: Tuple[int, int]  # (H, W)
    warmup: int
    threads: Optional[int]
    cold: ColdStart
    run: Run
    history: History  # looks at the machine, the first before the run and the last after it
    model_size: Optional[Tuple[int, int]] = None  # (H, W) to which the frames are resized; None: not resized
    changes: Tuple[str, ...] = ()  # of the machine's settings while the model ran
    energy: Optional[Energy] = None
    accuracy: Optional[Accuracy] = None
    not_measured: Dict[str, str] = field(default_factory=dict)  # why energy, error or quality is missing

    @property
    def summaries(self) -> Dict[str, Optional[Summary]]:
        """Stage -> its figures; None: not measured."""
        return {stage: summarize(values) if values else None for stage, values in self.run.latencies.items()}

    @property
    def total(self) -> Summary:
        """The figures of the whole call."""
        return summarize(self.run.calls_ms)

    @property
    def doubts(self) -> List[str]:
        """The watermark: what is not known or not locked in the machine's state."""
        return find_doubts(self.board, self.verified_mode)

    @property
    def stability(self) -> Stability:
        """The verdict on whether the run can be trusted."""
        run = self.run
        region_s = (run.start_s, run.ends_s[-1])
        return judge(run.calls_ms, self.history, region_s, run.rate_hz is not None, self.changes)

    @property
    def differences(self) -> List[str]:
        """Why this run may not be compared with the paper's figure; empty if it may."""
        found = []
        if not self.board.is_agx_xavier:
            found.append("this machine is not known to be a Jetson AGX Xavier")
        elif self.verified_mode is None:
            found.append(f"the power mode was not verified (--mode {PAPER_MODE})")
        elif self.verified_mode != PAPER_MODE:
            found.append(f"the power mode is {self.verified_mode}, not {PAPER_MODE}")
        if self.size != PAPER_SIZE:
            found.append(f"the frames are {format_size(self.size)}, not {format_size(PAPER_SIZE)} (HEIGHTxWIDTH)")
        if self.model_size is not None:
            found.append(f"the network works on {format_size(self.model_size)}, to which the frames are resized")
        return found

    @property
    def paper_ratio(self) -> Optional[float]:
        """The paper's mean over this run's; None if the two may not be compared."""
        return None if self.differences else PAPER_MEAN_MS / self.total.mean_ms

    def to_json(self) -> Dict[str, Any]:
        """Return the report as JSON that follows ``schema.json``."""
        run, stability, energy = self.run, self.stability, self.energy
        stages = {stage: asdict(summary) if summary else None for stage, summary in self.summaries.items()}
        return {
            "schema_version": SCHEMA_VERSION,
            "irvis": irvis_version(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "watermark": self.doubts,
            "trusted": stability.trusted,
            "stability": asdict(stability),
            "board": asdict(self.board),
            "verified_mode": self.verified_mode,
            "model": {**self.model._asdict(), "file": printable(self.model.file.name)},
            "backend": self.backend,
            "size": _size(self.size),
            "model_size": _size(self.model_size) if self.model_size else None,
            "iterations": self.total.count,
            "warmup": self.warmup,
            "threads": self.threads,
            "cold_start": self.cold._asdict(),
            "rate_hz": run.rate_hz,
            "late": run.late,
            "dropped": run.dropped,
            "seconds": run.seconds,
            "delivered_fps": self.total.count / run.seconds,
            "fps": self.total.fps,
            "latency": asdict(summarize(run.latencies_ms)),
            "jitter_ms": jitter_ms(run.latencies_ms),
            "stages": stages,
            "between_us": run.between_us,
            "histogram": histogram(run.latencies_ms),
            "starts_s": [round(start_s - run.start_s, 6) for start_s in run.starts_s],
            "totals_ms": run.calls_ms,
            "latencies_ms": run.latencies_ms,
            "energy": None
            if energy is None
            else {
                **asdict(energy),
                "mean_w": energy.mean_w,
                "mj_per_frame": energy.mj_per_frame,
                "mj_per_frame_above_idle": energy.mj_per_frame_above_idle,
                "fps_per_watt": energy.fps_per_watt,
                "fps_per_watt_above_idle": energy.fps_per_watt_above_idle,
            },
            "accuracy": asdict(self.accuracy) if self.accuracy else None,
            "not_measured": self.not_measured,
            "history": [{"seconds": round(stamp_s - run.start_s, 3), **asdict(look)} for stamp_s, look in self.history],
            "paper": {
                "mean_ms": PAPER_MEAN_MS,
                "std_ms": PAPER_STD_MS,
                "ratio": self.paper_ratio,
                "differences": self.differences,
            },
        }


def _size(size: Tuple[int, int]) -> Dict[str, int]:
    return {"height": size[0], "width": size[1]}


def stamp(board: Board) -> Dict[str, Any]:
    """Return what the JSON of a comparison says of its making: irvis's version, the time, and the machine."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"irvis": irvis_version(), "created": created, "host": board.host, "cpu": board.cpu}


def heading(board: Board, verified_mode: Optional[str]) -> str:
    """Return the machine's name: with module and power mode only if the mode was requested and read back."""
    software = f"{board.os}, Python {board.python}"
    if not board.is_jetson or verified_mode is None:
        unverified = "; power mode not verified" if board.is_jetson else ""
        gpu = f", {board.gpu}" if board.gpu else ""
        return f"{board.host}: {board.cpu}{gpu}, {software}{unverified}"
    module = board.module or "Jetson"
    name = f"Jetson AGX Xavier ({module})" if board.is_agx_xavier else module
    clock = "GPU clock unknown"
    if board.gpu_clock is not None:
        clock = "GPU clock not locked (`sudo jetson_clocks` locks it)"
        if board.gpu_clock.locked:
            clock = f"GPU clock locked at {board.gpu_clock.current_hz / 1e6:.0f} MHz"
    release = f"L4T {board.l4t or 'unknown'}" + (f" (JetPack {board.jetpack})" if board.jetpack else "")
    return f"{name}, {release}, power mode {board.mode}, {clock}; {board.host}, {software}"
