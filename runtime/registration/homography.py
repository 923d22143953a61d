"""The registration of two cameras: where each infrared pixel lies in the visible frame, and its file.

``registration.json`` is a JSON object with the fields of Registration and ``schema_version``; sizes are written as
``{"height": 480, "width": 640}``, the homography as its three rows.
"""

import os
import reprlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import PathLike, parse_json, read_bytes, write_json
from irvis.runtime.sizes import MINIMUM

SCHEMA_VERSION = 1
LARGEST = 16384  # pixels per side; the fixed-point maps of cv2.remap reach 32767
LARGEST_AREA = 1 << 26  # pixels; building the maps takes some forty bytes for each
LARGEST_FILE = 64 * 1024  # bytes; a registration takes less than one thousand
MAGNIFICATIONS = (1e-4, 1e4)  # visible pixels that one infrared pixel may cover
CALIBRATE = "create it again with `irvis calibrate`"

Size = Tuple[int, int]  # (H, W)


@dataclass(frozen=True, eq=False)
class Registration:
    """Where infrared pixels lie in the visible frame, and how well that is known. Raises IrvisError for invalid values.

    The homography, float64 (3, 3), maps an infrared pixel (x, y, 1) to a visible one and is scaled so that its last
    element is 1. Pixel centres are at integers: the first pixel extends from -0.5 to 0.5.
    """

    homography: np.ndarray
    infrared_size: Size
    visible_size: Size
    method: str  # "points", "clicked", "checkerboard", "circles", "asymmetric-circles", "automatic"
    error_px: Optional[float] = None  # root mean square over the points used, visible pixels; None: not known
    worst_px: Optional[float] = None  # the largest of them
    points: int = 0  # used
    of: int = 0  # given
    confidence: Optional[float] = None  # of an automatic one, in [0, 1]

    def __post_init__(self) -> None:
        for name, (wanted, is_valid) in _CHECKS.items():
            value = getattr(self, name)
            if not is_valid(value):
                raise IrvisError(f"registration's {name} must be {wanted}. Got {reprlib.repr(value)[:80]}")
        if self.points > self.of:
            raise IrvisError(f"registration's points must not be more than were given. Got {self.points} of {self.of}")
        for name in ("infrared_size", "visible_size"):
            object.__setattr__(self, name, tuple(map(int, getattr(self, name))))
        object.__setattr__(self, "homography", _checked(np.array(self.homography, np.float64), self.infrared_size))

    @classmethod
    def load(cls, path: PathLike) -> "Registration":
        """Read a registration; fields that this version does not know are ignored.

        Raises FileError if the file is missing, unreadable or not a valid registration.
        """
        record = _read(Path(path))
        version: Any = record.get("schema_version")
        if not _whole(version) or version < 1:
            raise FileError(f"not a registration, since it has no schema_version: {path}; {CALIBRATE}")
        if version > SCHEMA_VERSION:
            raise FileError(
                f"registration is of schema {version}, this irvis knows {SCHEMA_VERSION}: {path}; "
                f"update irvis, or {CALIBRATE}"
            )
        values = {}
        for field in fields(cls):
            if field.name not in record:
                raise FileError(f"registration lacks {field.name}: {path}; {CALIBRATE}")
            value = record[field.name]
            if field.name.endswith("_size"):
                if not isinstance(value, dict) or set(value) != {"height", "width"}:
                    found = reprlib.repr(value)[:80]
                    raise FileError(
                        f'registration\'s {field.name} must be an object such as {{"height": 480, "width": 640}}. '
                        f"Got {found} in {path}; {CALIBRATE}"
                    )
                value = (value["height"], value["width"])
            values[field.name] = value
        try:
            return cls(**values)
        except IrvisError as error:
            raise FileError(f"{error} in {path}; {CALIBRATE}") from error

    def save(self, path: PathLike) -> None:
        """Write the registration atomically. Raises FileError."""
        record: Dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_size"):
                value = dict(zip(("height", "width"), value))
            record[field.name] = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        write_json(path, record, allow_nan=False)


def project(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points, (..., 2) as (x, y), by a homography (3, 3): float64 (..., 2)."""
    mapped = np.asarray(points, np.float64) @ homography[:, :2].T + homography[:, 2]
    return mapped[..., :2] / mapped[..., 2:]


def corners_of(size: Size) -> np.ndarray:
    """Return the outer corners of a frame (H, W), clockwise from the top left: float64 (4, 2) as (x, y)."""
    height, width = size
    return np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5


def _checked(homography: np.ndarray, infrared_size: Size) -> np.ndarray:
    """Scale the homography so that its last element is 1, and make it read-only. Raises IrvisError if it is impossible.

    At a point that maps to a third coordinate of w, the homography magnifies areas by det / w^3. w is linear, so that
    it has one sign in the whole frame if it has one at the corners; otherwise the frame folds over the horizon.
    """
    depth = corners_of(infrared_size) @ homography[2, :2] + homography[2, 2]
    if not (np.all(depth > 0) or np.all(depth < 0)):
        raise IrvisError("registration's homography folds the infrared frame over its horizon")
    homography, depth = homography / homography[2, 2], depth / homography[2, 2]
    determinant = np.linalg.det(homography)
    if abs(determinant) < 1e-12:
        raise IrvisError("registration's homography has no inverse")
    if determinant < 0:
        raise IrvisError("registration's homography mirrors the infrared frame; flip the camera's picture first")
    magnified = determinant / depth**3
    low, high = MAGNIFICATIONS
    if not (low <= magnified.min() and magnified.max() <= high):
        raise IrvisError(
            f"registration's homography must map one infrared pixel to {low:g} to {high:g} visible pixels. "
            f"Got {magnified.min():.3g} to {magnified.max():.3g}"
        )
    homography.flags.writeable = False
    return homography


def _read(path: Path) -> Dict[str, Any]:
    if not os.path.exists(path):
        raise FileError(f"registration not found: {path}; create it with `irvis calibrate`")
    data = read_bytes(path, "registration", LARGEST_FILE)
    try:
        record = parse_json(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"registration is not JSON: {path}; {CALIBRATE}") from error
    if not isinstance(record, dict):
        raise FileError(f"registration must hold a JSON object. Got a {type(record).__name__} in {path}; {CALIBRATE}")
    return record


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    # Not math.isfinite, which fails on integers too large for a float.
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and abs(value) < 1e15


def _matrix(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return (
        isinstance(value, list)
        and [len(row) if isinstance(row, list) else -1 for row in value] == [3, 3, 3]
        and all(_number(element) for row in value for element in row)
    )


def _size(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(_whole(side) and MINIMUM <= side <= LARGEST for side in value)
        and value[0] * value[1] <= LARGEST_AREA
    )


_SIZE = (f"(height, width), {MINIMUM} to {LARGEST} pixels each, {LARGEST_AREA} together", _size)
_ERROR = ("null or a number of pixels", lambda value: value is None or (_number(value) and value >= 0))
_COUNT = ("a count", lambda value: _whole(value) and value >= 0)
_CHECKS: Dict[str, Tuple[str, Callable[[Any], bool]]] = {
    "homography": ("three rows of three finite numbers", _matrix),
    "infrared_size": _SIZE,
    "visible_size": _SIZE,
    "method": ("a name", lambda value: isinstance(value, str) and 0 < len(value) <= 40),
    "error_px": _ERROR,
    "worst_px": _ERROR,
    "points": _COUNT,
    "of": _COUNT,
    "confidence": ("null or a number in [0, 1]", lambda value: value is None or (_number(value) and 0 <= value <= 1)),
}
