"""The labels of a pair: boxes in YOLO's format, one file per pair, named after it, in the folder ``labels``.

That folder is beside ``ir`` and ``vi``, or beside the images themselves if both halves are in one folder.
"""

from pathlib import Path
from typing import List

import numpy as np

from irvis.runtime.errors import FileError
from irvis.runtime.files import read_bytes
from irvis.runtime.pairs import Pair

NUMBERS = 5  # per line


def label_of(pair: Pair, suffix: str = ".txt") -> Path:
    """Return the path of a pair's label. Raises FileError if it does not exist."""
    folder = pair.infrared.parent
    path = (folder if folder == pair.visible.parent else folder.parent) / "labels" / f"{pair.name}{suffix}"
    if not path.parent.is_dir():
        raise FileError(f"no folder of labels: {path.parent}")
    if not path.exists():
        nothing = (
            "an empty file if it has no objects" if suffix == ".txt" else "a mask of zeros if it is all background"
        )
        raise FileError(f"no labels for a pair: {path} is missing; make {nothing}")
    return path


def read_boxes(path: Path, classes: int) -> np.ndarray:
    """Read lines of ``class x y width height``: the class from 0, the box's centre and size as fractions of the frame.

    Returns float32 (N, 5); an empty file is a frame without objects. Raises FileError, naming the line.
    """
    try:
        lines = read_bytes(path, "labels").decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(f"labels are not text: {path}") from error
    rows = [_row(line, f"{path}:{number}", classes) for number, line in enumerate(lines, 1) if line.strip()]
    return np.array(rows, np.float32).reshape(-1, NUMBERS)


def _row(line: str, place: str, classes: int) -> List[float]:
    try:
        row = [float(word) for word in line.split()]
    except ValueError:
        row = []
    inside = len(row) == NUMBERS and all(0 <= value <= 1 for value in row[1:]) and all(row[3:])
    if not inside or not row[0].is_integer():
        raise FileError(
            f"{place} must be: class x y width height, as fractions of the frame. Got {line.strip()[:80]!r}"
        )
    if not 0 <= row[0] < classes:
        raise FileError(f"{place} is of class {row[0]:.0f}, and the classes are 0 to {classes - 1}")
    return row
