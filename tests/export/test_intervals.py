import math

import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from irvis.export.intervals import (
    Interval,
    divisors_for,
    symmetric,
    through_conv,
    through_leaky_relu,
)

SEEDS = st.integers(0, 10**6)


def random_interval(channels, generator):
    ends = torch.randn(2, channels, generator=generator, dtype=torch.float64)
    return Interval(ends.amin(0), ends.amax(0))


def random_inside(interval, size, generator):
    """A plane a channel, with values anywhere in the interval, often at its ends."""
    share = torch.rand(1, len(interval.low), *size, generator=generator, dtype=torch.float64)
    share = share.round() if torch.rand((), generator=generator) < 0.5 else share
    return interval.low[:, None, None] + share * (interval.high - interval.low)[:, None, None]


@settings(max_examples=60)
@given(seed=SEEDS, groups=st.sampled_from([1, 2, 4]), size=st.sampled_from([1, 3]), bias=st.booleans())
def test_a_convolution_stays_inside(seed, groups, size, bias):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 8, size, padding=size // 2, groups=groups, bias=bias).double()
    interval = random_interval(4, generator)
    bound = through_conv(conv, interval)
    with torch.no_grad():
        result = conv(random_inside(interval, (5, 6), generator))
    assert (result.amin((0, 2, 3)) >= bound.low - 1e-12).all()
    assert (result.amax((0, 2, 3)) <= bound.high + 1e-12).all()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolutions_bound_is_reached(groups):
    """By the input that follows the weights' signs: the bound is no larger than it must be."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=groups).double()
    interval = Interval(torch.tensor([-1.0, 0, -2, -1]).double(), torch.tensor([1.0, 2, 3, 0]).double())
    bound = through_conv(conv, interval)
    for output in range(4):
        first = output // (4 // groups) * (4 // groups)
        plane = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
        for index, weight in enumerate(conv.weight[output]):
            low, high = interval.low[first + index], interval.high[first + index]
            plane[0, first + index] = torch.where(weight > 0, high, low)
        with torch.no_grad():
            assert conv(plane)[0, output, 1, 1] == pytest.approx(float(bound.high[output]))


def test_padding_counts_as_zero():
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    conv.weight.data.fill_(1)
    one = torch.ones(1, dtype=torch.float64)
    assert through_conv(conv, Interval(one, one)) == (0, 9)  # a tap may fall outside, where there is no 1
    conv = nn.Conv2d(1, 1, 1, bias=False).double()
    conv.weight.data.fill_(3)
    assert through_conv(conv, Interval(one, 2 * one)) == (3, 6)  # which has no padding


@settings(max_examples=30)
@given(seed=SEEDS, slope=st.sampled_from([0.0, 0.01]))
def test_leaky_relu_stays_inside(seed, slope):
    generator = torch.Generator().manual_seed(seed)
    interval = random_interval(5, generator)
    result = F.leaky_relu(random_inside(interval, (4, 4), generator), slope)
    bound = through_leaky_relu(interval, slope)
    assert (result.amin((0, 2, 3)) >= bound.low - 1e-12).all()
    assert (result.amax((0, 2, 3)) <= bound.high + 1e-12).all()


def test_magnitude_and_zero():
    interval = Interval(torch.tensor([-3.0, 1.0]), torch.tensor([2.0, 4.0]))
    assert interval.magnitude.tolist() == [3, 4]
    assert [end.tolist() for end in interval.with_zero()] == [[-3, 0], [2, 4]]
    assert [end.tolist() for end in interval + symmetric(torch.tensor([1.0, 1.0]))] == [[-4, 0], [3, 5]]


@given(bound=st.floats(1e-30, 1e30), limit=st.floats(1e-3, 1e5))
def test_a_divisor_is_the_least_power_of_two_that_fits(bound, limit):
    divisor = divisors_for(torch.tensor(bound, dtype=torch.float64), limit).item()
    assert math.frexp(divisor)[0] == 0.5
    assert limit / 2 * (1 - 1e-12) < bound / divisor <= limit * (1 + 1e-12)


def test_each_bound_has_its_own_divisor_and_one_of_0_fits():
    bounds = torch.tensor([0.0, 0.25, 2**-0.5, 4.0, 4.5], dtype=torch.float64)
    assert divisors_for(bounds, 1.0).tolist() == [1, 0.25, 1, 4, 8]
