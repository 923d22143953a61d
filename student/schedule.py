"""What each step of a run is given, as tables: its crops, how they are turned, its learning rate.

Made on the host before the first step, so that a GPU finds its step's row by itself. A row depends on the options and
the step alone.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from irvis.student.augment import codes_of
from irvis.student.datasets import epoch_order
from irvis.student.recipes import TrainConfig


class Schedule(NamedTuple):
    """The tables, a row a step."""

    crops: Tensor  # int64 (steps, batch): the crops of all processes together
    codes: Tensor  # int64 (steps, batch): the symmetry that each crop is given
    rates: Tensor  # float64 (steps,): the learning rate


def schedule_of(config: TrainConfig, count: int) -> Schedule:
    """Give the tables of a run on ``count`` crops. An epoch is all of them but for what fills no batch."""
    steps, batch = config.steps, config.batch
    epochs = -(-steps // (count // batch))
    order = [epoch_order(count, config.seed, epoch)[: count // batch * batch] for epoch in range(epochs)]
    return Schedule(
        crops=torch.cat(order)[: steps * batch].view(steps, batch),
        codes=codes_of(config.seed, steps, batch),
        rates=one_cycle(config),
    )


def one_cycle(config: TrainConfig) -> Tensor:
    """Give the learning rate of each step, (steps,): what torch's OneCycleLR gives, whose step takes 0.1 ms of a host.

    Half a cosine up to ``config.learning_rate`` over the share ``rise`` of the steps, and half a cosine down.
    """
    peak, step = config.rise * config.steps - 1, np.arange(config.steps)
    rising = step <= peak
    share = np.where(rising, step / (peak or 1), (step - peak) / max(config.steps - 1 - peak, 1e-12))
    start = np.where(rising, config.learning_rate_start, config.learning_rate)
    end = np.where(rising, config.learning_rate, config.learning_rate_end)
    return torch.from_numpy(end + (start - end) * (1 + np.cos(np.pi * share)) / 2)
