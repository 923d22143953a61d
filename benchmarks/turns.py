"""Time several runs in turn, so that other load on the machine affects all of them alike, and compute their ratios."""

import random
import sys
import time
from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

# Fuses the one pair that all are timed on: float32 (H, W), or uint8 BGR (H, W, 3).
Run = Callable[[], np.ndarray]


class Quartiles(NamedTuple):
    """The middle half of some values."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def take_turns(
    runs: Dict[str, Run], rounds: int, progress: Optional[Callable[[], object]] = None
) -> Dict[str, List[float]]:
    """Time each form once per round, after one round of warm-up; return milliseconds, round by round.

    The order is shuffled in each round, so that no form always follows the same other one and inherits its caches and
    idle threads.
    """
    order, draw = list(runs), random.Random(0)
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
    """Run ``take_turns`` under a progress bar."""
    total = len(runs) * (rounds + 1)
    with tqdm(total=total, unit="frame", desc="time", leave=False, disable=None, file=sys.stderr) as bar:
        return take_turns(runs, rounds, bar.update)


def ratio(over: List[float], under: List[float]) -> Quartiles:
    """Return the quartiles, over rounds, of the ratio of two forms' latencies in the same round."""
    low, middle, high = np.percentile(np.divide(over, under), (25, 50, 75))
    return Quartiles(float(low), float(middle), float(high))
