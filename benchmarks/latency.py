"""Per-frame latency, stage by stage, back to back or at a camera's rate, and its summary statistics."""

import math
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from irvis.runtime import Fuser

STAGES = ("pre", "h2d", "compute", "d2h", "post", "total")
BINS = 40  # of a histogram

# stage -> its milliseconds, frame by frame; None if the backend cannot tell the stage apart.
Latencies = Dict[str, Optional[List[float]]]


@dataclass(frozen=True)
class Summary:
    """Latencies of one stage in milliseconds. No outlier is left out."""

    count: int
    mean_ms: float
    std_ms: float  # of the sample (ddof 1)
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    p999_frames: int  # frames at p99.9 or above, all that it rests on
    max_ms: float
    min_ms: float

    @property
    def fps(self) -> float:
        """Frames a second at the mean; infinite for a stage that takes no measurable time."""
        return 1e3 / self.mean_ms if self.mean_ms else float("inf")


@dataclass(frozen=True)
class Run:
    """The timings of a run, frame by frame."""

    latencies: Latencies
    starts_s: List[float]  # of each call, by the monotonic clock
    ends_s: List[float]
    rate_hz: Optional[float] = None  # of the camera; None: back to back
    arrivals_s: Optional[List[float]] = None  # of each fused frame; only with a rate
    dropped: int = 0  # frames that a newer one overtook while they waited

    @property
    def calls_ms(self) -> List[float]:
        """The whole call, frame by frame."""
        return self.latencies["total"] or []

    @property
    def latencies_ms(self) -> List[float]:
        """What a robot waits for: the time from a frame's arrival (or the call, without a rate) to the fused frame."""
        if self.arrivals_s is None:
            return self.calls_ms
        return [(end_s - arrival_s) * 1e3 for end_s, arrival_s in zip(self.ends_s, self.arrivals_s)]

    @property
    def late(self) -> Optional[int]:
        """Frames that came out after the next had arrived; None without a rate."""
        return None if self.rate_hz is None else sum(value > 1e3 / self.rate_hz for value in self.latencies_ms)

    @property
    def start_s(self) -> float:
        """Start of the timed region."""
        return self.starts_s[0] if self.arrivals_s is None else self.arrivals_s[0]

    @property
    def seconds(self) -> float:
        """Length of the timed region, to the end of the last frame."""
        return self.ends_s[-1] - self.start_s

    @property
    def between_us(self) -> Optional[float]:
        """Mean time between back-to-back calls, in microseconds: what the benchmark itself costs per frame."""
        if self.rate_hz is not None or len(self.starts_s) < 2:
            return None
        return float(np.mean(np.subtract(self.starts_s[1:], self.ends_s[:-1]))) * 1e6


def summarize(values_ms: Sequence[float]) -> Summary:
    """Summarize latencies in milliseconds; percentiles interpolate linearly. Raises ValueError for none, or a NaN."""
    # Sorted, so that the order of the frames cannot change even the last bit of the mean.
    values = np.sort(np.asarray(values_ms, np.float64))
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"latencies must be finite numbers, at least one. Got {list(values_ms)[:8]}")
    p50, p90, p95, p99, p999 = (float(value) for value in np.percentile(values, (50, 90, 95, 99, 99.9)))
    return Summary(
        count=int(values.size),
        mean_ms=float(values.mean()),
        std_ms=float(values.std(ddof=1)) if values.size > 1 else 0.0,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p999_ms=p999,
        # The greatest is always one of them, even if interpolation rounds p99.9 above it.
        p999_frames=max(1, int(np.sum(values >= p999))),
        max_ms=float(values[-1]),
        min_ms=float(values[0]),
    )


def jitter_ms(values_ms: Sequence[float]) -> float:
    """Return the mean absolute difference between consecutive latencies (RFC 3393's, averaged)."""
    return float(np.mean(np.abs(np.diff(values_ms)))) if len(values_ms) > 1 else 0.0


def histogram(values_ms: Sequence[float]) -> Dict[str, Any]:
    """Count the latencies in 40 equal bins from the least to the greatest, so that none lies outside."""
    counts, edges_ms = np.histogram(values_ms, BINS)
    return {"edges_ms": edges_ms.tolist(), "counts": counts.tolist()}


def run_frames(
    fuser: Fuser,
    infrared: np.ndarray,
    visible: np.ndarray,
    frames: int,
    rate_hz: Optional[float] = None,
    progress: Optional[Callable[[], object]] = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Run:
    """Fuse one pair ``frames`` times, and time each.

    With ``rate_hz`` a frame arrives at each multiple of the period, as from a camera: the newest that has arrived is
    fused (or the next one awaited), and older ones are dropped. Latency is measured from the arrival, so it includes
    waking up late and waiting for the previous frame.

    Args:
        fuser: an open Fuser.
        infrared: uint8 or uint16 (H, W).
        visible: uint8, BGR (H, W, 3) or grey (H, W).
        frames: how many to fuse, 1 or more.
        rate_hz: of the camera; None: back to back.
        progress: called after every frame, between the measured spans.
        clock: monotonic, in seconds.
        sleep: waits for the given seconds.

    Raises IrvisError if the frames cannot be fused.
    """
    times, starts_s, ends_s, arrivals_s = [], [], [], []
    begin_s, arrived, dropped = clock(), -1, 0
    for _ in range(frames):
        if rate_hz is not None:
            newest = math.floor((clock() - begin_s) * rate_hz)
            dropped += max(newest - arrived - 1, 0)
            arrived = max(newest, arrived + 1)
            arrivals_s.append(begin_s + arrived / rate_hz)
            sleep(max(arrivals_s[-1] - clock(), 0.0))
        starts_s.append(clock())
        fuser(infrared, visible)
        ends_s.append(clock())
        times.append(fuser.times)
        if progress is not None:
            progress()
    latencies = {stage: _column([getattr(frame, f"{stage}_ms") for frame in times]) for stage in STAGES}
    return Run(latencies, starts_s, ends_s, rate_hz, None if rate_hz is None else arrivals_s, dropped)


def measure(
    fuser: Fuser,
    infrared: np.ndarray,
    visible: np.ndarray,
    iterations: int,
    warmup: int,
    progress: Optional[Callable[[], object]] = None,
) -> Latencies:
    """Fuse one pair back to back, ``warmup`` times unrecorded, then ``iterations`` times; see ``run_frames``."""
    if iterations < 1 or warmup < 0:
        raise ValueError(f"iterations must be 1 or more, warmup 0 or more. Got {iterations} and {warmup}")
    run_frames(fuser, infrared, visible, warmup, progress=progress)
    return run_frames(fuser, infrared, visible, iterations, progress=progress).latencies


def _column(values: List[Optional[float]]) -> Optional[List[float]]:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None
