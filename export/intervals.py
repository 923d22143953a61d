"""How large the student's tensors can get for any input in [0, 1]: interval arithmetic, channel by channel.

The bounds hold for every pair of frames, whatever its size; the scales that keep FP16 from overflowing rely on them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Interval(NamedTuple):
    """Least and greatest value that each channel can have anywhere: float64 (C,) each."""

    low: Tensor
    high: Tensor

    @property
    def magnitude(self) -> Tensor:
        """Greatest absolute value, (C,)."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def __add__(self, other: "Interval") -> "Interval":  # type: ignore[override]
        return Interval(self.low + other.low, self.high + other.high)

    def with_zero(self) -> "Interval":
        """Widen to include 0, as padding and a factor in [0, 1] require."""
        return Interval(self.low.clamp(max=0), self.high.clamp(min=0))


def symmetric(magnitude: Tensor) -> Interval:
    """Return [-m, m]."""
    return Interval(-magnitude, magnitude)


def through_conv(conv: nn.Conv2d, x: Interval) -> Interval:
    """Bound a convolution's output; taps that fall on the zero padding count as 0."""
    if conv.kernel_size != (1, 1):
        x = x.with_zero()
    weight = conv.weight.detach().double()
    groups, outputs = conv.groups, weight.shape[0]
    positive, negative = weight.clamp(min=0).sum((2, 3)), weight.clamp(max=0).sum((2, 3))  # (O, I/groups)
    low, high = (end.view(groups, -1).repeat_interleave(outputs // groups, 0) for end in x)
    bias = 0 if conv.bias is None else conv.bias.detach().double()
    return Interval(
        (positive * low + negative * high).sum(1) + bias,
        (positive * high + negative * low).sum(1) + bias,
    )


def through_leaky_relu(x: Interval, slope: float = 0.01) -> Interval:
    """Bound LeakyReLU's output; slope 0 is ReLU."""
    return Interval(*(torch.where(end < 0, slope * end, end) for end in x))


def divisors_for(bounds: Tensor, limit: float) -> Tensor:
    """Return, for each of the bounds, the least power of two that divides it to ``limit`` or below; 1 for a bound of 0.

    Multiplied or divided by a power of two, a number keeps all its digits.
    """
    mantissa, exponent = torch.frexp(bounds / limit)  # mantissa 2^exponent, with a mantissa of 0.5 or more, below 1
    return torch.ldexp(torch.ones_like(bounds), exponent - (mantissa == 0.5).int())
