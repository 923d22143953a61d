"""How some of many are chosen evenly, by two rules: figures were published by each, so neither may become the other."""

from typing import List, Sequence, TypeVar

import numpy as np

Item = TypeVar("Item")


def spread_by_parts(items: Sequence[Item], at_most: int) -> List[Item]:
    """Give the first of each of ``at_most`` equal parts, in their order: of ten and three, those at 0, 3 and 6.

    By it pairs are chosen that an engine is calibrated on and measured on, and those of ``irvis fp16`` and ``int8``.
    """
    count = min(at_most, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def spread_end_to_end(items: Sequence[Item], at_most: int) -> List[Item]:
    """Give ``at_most`` from the first to the last, both among them, in their order: of ten and three, 0, 4 and 9.

    By it pairs are chosen that a training is validated on, those of ``irvis experiment``, and those of ``irvis
    calibrate``. Of one alone it is the first.
    """
    indices = np.linspace(0, len(items) - 1, min(at_most, len(items))).round().astype(int)
    return [items[index] for index in indices]
