"""The inputs of each step of a run, as tables: its crops, how they are turned, its learning rate.

Made on the host before the first step, so that a GPU finds a step's row without the host. A row depends only on the
options and the step.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from irvis.student.augment import codes_of
from irvis.student.datasets import epoch_order
from irvis.student.recipes import TrainConfig


class Schedule(NamedTuple):
    """The tables, one row per step."""

    crops: Tensor  # int64 (steps, batch): the crops of all processes together
    codes: Tensor  # int64 (steps, batch): the symmetry applied to each crop
    rates: Tensor  # float64 (steps,): the learning rate


def schedule_of(config: TrainConfig, count: int) -> Schedule:
    """Return the tables of a run on ``count`` crops. An epoch is all of them except a last, incomplete batch."""
    steps, batch = config.steps, config.batch
    epochs = -(-steps // (count // batch))
    order = [epoch_order(count, config.seed, epoch)[: count // batch * batch] for epoch in range(epochs)]
    return Schedule(
        crops=torch.cat(order)[: steps * batch].view(steps, batch),
        codes=codes_of(config.seed, steps, batch),
        rates=one_cycle(config),
    )


def one_cycle(config: TrainConfig) -> Tensor:
    """Return each step's learning rate, (steps,), equal to torch's OneCycleLR, whose step takes 0.1 ms on the host.

    Half a cosine up to ``config.learning_rate`` over the share ``rise`` of the steps, and half a cosine down.
    """
    peak, step = config.rise * config.steps - 1, np.arange(config.steps)
    rising = step <= peak
    share = np.where(rising, step / (peak or 1), (step - peak) / max(config.steps - 1 - peak, 1e-12))
    start = np.where(rising, config.learning_rate_start, config.learning_rate)
    end = np.where(rising, config.learning_rate, config.learning_rate_end)
    return torch.from_numpy(end + (start - end) * (1 + np.cos(np.pi * share)) / 2)
