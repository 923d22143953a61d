"""Per-frame latency, stage by stage, and the figures that sum it up."""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from irvis.runtime import Fuser

STAGES = ("pre", "h2d", "compute", "d2h", "post", "total")

# stage -> its milliseconds, frame by frame; None where the backend cannot tell the stage apart.
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
    max_ms: float
    min_ms: float

    @property
    def fps(self) -> float:
        """Frames a second at the mean; infinite for a stage that takes no measurable time."""
        return 1e3 / self.mean_ms if self.mean_ms else float("inf")


def summarize(values_ms: Sequence[float]) -> Summary:
    """Sum up latencies in milliseconds; percentiles interpolate linearly. Raises ValueError for none, or a NaN."""
    # Sorted, so that the order of the frames cannot show even in the last bit of the mean.
    values = np.sort(np.asarray(values_ms, np.float64))
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"latencies must be finite numbers, at least one. Got {list(values_ms)[:8]}")
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
    return Summary(
        count=int(values.size),
        mean_ms=float(values.mean()),
        std_ms=float(values.std(ddof=1)) if values.size > 1 else 0.0,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=float(values[-1]),
        min_ms=float(values[0]),
    )


def measure(
    fuser: Fuser,
    infrared: np.ndarray,
    visible: np.ndarray,
    iterations: int,
    warmup: int,
    progress: Optional[Callable[[], object]] = None,
) -> Latencies:
    """Fuse one pair back to back, ``warmup`` times unrecorded, then ``iterations`` times.

    Args:
        fuser: an open Fuser.
        infrared: uint8 or uint16 (H, W).
        visible: uint8, BGR (H, W, 3) or grey (H, W).
        iterations: frames to record, 1 or more.
        warmup: frames to fuse before those.
        progress: called after every frame, between the measured spans.

    Raises IrvisError where the frames cannot be fused.
    """
    if iterations < 1 or warmup < 0:
        raise ValueError(f"iterations must be 1 or more, warmup 0 or more. Got {iterations} and {warmup}")
    frames = []
    for frame in range(warmup + iterations):
        fuser(infrared, visible)
        if frame >= warmup:
            frames.append(fuser.times)
        if progress is not None:
            progress()
    return {stage: _column([getattr(times, f"{stage}_ms") for times in frames]) for stage in STAGES}


def _column(values: List[Optional[float]]) -> Optional[List[float]]:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None
