import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.runtime.cameras.frame import FramePool
from irvis.runtime.cameras.matcher import QUEUE, FramePair, Matcher
from irvis.runtime.errors import FrameError


class Bench:
    """A matcher fed with stamps in the order in which the frames arrive."""

    def __init__(self, slop_s, clock=False):
        self.matcher, self.clock, self.pool = Matcher(slop_s), clock, FramePool()
        self.pairs, self.made = [], 0

    def arrive(self, role, stamp_s, arrival_s=None):
        frame = self.pool.take()
        frame.stamp_s, frame.grabbed_s = stamp_s, stamp_s if arrival_s is None else arrival_s
        self.made += 1
        self.matcher.add(role, frame)
        self.advance(frame.grabbed_s)

    def advance(self, now_s):
        while True:
            pair = self.matcher.match(now_s if self.clock else float("-inf"))
            if pair is None:
                return
            self.pairs.append((pair.infrared.stamp_s, pair.visible.stamp_s))
            pair.release()

    def end(self):
        for role in ("infrared", "visible"):
            self.matcher.end(role)
        self.advance(float("inf"))


def stream(rng, rate_hz, count, jitter_s, loss, offset_s=0.0):
    """Stamps of a camera of this rate: jittered, some frames lost, in order."""
    stamps = [offset_s + k / rate_hz + rng.uniform(-jitter_s, jitter_s) for k in range(count) if rng.random() >= loss]
    return sorted(set(stamps))


def nearest_pairs(infrared, visible, slop_s):
    """The pairs that are each other's nearest, within the slop: over all stamps at once."""
    first, second = np.array(infrared), np.array(visible)

    def nearest(stamps, others):
        after = np.clip(np.searchsorted(others, stamps), 1, len(others) - 1)
        return np.where(stamps - others[after - 1] <= others[after] - stamps, after - 1, after)

    partner = nearest(first, second)
    mutual = (nearest(second, first)[partner] == np.arange(len(first))) & (abs(second[partner] - first) <= slop_s)
    return list(zip(first[mutual].tolist(), second[partner][mutual].tolist()))


