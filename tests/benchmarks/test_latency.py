import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.benchmarks.latency import STAGES, measure, summarize
from irvis.runtime import FrameError, StageTimes

latencies = st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=200)


class ClockworkFuser:
    """Reports given times, one set a call, and counts its calls."""

    def __init__(self, times):
        self.script = list(times)
        self.calls = 0
        self.times = None

    def __call__(self, infrared, visible):
        self.times = self.script[self.calls]
        self.calls += 1
        return visible


def frames(height=16, width=16):
    return np.zeros((height, width), np.uint8), np.zeros((height, width, 3), np.uint8)


@given(latencies)
def test_figures_are_those_of_numpy_in_float64(values):
    summary = summarize(values)
    array = np.array(values, np.float64)
    assert summary.count == len(values)
    assert summary.mean_ms == pytest.approx(array.mean(), rel=1e-12)
    assert summary.std_ms == pytest.approx(array.std(ddof=1) if len(values) > 1 else 0.0, rel=1e-9, abs=1e-9)
    percentiles = (summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms)
    assert percentiles == pytest.approx(tuple(np.percentile(array, (50, 90, 95, 99))), rel=1e-12)
    assert (summary.min_ms, summary.max_ms) == (array.min(), array.max())
    assert summary.fps == pytest.approx(1000 / array.mean(), rel=1e-12)


@given(latencies)
def test_percentiles_rise(values):
    summary = summarize(values)
    rising = (summary.min_ms, summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms, summary.max_ms)
    assert all(low <= high * (1 + 1e-12) for low, high in zip(rising, rising[1:]))


@given(latencies, st.randoms(use_true_random=False))
def test_the_order_of_the_frames_does_not_show(values, shuffler):
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    assert summarize(shuffled) == summarize(values)


def test_known_percentiles():
    values = list(range(1, 102))  # 1 to 101: the p-th percentile is p + 1
    random.Random(0).shuffle(values)
    summary = summarize(values)
    assert (summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms) == pytest.approx((51, 91, 96, 100))
    assert summary.mean_ms == pytest.approx(51)
    assert summary.std_ms == pytest.approx(math.sqrt(101 * 102 / 12))


def test_one_outlier_is_kept():
    summary = summarize([10.0] * 99 + [1000.0])
    assert summary.max_ms == 1000.0
    assert summary.mean_ms == pytest.approx(19.9)


def test_a_single_frame_has_no_spread():
    summary = summarize([250.31])
    assert summary.std_ms == 0.0
    assert summary.p50_ms == summary.p99_ms == summary.mean_ms == 250.31


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_no_latency_is_refused(values):
    with pytest.raises(ValueError, match="latencies must be"):
        summarize(values)


def test_warm_up_is_left_out_and_every_later_frame_kept_in_order():
    script = [StageTimes(i, i + 0.1, i + 0.2, i + 0.3, i + 0.4, i + 0.5) for i in range(7)]
    fuser = ClockworkFuser(script)
    ticks = Counter()
    measured = measure(fuser, *frames(), iterations=4, warmup=3, progress=lambda: ticks.update(["tick"]))
    assert fuser.calls == ticks["tick"] == 7
    assert tuple(measured) == STAGES
    assert measured["pre"] == [3, 4, 5, 6]
    assert measured["compute"] == pytest.approx([3.2, 4.2, 5.2, 6.2])
    assert measured["total"] == pytest.approx([3.5, 4.5, 5.5, 6.5])


def test_a_stage_that_the_backend_cannot_tell_is_none_and_never_zero():
    measured = measure(ClockworkFuser([StageTimes(1.0, None, 2.0, None, 3.0, 6.5)] * 3), *frames(), 3, 0)
    assert measured == {
        "pre": [1.0] * 3,
        "h2d": None,
        "compute": [2.0] * 3,
        "d2h": None,
        "post": [3.0] * 3,
        "total": [6.5] * 3,
    }


def test_a_stage_told_on_some_frames_only_counts_as_not_measured():
    script = [StageTimes(1.0, 0.5, 2.0, 0.0, 3.0, 6.5), StageTimes(1.0, None, 2.0, 0.0, 3.0, 6.5)]
    measured = measure(ClockworkFuser(script), *frames(), 2, 0)
    assert measured["h2d"] is None
    assert measured["d2h"] == [0.0, 0.0]


@pytest.mark.parametrize(("iterations", "warmup"), [(0, 1), (-1, 0), (1, -1)])
def test_counts_that_measure_nothing_are_refused(iterations, warmup):
    with pytest.raises(ValueError, match="iterations must be 1 or more"):
        measure(ClockworkFuser([]), *frames(), iterations, warmup)


def test_an_error_of_the_fuser_reaches_the_caller():
    class Refusing(ClockworkFuser):
        def __call__(self, infrared, visible):
            raise FrameError("frames are 16x16")

    with pytest.raises(FrameError, match="16x16"):
        measure(Refusing([]), *frames(), 1, 0)
