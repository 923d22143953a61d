"""How much each distillation term, and each of several teachers, weighs at a step; ``fixed`` is the paper's way.

A weighting is a module, so that what it has learned or remembers is saved and restored with the student. It makes no
decision on the host, so that a CUDA graph can record it.
"""

import math
from typing import Callable, Dict, Sequence

import torch
from torch import Tensor, nn

from irvis.student.losses import distillation_loss, sobel_magnitude

TERMS = ("attention", "similarity", "response")


class Fixed(nn.Module):
    """Eq. 21 with the given weights: (lambda_att, lambda_sim, lambda_out)."""

    ones: Tensor

    def __init__(self, weights: Sequence[float], window: int) -> None:
        super().__init__()
        self.weights = tuple(weights)
        self.window = window  # steps that count as an epoch
        self.register_buffer("ones", torch.ones(3), persistent=False)  # a buffer, to be on the module's device

    def forward(self, terms: Tensor, task: Tensor, progress: Tensor) -> Tensor:
        """Combine ``terms``, the (3,) of TERMS, with ``progress`` () in [0, 1) and the task loss: a scalar."""
        return distillation_loss(*(terms * self.factors(progress)), *self.weights) + self.penalty()

    def factors(self, progress: Tensor) -> Tensor:
        """Return the factor of each weight at this step: (3,), without a gradient unless learned."""
        return self.ones

    def penalty(self) -> Tensor:
        """Return the penalty that keeps learned factors from 0."""
        return self.ones.new_zeros(())

    def update(self, terms: Tensor, task: Tensor) -> None:
        """Record a finished step's losses, without a gradient."""


class Anneal(Fixed):
    """All terms fade from 1 to 0 along half a cosine: the teacher leads at first, the task has the last word."""

    def factors(self, progress: Tensor) -> Tensor:
        return self.ones * (1 + torch.cos(progress * math.pi)) / 2


class Uncertainty(Fixed):
    """Kendall et al., "Multi-Task Learning Using Uncertainty", CVPR 2018: exp(-s_i) L_i + s_i with learned s_i."""

    def __init__(self, weights: Sequence[float], window: int) -> None:
        super().__init__(weights, window)
        self.log_variances = nn.Parameter(torch.zeros(3))

    def factors(self, progress: Tensor) -> Tensor:
        return torch.exp(-self.log_variances)

    def penalty(self) -> Tensor:
        return distillation_loss(*self.log_variances, *self.weights)


class DynamicAverage(Fixed):
    """Liu et al., "End-to-End Multi-Task Learning with Attention" (DWA), CVPR 2019.

    3 softmax(r_i / T) with r_i the ratio of a term's mean over the last window to that over the one before, T = 2:
    terms that have stopped falling weigh more.
    """

    temperature = 2.0
    total: Tensor
    last: Tensor
    before: Tensor
    count: Tensor
    epochs: Tensor

    def __init__(self, weights: Sequence[float], window: int) -> None:
        super().__init__(weights, window)
        for name in ("total", "last", "before"):
            self.register_buffer(name, torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))

    def factors(self, progress: Tensor) -> Tensor:
        ratios = self.last / self.before.clamp_min(1e-12)
        return torch.where(self.epochs < 2, self.ones, 3 * torch.softmax(ratios / self.temperature, dim=0))

    def update(self, terms: Tensor, task: Tensor) -> None:
        self.total += terms
        self.count += 1
        full = self.count == self.window
        self.before.copy_(torch.where(full, self.last, self.before))
        self.last.copy_(torch.where(full, self.total / self.window, self.last))
        self.total.masked_fill_(full, 0)
        self.count.masked_fill_(full, 0)
        self.epochs += full


class Balance(Fixed):
    """Each term is scaled to the size of the task loss, both as running means, so that none is drowned out.

    A term that is still only rounding, as when a student starts from its own teacher, is left unscaled: its size says
    nothing about later steps, and would multiply them by millions.
    """

    decay = 0.99
    rounding = 1e-5  # of the task loss
    means: Tensor

    def __init__(self, weights: Sequence[float], window: int) -> None:
        super().__init__(weights, window)
        self.register_buffer("means", torch.zeros(4))  # of the three terms and the task; 0: none seen yet

    def factors(self, progress: Tensor) -> Tensor:
        return torch.where(self._known()[:3], self.means[3] / self.means[:3].clamp_min(1e-12), self.ones)

    def update(self, terms: Tensor, task: Tensor) -> None:
        now = torch.cat([terms, task.reshape(1)])
        self.means.copy_(torch.where(self._known(), self.decay * self.means + (1 - self.decay) * now, now))

    def _known(self) -> Tensor:
        """Return which means are more than rounding: (4,)."""
        return self.means > self.rounding * self.means[3]


WEIGHTINGS: Dict[str, Callable[[Sequence[float], int], Fixed]] = {
    "fixed": Fixed,
    "anneal": Anneal,
    "uncertainty": Uncertainty,
    "dwa": DynamicAverage,
    "balance": Balance,
}


def equal_shares(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Return equal shares of all teachers in each image. Arguments and result are those of ``confidence_shares``."""
    return fused.new_full(fused.shape[:2], 1 / len(fused))


def confidence_shares(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Return the share of each teacher in each image, by how well its own fused image meets the task, eq. 20.

    After Zhang et al., "Confidence-Aware Multi-Teacher Knowledge Distillation", ICASSP 2022. ``fused`` is
    (T, B, 1, H, W), the inputs (B, 1, H, W); returns (T, B), softmax(-4 L_task / mean over the teachers of L_task).
    """
    brightest = torch.maximum(infrared, visible)
    steepest = torch.maximum(sobel_magnitude(infrared), sobel_magnitude(visible))
    steepness = torch.stack([sobel_magnitude(one) for one in fused])
    error = ((fused - brightest).abs() + 10 * (steepness - steepest).abs()).mean(dim=(2, 3, 4))
    return torch.softmax(-4 * error / error.mean(dim=0).clamp_min(1e-12), dim=0)


TEACHER_WEIGHTINGS: Dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mean": equal_shares,
    "confidence": confidence_shares,
}
