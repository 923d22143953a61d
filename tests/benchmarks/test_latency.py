import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.benchmarks.latency import STAGES, histogram, jitter_ms, measure, run_frames, summarize
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


class Clock:
    """Time that passes only by sleeping and by fusing."""

    now_s = 5.0

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


class TimedFuser:
    """Takes given seconds a call."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.times = clock, iter(seconds), None

    def __call__(self, infrared, visible):
        seconds = next(self.seconds)
        self.clock.sleep(seconds)
        self.times = StageTimes(0.0, None, 0.0, None, 0.0, seconds * 1e3)
        return visible


def paced(seconds, rate_hz):
    clock = Clock()
    fuser = TimedFuser(clock, seconds)
    return run_frames(fuser, *frames(), len(seconds), rate_hz, clock=clock, sleep=clock.sleep)


def test_back_to_back_the_latency_is_the_call():
    run = paced([0.010, 0.030], None)
    assert run.latencies_ms == run.calls_ms == [10.0, 30.0]
    assert run.late is None
    assert run.seconds == pytest.approx(0.040)
    assert run.between_us == pytest.approx(0.0, abs=1e-6)


def test_frames_of_a_camera_are_waited_for():
    run = paced([0.010] * 4, 25.0)
    assert run.latencies_ms == pytest.approx([10.0] * 4)
    assert run.starts_s == pytest.approx([5.0, 5.04, 5.08, 5.12])
    assert (run.late, run.dropped) == (0, 0)
    assert run.between_us is None
    assert run.seconds == pytest.approx(0.130)


def test_a_slow_frame_delays_the_next_whose_latency_is_from_its_arrival():
    run = paced([0.010, 0.055, 0.010, 0.010], 25.0)  # the second ends 15 ms after the third arrived
    assert run.latencies_ms == pytest.approx([10.0, 55.0, 25.0, 10.0])
    assert run.calls_ms == pytest.approx([10.0, 55.0, 10.0, 10.0])
    assert (run.late, run.dropped) == (1, 0)


def test_the_newest_frame_is_taken_and_those_it_overtook_are_dropped():
    run = paced([0.130, 0.010, 0.010], 25.0)  # at 130 ms frames 1, 2 and 3 have arrived
    assert run.dropped == 2
    assert run.latencies_ms == pytest.approx([130.0, 20.0, 10.0])
    assert run.arrivals_s == pytest.approx([5.0, 5.12, 5.16])
    assert run.late == 1


def test_real_time_passes_between_frames():
    run = run_frames(ClockworkFuser([StageTimes(0, None, 0, None, 0, 0.1)] * 10), *frames(), 10, rate_hz=100.0)
    assert 0.09 <= run.seconds < 5
    assert np.diff(run.arrivals_s) == pytest.approx([0.01 * round(step / 0.01) for step in np.diff(run.arrivals_s)])
    assert all(start_s >= arrival_s for start_s, arrival_s in zip(run.starts_s, run.arrivals_s))


@given(st.lists(st.floats(0.001, 0.3), min_size=1, max_size=40), st.floats(1, 60))
def test_at_any_rate_each_frame_has_arrived_before_it_is_fused(seconds, rate_hz):
    run = paced(seconds, rate_hz)
    assert all(start_s >= arrival_s - 1e-9 for start_s, arrival_s in zip(run.starts_s, run.arrivals_s))
    assert all(step_s > 0 for step_s in np.diff(run.arrivals_s))
    # No frame waits for longer than a period: a newer one would have overtaken it.
    waits_s = np.subtract(run.starts_s, run.arrivals_s)
    assert (waits_s < 1 / rate_hz + 1e-9).all()
    arrived = round((run.arrivals_s[-1] - 5.0) * rate_hz) + 1
    assert arrived == len(seconds) + run.dropped


def test_the_last_percentile_says_how_few_frames_it_rests_on():
    assert summarize(range(200)).p999_frames == 1
    summary = summarize(range(1, 10001))
    assert summary.p999_ms == pytest.approx(9990.001)
    assert summary.p999_frames == 10
    assert summarize([30.0] * 5).p999_frames == 5


def test_jitter_is_the_mean_change_from_frame_to_frame():
    assert jitter_ms([10.0, 14.0, 13.0, 13.0]) == pytest.approx(5 / 3)
    assert jitter_ms([10.0]) == 0.0
    assert jitter_ms([1, 2, 3, 4]) < jitter_ms([1, 3, 2, 4])  # unlike a standard deviation it knows the order


@given(latencies)
def test_a_histogram_holds_every_frame(values):
    found = histogram(values)
    assert sum(found["counts"]) == len(values)
    assert found["edges_ms"][0] <= min(values)
    assert found["edges_ms"][-1] >= max(values)


def test_what_passes_between_two_calls_is_told_in_microseconds():
    clock = Clock()
    fuser = TimedFuser(clock, [0.010] * 4)
    run = run_frames(fuser, *frames(), 4, progress=lambda: clock.sleep(250e-6), clock=clock, sleep=clock.sleep)
    assert run.between_us == pytest.approx(250)
    assert run.calls_ms == [10.0] * 4  # it is no part of them
    assert paced([0.010], None).between_us is None


def test_a_stage_that_takes_no_measurable_time_has_no_end_of_frames():
    assert summarize([0.0, 0.0]).fps == math.inf


def test_a_histogram_has_forty_bins_of_one_width():
    found = histogram([10.0, 11.0, 50.0])
    assert np.diff(found["edges_ms"]) == pytest.approx([1.0] * 40)
    assert [found["counts"][index] for index in (0, 1, 39)] == [1, 1, 1]
