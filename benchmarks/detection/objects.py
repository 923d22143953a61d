"""The objects in an image: a data set's labels, what a detector finds, and the paper's split."""

from pathlib import Path
from typing import List, NamedTuple, Sequence

import numpy as np

from irvis.runtime.errors import IrvisError
from irvis.runtime.pairs import Pair, pairs_of
from irvis.student.labels import label_of, read_boxes

CLASSES = ("people", "car", "bus", "lamp", "motorcycle", "truck")  # of M3FD, in the order of its label numbers
PARTS = 10  # of a data set: one for validation, one for testing
AT_LEAST = 3  # pairs, one for each part of a split


class Objects(NamedTuple):
    """The objects in an image. A box is left, top, right, bottom, relative to the image's width and height."""

    boxes: np.ndarray  # float32 (N, 4) in [0, 1]
    classes: np.ndarray  # int64 (N,), from 0


class Detections(NamedTuple):
    """The objects that a detector found, in any order."""

    boxes: np.ndarray  # as in Objects
    classes: np.ndarray
    scores: np.ndarray  # float32 (N,) in [0, 1]


class Labelled(NamedTuple):
    """A pair and its objects."""

    pair: Pair
    objects: Objects


class Split(NamedTuple):
    """The pairs that a detector is trained, validated and tested on."""

    training: List[Labelled]
    validation: List[Labelled]
    test: List[Labelled]


def labelled_pairs(folder: Path, classes: int) -> List[Labelled]:
    """Return the pairs of a data set with their objects, sorted by name. Raises FileError, naming the file."""
    return [Labelled(pair, read_objects(label_of(pair), classes)) for pair in pairs_of(folder)]


def read_objects(path: Path, classes: int) -> Objects:
    """Return the objects in a label file, their boxes clipped to the image. Raises FileError."""
    values = read_boxes(path, classes)
    centre, half = values[:, 1:3], values[:, 3:] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1).clip(0, 1)
    return Objects(boxes, values[:, 0].astype(np.int64))


def split_of(pairs: Sequence[Labelled], seed: int) -> Split:
    """Split the pairs 8:1:1 at random, at least one each; depends only on the seed and the number of pairs.

    Raises IrvisError if there are fewer than 3.
    """
    if len(pairs) < AT_LEAST:
        raise IrvisError(f"a split in three needs {AT_LEAST} labelled pairs or more. Got {len(pairs)}")
    order = np.random.default_rng(seed).permutation(len(pairs))
    part = max(1, round(len(pairs) / PARTS))
    cuts = order[2 * part :], order[:part], order[part : 2 * part]
    return Split(*([pairs[index] for index in sorted(cut)] for cut in cuts))
