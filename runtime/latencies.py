"""Latency statistics of a run of any length, in constant memory."""

import math
from typing import Any, Dict, Optional

import numpy as np

LEAST_MS, MOST_MS = 0.01, 1e5
STEP = 1.01  # ratio of neighbouring bins: a percentile is within half a percent of the true one
PERCENTILES = (50, 90, 99)


class Latencies:
    """Counts latencies, in milliseconds, in bins of equal ratio, and those that exceed a deadline."""

    def __init__(self, deadline_ms: float) -> None:
        self.deadline_ms = deadline_ms
        self.count = self.missed = 0
        self.max_ms: Optional[float] = None  # until one was counted
        self._bins = np.zeros(math.ceil(math.log(MOST_MS / LEAST_MS, STEP)) + 1, np.int64)

    def add(self, latency_ms: float) -> None:
        """Count one latency."""
        self.count += 1
        self.missed += latency_ms > self.deadline_ms
        self.max_ms = latency_ms if self.max_ms is None else max(self.max_ms, latency_ms)
        ratio = min(max(latency_ms, LEAST_MS), MOST_MS) / LEAST_MS
        self._bins[round(math.log(ratio, STEP))] += 1

    def percentile_ms(self, percent: float) -> Optional[float]:
        """Return this percentile of the latencies, within 0.5 %; None if there are none."""
        if self.max_ms is None:
            return None
        index = int(np.searchsorted(np.cumsum(self._bins), math.ceil(self.count * percent / 100)))
        return min(LEAST_MS * STEP**index, self.max_ms)

    def status(self) -> Dict[str, Any]:
        """Return the counts and the latencies, as plain numbers; a latency is None if there are none."""
        return {
            "fused": self.count,
            "deadline_ms": self.deadline_ms,
            "missed_deadlines": self.missed,
            "latency_max_ms": self.max_ms,
            **{f"latency_p{percent}_ms": self.percentile_ms(percent) for percent in PERCENTILES},
        }
