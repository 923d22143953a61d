import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.runtime.latencies import MOST_MS, Latencies


def test_none_yet():
    latencies = Latencies(33)
    assert (latencies.count, latencies.missed, latencies.max_ms, latencies.percentile_ms(99)) == (0, 0, None, None)
    assert latencies.status() == {
        "fused": 0,
        "deadline_ms": 33,
        "missed_deadlines": 0,
        "latency_max_ms": None,
        "latency_p50_ms": None,
        "latency_p90_ms": None,
        "latency_p99_ms": None,
    }


@given(st.lists(st.floats(0.02, 9e4), min_size=1, max_size=200), st.sampled_from([1, 50, 90, 99, 99.9, 100]))
def test_percentiles_are_within_half_a_percent(values, percent):
    latencies = Latencies(33)
    for value in values:
        latencies.add(value)
    # The least value that this share of all does not exceed; np.percentile would interpolate.
    wanted = sorted(values)[max(0, int(np.ceil(len(values) * percent / 100 - 1e-9)) - 1)]
    assert latencies.percentile_ms(percent) == pytest.approx(wanted, rel=0.0051)
    assert latencies.percentile_ms(percent) <= latencies.max_ms == max(values)
    assert latencies.missed == sum(value > 33 for value in values)
    assert latencies.count == len(values)


def test_what_lies_outside_is_counted_at_the_ends():
    latencies = Latencies(33)
    latencies.add(-1.0)  # a stamp of the future, by a wrong delay
    assert latencies.status()["latency_max_ms"] == -1
    latencies.add(10 * MOST_MS)
    assert latencies.count == 2
    assert latencies.missed == 1
    assert latencies.percentile_ms(100) == pytest.approx(MOST_MS, rel=0.01)
