"""Measure the latency of a student or an engine on this machine, stage by stage, beside the paper's figure."""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

try:
    from tqdm import tqdm

    from irvis.benchmarks.board import Board, read_board, require_mode
    from irvis.benchmarks.latency import Latencies, Summary, measure, summarize
    from irvis.runtime import Fuser, IrvisError
    from irvis.runtime.cli import guarded
    from irvis.runtime.files import check_writable, sha256, write_bytes
    from irvis.runtime.samples import make_scene
    from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_size
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    clone = Path(__file__).resolve().parents[1]
    raise SystemExit(f"bench.py: {error.name} is not installed: run `pip install -e .` in {clone}") from None

SCHEMA_VERSION = 1
PAPER_MEAN_MS, PAPER_STD_MS = 250.31, 7.17
PAPER_SIZE, PAPER_MODE = (480, 640), "MAXN"
PAPER = (
    f"paper: {PAPER_MEAN_MS} ± {PAPER_STD_MS} ms a frame (Jetson AGX Xavier, {PAPER_MODE}, PyTorch, "
    f"{PAPER_SIZE[1]}x{PAPER_SIZE[0]})"
)
COLUMNS = ("mean", "std", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True)
class Report:
    """One run: where, on what, and every latency of it."""

    board: Board
    verified_mode: Optional[str]  # the power mode that was asked for and read back; None: not asked
    model: Path
    model_sha256: str
    backend: str
    size: Tuple[int, int]  # (H, W)
    warmup: int
    threads: Optional[int]
    latencies: Latencies

    @property
    def summaries(self) -> Dict[str, Optional[Summary]]:
        """Stage -> its figures; None: not measured."""
        return {stage: summarize(values) if values else None for stage, values in self.latencies.items()}

    @property
    def total(self) -> Summary:
        """The figures of the whole call."""
        return summarize(self.latencies["total"] or [])

    @property
    def differences(self) -> List[str]:
        """What keeps this run from standing beside the paper's figure; empty where they may be compared."""
        found = []
        if not self.board.is_agx_xavier:
            found.append("this machine is not known to be a Jetson AGX Xavier")
        elif self.verified_mode is None:
            found.append(f"the power mode was not verified (--mode {PAPER_MODE})")
        elif self.verified_mode != PAPER_MODE:
            found.append(f"the power mode is {self.verified_mode}, not {PAPER_MODE}")
        if self.size != PAPER_SIZE:
            found.append(f"the frames are {format_size(self.size)}, not {format_size(PAPER_SIZE)} (HEIGHTxWIDTH)")
        return found

    @property
    def paper_ratio(self) -> Optional[float]:
        """The paper's mean over this one; None where the two may not be compared."""
        return None if self.differences else PAPER_MEAN_MS / self.total.mean_ms

    def to_text(self) -> str:
        """The report for people."""
        total = self.total
        lines = [
            heading(self.board, self.verified_mode),
            f"model    {self.model}",
            f"backend  {self.backend}" + (f", {self.threads} threads" if self.threads else ""),
            f"frames   {format_size(self.size)} (HEIGHTxWIDTH), {total.count} timed after {self.warmup} of warm-up",
            "",
            f"{'ms':<8}" + "".join(f"{column:>10}" for column in COLUMNS),
        ]
        for stage, summary in self.summaries.items():
            figures = "  not measured"
            if summary is not None:
                figures = "".join(f"{getattr(summary, f'{column}_ms'):>10.3f}" for column in COLUMNS)
            lines.append(f"{stage:<8}{figures}")
        lines += [f"fps     {total.fps:>10.2f}", "", PAPER]
        if self.paper_ratio is None:
            lines.append(f"no ratio to it: {'; '.join(self.differences)}")
        else:
            lines.append(
                f"ratio: {self.paper_ratio:.2f} = {PAPER_MEAN_MS} / {total.mean_ms:.2f} ms, this one from frames to "
                "fused frame; the paper names neither its JetPack nor what its time spans"
            )
        return "\n".join(lines)

    def to_json(self) -> Dict[str, Any]:
        """The report for programs: plain numbers, strings and None."""
        stages = {stage: asdict(summary) if summary else None for stage, summary in self.summaries.items()}
        return {
            "schema_version": SCHEMA_VERSION,
            "irvis": metadata.version("irvis"),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "board": asdict(self.board),
            "verified_mode": self.verified_mode,
            "model": {"file": self.model.name, "sha256": self.model_sha256},
            "backend": self.backend,
            "size": {"height": self.size[0], "width": self.size[1]},
            "iterations": self.total.count,
            "warmup": self.warmup,
            "threads": self.threads,
            "stages": stages,
            "fps": self.total.fps,
            "totals_ms": self.latencies["total"],
            "paper": {
                "mean_ms": PAPER_MEAN_MS,
                "std_ms": PAPER_STD_MS,
                "ratio": self.paper_ratio,
                "differences": self.differences,
            },
        }


