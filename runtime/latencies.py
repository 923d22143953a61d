"""Latency statistics of a run of any length, in constant memory."""

import math

import numpy as np

LEAST_MS, MOST_MS = 0.01, 1e5
STEP = 1.01  # ratio of neighbouring bins: a percentile is within half a percent of the true one


class Latencies:
    """Counts latencies, in milliseconds, in bins of equal ratio, and those that exceed a deadline."""

    def __init__(self, deadline_ms: float) -> None:
        self.deadline_ms = deadline_ms
        self.count = self.missed = 0
        self.max_ms = 0.0
        self._bins = np.zeros(math.ceil(math.log(MOST_MS / LEAST_MS, STEP)) + 1, np.int64)

    def add(self, latency_ms: float) -> None:
        """Count one latency."""
        self.count += 1
        self.missed += latency_ms > self.deadline_ms
        self.max_ms = max(self.max_ms, latency_ms)
        ratio = min(max(latency_ms, LEAST_MS), MOST_MS) / LEAST_MS
        self._bins[round(math.log(ratio, STEP))] += 1

    def percentile_ms(self, percent: float) -> float:
        """Return this percentile of the latencies, within 0.5 %; 0 if there are none."""
        if not self.count:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._bins), math.ceil(self.count * percent / 100)))
        return min(LEAST_MS * STEP**index, self.max_ms)
