"""Two rules to choose some of many items evenly: figures were published with each, so neither may replace the other."""

from typing import List, Sequence, TypeVar

import numpy as np

Item = TypeVar("Item")


def spread_by_parts(items: Sequence[Item], at_most: int) -> List[Item]:
    """Return the first item of each of ``at_most`` equal parts, in order: for three of ten, items 0, 3 and 6.

    Chooses the pairs that engines are calibrated and measured on, and those of ``irvis fp16`` and ``int8``.
    """
    count = min(at_most, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def spread_end_to_end(items: Sequence[Item], at_most: int) -> List[Item]:
    """Return ``at_most`` items from the first to the last, both included, in order: for three of ten, items 0, 4 and 9.

    Chooses the pairs that a training is validated on, those of ``irvis experiment``, and those of ``irvis calibrate``.
    If ``at_most`` is 1, it is the first.
    """
    indices = np.linspace(0, len(items) - 1, min(at_most, len(items))).round().astype(int)
    return [items[index] for index in indices]