def heading(board: Board, verified_mode: Optional[str]) -> str:
    """Name the machine: by its module and power mode only where the mode was asked for and read back."""
    software = f"{board.os}, Python {board.python}"
    if not board.is_jetson or verified_mode is None:
        unverified = "; power mode not verified" if board.is_jetson else ""
        return f"{board.host}: {board.cpu}, {software}{unverified}"
    module = board.module or "Jetson"
    name = f"Jetson AGX Xavier ({module})" if board.is_agx_xavier else module
    clock = {None: "GPU clock unknown", False: "GPU clock not locked (`sudo jetson_clocks` locks it)"}.get(
        board.clocks_locked, "GPU clock locked"
    )
    if board.gpu_clock is not None and board.clocks_locked:
        clock += f" at {board.gpu_clock.current_hz / 1e6:.0f} MHz"
    return f"{name}, L4T {board.l4t or 'unknown'}, power mode {board.mode}, {clock}; {board.host}, {software}"


def bench(arguments: argparse.Namespace) -> int:
    """Verify the mode, measure, print the report and write it as JSON. Raises IrvisError."""
    board = read_board()
    if arguments.mode is not None:
        require_mode(board, arguments.mode)
    if arguments.json is not None:
        check_writable(arguments.json)
    cache = {"engine_cache": arguments.engine_cache, "engine_size": arguments.size}
    with Fuser(arguments.engine or arguments.onnx, threads=arguments.threads, **cache) as fuser:
        size = _choose_size(arguments.size, fuser)
        infrared, visible = make_scene("street", *size)
        frames = arguments.warmup + arguments.iterations
        with tqdm(total=frames, unit="frame", desc="bench", leave=False, disable=None, file=sys.stderr) as bar:
            latencies = measure(fuser, infrared, visible, arguments.iterations, arguments.warmup, bar.update)
        model, backend = fuser.model, fuser.backend.name
    report = Report(
        board=board,
        verified_mode=arguments.mode,
        model=model,
        model_sha256=sha256(model),
        backend=backend,
        size=size,
        warmup=arguments.warmup,
        threads=arguments.threads,
        latencies=latencies,
    )
    print(report.to_text(), flush=True)
    if arguments.json is not None:
        document = json.dumps(report.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
        write_bytes(arguments.json, f"{document}\n".encode())
    return 0


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command; give its exit code: 0, 1 for a failure, 130 for Ctrl-C. Usage errors exit with 2."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--engine", type=Path, metavar="FILE", help="a TensorRT engine made by build_engine.py")
    model.add_argument("--onnx", type=Path, metavar="FILE", help="an ONNX; without either, the student irvis ships")
    parser.add_argument("--engine-cache", type=Path, metavar="DIR", help="run the ONNX by its engine, kept there")
    parser.add_argument("--mode", type=str.upper, help="refuse unless this is a Jetson in that power mode (MAXN)")
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="default: the model's, else 480x640")
    parser.add_argument("--iterations", type=_at_least(1), default=200, metavar="N", help="default: %(default)s")
    parser.add_argument("--warmup", type=_at_least(0), default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=_at_least(1), metavar="N", help="CPU threads of ONNX Runtime")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    arguments = parser.parse_args(argv)
    return guarded("bench.py", lambda: bench(arguments))


def _choose_size(asked: Optional[Tuple[int, int]], fuser: Fuser) -> Tuple[int, int]:
    if fuser.size is None:
        return asked or DEFAULT_SIZE
    if asked is not None and asked != fuser.size:
        raise IrvisError(
            f"--size {format_size(asked)} does not fit {fuser.model}, which takes {format_size(fuser.size)} alone; "
            "drop --size, or make the model for that size"
        )
    return fuser.size


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
