"""Whether a run can be trusted: how much its latency varies and drifts, and what happened to the machine meanwhile."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

from irvis.benchmarks.machine.conditions import Conditions

LEAST_FRAMES = 100  # of which p99 rests on one
MOST_VARIATION = 0.10  # standard deviation over mean
MOST_DRIFT = 0.05  # of the median, from the first third to the last
MOST_WARMING_C = 5.0
MOST_CLOCK_CHANGE = 0.05

History = Sequence[Tuple[float, Conditions]]  # seconds by the monotonic clock, in order


@dataclass(frozen=True)
class Stability:
    """The verdict on a run, and the figures that it rests on."""

    reasons: List[str]  # why it cannot be trusted; empty: it can be
    variation: float  # coefficient of variation: standard deviation over mean
    drift: float  # median of the last third over that of the first, less 1
    warming_c: Optional[float]  # of the zone that warmed most; None: no zone can be read
    gpu_hz: Optional[Tuple[int, int]]  # least and greatest clock seen in the timed region
    cpu_hz: Optional[Tuple[int, int]]

    @property
    def trusted(self) -> bool:
        """Whether there is no reason to doubt it."""
        return not self.reasons


def judge(
    values_ms: Sequence[float],
    history: History,
    region_s: Tuple[float, float],
    at_rate: bool,
    changes: Sequence[str] = (),
) -> Stability:
    """Judge a run.

    Args:
        values_ms: latencies in order.
        history: looks at the machine, one before the run, one after it, and any between.
        region_s: start and end of the timed region.
        at_rate: frames came with gaps, in which unlocked clocks drop by design, so that changes do not count.
        changes: what else changed during the run.
    """
    values = np.asarray(values_ms, np.float64)
    third = max(len(values) // 3, 1)
    variation = float(values.std(ddof=1) / values.mean()) if len(values) > 1 and values.mean() > 0 else 0.0
    first, last = np.median(values[:third]), np.median(values[-third:])
    drift = float(last / first - 1) if first > 0 else 0.0
    reasons = list(changes)
    if len(values) < LEAST_FRAMES:
        reasons.append(f"{len(values)} frames are too few, take {LEAST_FRAMES} or more")
    if variation > MOST_VARIATION:
        reasons.append(f"latency varies by {variation:.0%} (coefficient of variation), more than {MOST_VARIATION:.0%}")
    if abs(drift) > MOST_DRIFT:
        reasons.append(f"latency drifted by {drift:+.0%} from the first third to the last, more than {MOST_DRIFT:.0%}")
    warming = _warming_c(history)
    if warming is not None and warming[0] > MOST_WARMING_C:
        reasons.append(
            f"{warming[1]} warmed by {warming[0]:.1f} °C, more than {MOST_WARMING_C:.0f}: warm up for longer"
        )
    reasons += _throttling(history)
    inside = [look for stamp_s, look in history if region_s[0] <= stamp_s <= region_s[1]]
    clocks_are_read = any(look.gpu_hz is not None or look.cpu_hz is not None for _, look in history)
    if clocks_are_read and not inside and not at_rate:
        reasons.append("the run was over before its clocks could be read: take more frames")
    ranges = []
    for name, values_hz in (("GPU", [look.gpu_hz for look in inside]), ("CPU", [look.cpu_hz for look in inside])):
        known_hz = [value for value in values_hz if value is not None]
        ranges.append((min(known_hz), max(known_hz)) if known_hz else None)
        if known_hz and not at_rate and max(known_hz) > min(known_hz) * (1 + MOST_CLOCK_CHANGE):
            span = f"{min(known_hz) / 1e6:.0f} to {max(known_hz) / 1e6:.0f} MHz"
            reasons.append(f"the {name}'s clock moved, {span}")
    return Stability(reasons, variation, drift, warming[0] if warming else None, *ranges)


def _warming_c(history: History) -> Optional[Tuple[float, str]]:
    if len(history) < 2:
        return None
    before, after = history[0][1].temperatures_c, history[-1][1].temperatures_c
    rises = [(after[zone] - before[zone], zone) for zone in before if zone in after]
    return max(rises) if rises else None


def _throttling(history: History) -> List[str]:
    """Return each cause of throttling seen at any look, once, and each counter that went up."""
    if not history:
        return []
    seen = {name: f"{name} {detail}" for _, look in history for name, detail in look.throttling.items()}
    before, after = history[0][1].events, history[-1][1].events
    counted = [
        f"{name} went up by {after[name] - before[name]}" for name in before if after.get(name, 0) > before[name]
    ]
    return [f"throttled: {text}" for text in [*seen.values(), *counted]]
