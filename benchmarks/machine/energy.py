"""Energy of a run, integrated over its timed region from samples of power or of a counter of energy."""

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from irvis.benchmarks.machine.meters import Meter

Samples = Sequence[Tuple[float, Dict[str, float]]]  # seconds, and watts or joules by rail


@dataclass(frozen=True)
class Energy:
    """The energy that a run's frames took."""

    meter: str
    rate_hz: float  # the requested sampling rate
    samples: int  # in the timed region
    seconds: float
    frames: int
    rails_w: Dict[str, float]  # mean power by rail
    idle_w: Optional[float]  # mean power of all rails before, with the model loaded but idle; None: not measured

    @property
    def mean_w(self) -> float:
        """Mean power of all rails."""
        return sum(self.rails_w.values())

    @property
    def mj_per_frame(self) -> float:
        """Energy of all rails over the timed region, per frame, in millijoules."""
        return self.mean_w * self.seconds / self.frames * 1e3

    @property
    def mj_per_frame_above_idle(self) -> Optional[float]:
        """The same without what the machine takes when idle. May be negative, by noise."""
        return None if self.idle_w is None else (self.mean_w - self.idle_w) * self.seconds / self.frames * 1e3

    @property
    def fps_per_watt(self) -> Optional[float]:
        """Frames per second per watt, which is frames per joule."""
        return 1e3 / self.mj_per_frame if self.mj_per_frame > 0 else None

    @property
    def fps_per_watt_above_idle(self) -> Optional[float]:
        """The same for the power above idle; None if that is unknown or not positive."""
        above = self.mj_per_frame_above_idle
        return 1e3 / above if above is not None and above > 0 else None


def mean_power_w(samples: Samples, meter: Meter, start_s: float, end_s: float) -> Optional[Dict[str, float]]:
    """Return each rail's mean power from ``start_s`` to ``end_s``; None unless samples lie on both sides of that.

    Power is integrated by trapezoids, interpolated linearly between samples, so that the region's ends need not be
    samples. A counter is interpolated linearly too, and unwrapped where it restarted at 0.
    """
    if len(samples) < 2 or end_s <= start_s or not samples[0][0] <= start_s <= end_s <= samples[-1][0]:
        return None
    times_s = np.array([stamp_s for stamp_s, _ in samples])
    means = {}
    for rail in samples[0][1]:
        values = np.array([reading[rail] for _, reading in samples])
        if meter.is_counter:
            joules = _unwound(values, meter.wraps_at_j.get(rail, 0))
            start_j, end_j = np.interp((start_s, end_s), times_s, joules)
            means[rail] = float(end_j - start_j) / (end_s - start_s)
        else:
            inside = times_s[(times_s > start_s) & (times_s < end_s)]
            stamps_s = np.concatenate(([start_s], inside, [end_s]))
            watts = np.interp(stamps_s, times_s, values)
            means[rail] = float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(stamps_s))) / (end_s - start_s)
    return means


def count_inside(samples: Samples, start_s: float, end_s: float) -> int:
    """Return the number of samples in the region."""
    return sum(start_s <= stamp_s <= end_s for stamp_s, _ in samples)


def _unwound(values: np.ndarray, wraps_at: float) -> np.ndarray:
    steps = np.diff(values)
    steps[steps < 0] += wraps_at
    return np.concatenate(([0.0], np.cumsum(steps)))