@pytest.mark.parametrize("clock", [False, True])
@pytest.mark.parametrize(("infrared_hz", "visible_hz"), [(9, 30), (30, 30), (30, 9), (60, 25)])
def test_of_10000_frames_none_is_paired_beyond_the_slop_and_all_that_belong_together_are(
    infrared_hz, visible_hz, clock
):
    rng = random.Random(infrared_hz * 100 + visible_hz)
    slop_s = 0.02
    count = 10_000
    infrared = stream(rng, infrared_hz, count * infrared_hz // max(infrared_hz, visible_hz), 0.004, 0.05, 0.003)
    visible = stream(rng, visible_hz, count * visible_hz // max(infrared_hz, visible_hz), 0.004, 0.05)
    bench = Bench(slop_s, clock)
    arrivals = [(stamp + 0.015, "infrared", stamp) for stamp in infrared]
    arrivals += [(stamp + rng.uniform(0.02, 0.024), "visible", stamp) for stamp in visible]
    last = {"infrared": -1.0, "visible": -1.0}
    for arrival, role, stamp in sorted(arrivals):
        last[role] = max(arrival, last[role])
        bench.arrive(role, stamp, last[role])
    bench.end()
    assert max(abs(first - second) for first, second in bench.pairs) <= slop_s
    for column in zip(*bench.pairs):
        assert len(set(column)) == len(column)
        assert list(column) == sorted(column)
    wanted = nearest_pairs(infrared, visible, slop_s)
    assert len(wanted) > 0.8 * min(len(infrared), len(visible))
    missing = set(wanted) - set(bench.pairs)
    # By the clock a pair is not held back for a frame that is itself held up on its way.
    assert len(missing) <= (0.01 * len(wanted) if clock else 0)


@given(
    st.lists(st.integers(0, 400), unique=True, max_size=40).map(sorted),
    st.lists(st.integers(0, 400), unique=True, max_size=40).map(sorted),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_whatever_the_stamps_and_the_order_of_arrival(infrared, visible, slop, rng):
    """There are as many pairs as mutual neighbours, none is paired twice or out of order, and no frame is lost."""
    bench = Bench(float(slop))
    sides = {"infrared": list(infrared), "visible": list(visible)}
    while any(sides.values()):
        role = rng.choice([role for role, stamps in sides.items() if stamps])
        if bench.matcher.is_full(role):  # as the sources do where no frame may be dropped
            role = "visible" if role == "infrared" else "infrared"
            if not sides[role]:
                bench.matcher.end(role)
                bench.advance(0)
                role = "visible" if role == "infrared" else "infrared"
        bench.arrive(role, float(sides[role].pop(0)))
    bench.end()
    matcher = bench.matcher
    for first, second in bench.pairs:
        assert abs(first - second) <= slop
    for column in zip(*bench.pairs):
        assert list(column) == sorted(set(column))
    if infrared and visible:
        assert len(bench.pairs) >= len(strict_pairs(infrared, visible, slop))
    left = bench.made - 2 * matcher.paired - sum(matcher.dropped.values()) - sum(matcher.late.values())
    assert left == 0
    assert len(bench.pool.free) == len(set(map(id, bench.pool.free))) == bench.pool._made  # each is given back, once


def strict_pairs(infrared, visible, slop):
    """Pairs each of which is strictly nearer to each other than to any third."""
    return [
        (a, b)
        for a, b in itertools.product(infrared, visible)
        if abs(a - b) <= slop
        and all(abs(a - b) < abs(other - b) for other in infrared if other != a)
        and all(abs(a - b) < abs(a - other) for other in visible if other != b)
    ]


def test_a_pair_is_given_as_soon_as_nothing_nearer_can_come():
    bench = Bench(0.02, clock=True)
    for k in range(5):
        bench.arrive("infrared", k / 30)
        bench.arrive("visible", k / 30 + 0.004)
    assert len(bench.pairs) == 5  # the next infrared comes 33 ms later: nobody waits for it


def test_a_nearer_frame_that_may_still_come_is_waited_for_but_not_longer_than_it_could():
    bench = Bench(0.02, clock=True)
    for k in range(5):
        bench.arrive("infrared", k / 30)
    bench.arrive("visible", 4 / 30 + 0.018)  # the next infrared, 15 ms later than this, would be nearer
    assert bench.pairs == []
    bench.advance(4 / 30 + 0.035)
    assert bench.pairs == []
    bench.advance(4 / 30 + 0.037)  # twice 18 ms are over
    assert bench.pairs == [(4 / 30, 4 / 30 + 0.018)]


@pytest.mark.parametrize("offset", [0.45, 0.5, 0.55])
@pytest.mark.parametrize("clock", [False, True])
def test_cameras_of_one_rate_half_an_interval_apart_keep_that_rate(offset, clock):
    rng = random.Random(int(100 * offset))
    bench = Bench(0.02, clock)
    stamps = [(stamp, "infrared") for stamp in stream(rng, 30, 2000, 0.0015, 0)]
    stamps += [(stamp, "visible") for stamp in stream(rng, 30, 2000, 0.0015, 0, offset / 30)]
    for stamp, role in sorted(stamps):
        bench.arrive(role, stamp)
    bench.end()
    assert len(bench.pairs) >= 0.98 * 2000  # of strict neighbours there would be 0.76 * 2000 at a half
    assert max(abs(first - second) for first, second in bench.pairs) <= 0.02


@pytest.mark.parametrize(("jitter_s", "kept", "skew_ms"), [(0.001, 0.994, 16.6), (0.002, 0.929, 15.5)])
def test_cameras_half_an_interval_apart_under_gaussian_jitter(jitter_s, kept, skew_ms):
    """The published figures of docs/measured.md."""
    rng = random.Random(1)
    bench = Bench(0.02, clock=True)
    count = 20_000
    stamps = [(k / 30 + rng.gauss(0, jitter_s), "infrared") for k in range(count)]
    stamps += [((k + 0.5) / 30 + rng.gauss(0, jitter_s), "visible") for k in range(count)]
    for stamp, role in sorted(stamps):
        bench.arrive(role, stamp)
    bench.end()
    assert len(bench.pairs) / count == pytest.approx(kept, abs=0.005)
    skews_ms = [abs(first - second) * 1e3 for first, second in bench.pairs]
    assert sum(skews_ms) / len(skews_ms) == pytest.approx(skew_ms, abs=0.1)


def test_a_camera_with_frames_to_spare_gives_its_nearest():
    bench = Bench(0.02, clock=True)
    for k in range(200):
        bench.arrive("infrared", k / 60)
        if k % 3 == 1:
            bench.arrive("visible", k / 60 + 0.0085)  # the next infrared is 0.17 ms nearer
    assert [round(60 * first) for first, _ in bench.pairs] == [k + 1 for k in range(1, 199, 3)]


def test_a_frame_whose_partner_was_given_up_is_late():
    bench = Bench(0.02)
    for k in range(QUEUE + 3):
        bench.arrive("infrared", k / 30)
    assert bench.matcher.dropped["infrared"] == 3
    bench.arrive("visible", 2 / 30)
    bench.arrive("visible", 3 / 30)
    assert bench.matcher.late == {"infrared": 0, "visible": 1}
    assert bench.pairs == [(3 / 30, 3 / 30)]


def test_frames_out_of_order_are_late():
    bench = Bench(0.02)
    bench.arrive("visible", 1.0)
    bench.arrive("visible", 0.9)
    bench.arrive("visible", 1.0)
    assert bench.matcher.late["visible"] == 2
    assert len(bench.pool.free) == 2  # given back


@pytest.mark.parametrize("slop_s", [0, -1, float("nan"), float("inf")])
def test_a_slop_must_be_a_time(slop_s):
    with pytest.raises(FrameError, match="slop must be a time above 0"):
        Matcher(slop_s)


def test_it_is_finished_once_a_side_has_ended_and_its_last_frame_is_gone():
    bench = Bench(0.02)
    assert not bench.matcher.finished
    bench.arrive("visible", 1.0)
    bench.matcher.end("visible")
    assert not bench.matcher.finished  # an infrared frame may still come
    bench.arrive("infrared", 1.004)
    assert bench.pairs == [(1.004, 1.0)]
    assert bench.matcher.finished


def test_the_skew_is_how_many_milliseconds_later_the_infrared_was_captured():
    infrared, visible = FramePool().take(), FramePool().take()
    infrared.stamp_s, visible.stamp_s = 1.004, 1.0
    assert FramePair(infrared, visible).skew_ms == pytest.approx(4)


@pytest.mark.parametrize(("offset_s", "nearest_s"), [(0.05, 0.05), (5.0, 3.8)])  # the oldest 12 frames wait
def test_for_how_long_and_by_how_much_no_frames_fit(offset_s, nearest_s):
    bench = Bench(0.02, clock=True)
    for k in range(12):
        for role, stamp_s in (("infrared", k / 10 + offset_s), ("visible", k / 10)):
            assert bench.matcher.without_pair_s < 1
            bench.arrive(role, stamp_s, k / 10 + offset_s)
    for k in range(12, 30):
        bench.arrive("infrared", k / 10 + offset_s)
        bench.arrive("visible", k / 10, k / 10 + offset_s)
    assert bench.matcher.without_pair_s >= 1
    assert bench.matcher.nearest_s == pytest.approx(nearest_s, abs=0.15)
    bench.arrive("visible", 3.0 + offset_s)
    bench.arrive("infrared", 3.0 + offset_s)
    bench.end()
    assert bench.pairs
    assert bench.matcher.without_pair_s < 1


@pytest.mark.parametrize("ahead_s", [0.0, 1.9])
def test_a_camera_of_a_frame_in_two_seconds_has_its_pairs(ahead_s):
    bench = Bench(0.02)
    arrivals = [("infrared", 2.0 * k, 2.0 * k - ahead_s) for k in range(5)]
    arrivals += [("visible", k / 30, k / 30) for k in range(250)]
    for role, stamp_s, arrival_s in sorted(arrivals, key=lambda arrival: arrival[2]):
        bench.arrive(role, stamp_s, arrival_s)
        assert bench.matcher.without_pair_s < 1
    assert len(bench.pairs) == 5
