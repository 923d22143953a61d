"""Files of point pairs, infrared and visible, and the homography that fits them."""

import csv
import io
import reprlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import LARGEST_JSON, PathLike, parse_json, read_bytes, write_bytes
from irvis.runtime.registration.homography import project

COLUMNS = ("infrared_x", "infrared_y", "visible_x", "visible_y")
AT_LEAST = {"similarity": 2, "affine": 3, "homography": 4}  # points that each model needs
TO_SPARE = 2  # points beyond those, needed to tell a wrong point from the right ones
CLEARLY = 0.9  # of a simpler model's error: a smaller gain may be luck, and a richer model costs more at the corners
LARGEST_COUNT = 10_000  # if thousands contradict the others, ten times as many would take hours
LEAST_CONDITIONING = 0.01  # below it, noise decides a parameter of the fit; see _conditioning


class Fit(NamedTuple):
    """A homography through pairs of points, and how far off each lies, in visible pixels."""

    homography: np.ndarray  # float64 (3, 3), infrared (x, y, 1) to visible
    model: str
    used: np.ndarray  # bool (N,); the other points contradict these
    errors_px: np.ndarray  # float64 (N,)
    # Root mean square over the points used, each from the fit to the others: the error to expect between them. None
    # if there is no point to spare.
    predicted_px: Optional[float]

    @property
    def rms_px(self) -> Optional[float]:
        """Root mean square error over the points used; None if they are so few that the fit is always exact."""
        return float(np.sqrt(np.mean(self.errors_px[self.used] ** 2))) if self._has_error else None

    @property
    def worst_px(self) -> Optional[float]:
        """Largest error of the points used; None if they are so few that the fit is always exact."""
        return float(self.errors_px[self.used].max()) if self._has_error else None

    @property
    def _has_error(self) -> bool:
        return bool(self.used.sum() > AT_LEAST[self.model])


def read_points(path: PathLike) -> np.ndarray:
    """Read pairs of points, float64 (N, 4): infrared x and y, visible x and y, in pixels.

    A JSON file holds a list of such lists of four. A CSV file holds one per row; with a header that names COLUMNS, in
    any order, it may have other columns too. Raises FileError.
    """
    path = Path(path)
    try:
        text = read_bytes(path, "point file", LARGEST_JSON).decode("utf-8-sig")
        rows = parse_json(text.encode()) if path.suffix.lower() == ".json" else _parse_csv(text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise FileError(f"cannot read the points in {path}: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(rows, list) or not rows:
        raise FileError(f"no points in {path}: it must have one row for each, {', '.join(COLUMNS)}")
    if len(rows) > LARGEST_COUNT:
        raise FileError(f"too many points in {path}: {len(rows)} of at most {LARGEST_COUNT}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != 4 or not all(map(_coordinate, row)):
            raise FileError(
                f"point {number} must be four numbers, {', '.join(COLUMNS)}. Got {reprlib.repr(row):.80} in {path}"
            )
    return np.array(rows, np.float64)


def write_points(path: PathLike, points: np.ndarray) -> None:
    """Write pairs of points (N, 4) as CSV with a header, rounded to 0.001 pixel. Raises FileError."""
    lines = [",".join(COLUMNS), *(",".join(f"{value:.3f}" for value in row) for row in points)]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def fit(points: np.ndarray, model: Optional[str] = None, threshold_px: float = 3.0) -> Fit:
    """Fit a model to pairs of points: RANSAC finds those that agree; their squared visible error is minimised.

    Args:
        points: float64 (N, 4): infrared x and y, visible x and y.
        model: "similarity", "affine" or "homography". None: of those that leave two points to spare, the one that
            clearly best predicts each point from the others; with fewer than 4 points a similarity.
        threshold_px: points farther off than this, in visible pixels, contradict the others.

    Raises IrvisError if the points are too few, lie on a line or in one place, or contradict each other.
    """
    models = [model] if model else [name for name, least in AT_LEAST.items() if len(points) >= least + TO_SPARE]
    models = models or ["similarity"]
    richest = models[-1]  # points that agree by a simpler model agree by this one
    least = AT_LEAST[richest]
    if len(points) < least:
        raise IrvisError(f"{_a(richest)} needs {least} points or more. Got {len(points)}; add some, far apart")
    _check_spread(richest, points)
    used = _agreeing(richest, points, threshold_px)
    if not used.all() and used.sum() < max(least + TO_SPARE, len(points) / 2):
        raise IrvisError(
            f"the points contradict each other: at most {used.sum()} of {len(points)} fit {_a(richest)} to "
            f"{threshold_px:.1f} px; check that each is the same spot in both frames, or add some"
        )
    kept = points[used]
    _check_spread(richest, kept)
    best, predicted_px = models[0], _predicted_px(models[0], kept)
    for name in models[1:]:
        richer_px = _predicted_px(name, kept)
        if richer_px is not None and (predicted_px is None or richer_px < CLEARLY * predicted_px):
            best, predicted_px = name, richer_px
    homography, _ = _search(best, kept)
    return Fit(homography, best, used, _errors(homography, points), predicted_px)


def _search(model: str, points: np.ndarray, threshold_px: float = 1e6) -> Tuple[np.ndarray, np.ndarray]:
    """Return the homography (3, 3) of least squared error over the points that RANSAC keeps, and which (N,) those are.

    With the default threshold it keeps them all. Its seed is fixed: the same points give the same result. Raises
    IrvisError.
    """
    searches: Dict[str, Callable[..., Any]] = {
        "similarity": cv2.estimateAffinePartial2D,
        "affine": cv2.estimateAffine2D,
        "homography": cv2.findHomography,
    }
    source, target = (np.ascontiguousarray(half) for half in np.hsplit(points, 2))  # OpenCV takes no slices
    matrix, mask = searches[model](
        source, target, method=cv2.RANSAC, ransacReprojThreshold=threshold_px, maxIters=10_000, confidence=0.9999
    )
    if matrix is None:
        raise IrvisError(f"no {model} fits the points; check that each is the same spot in both frames")
    return np.vstack([matrix, (0, 0, 1)])[:3], mask.ravel().astype(bool)


def _agreeing(model: str, points: np.ndarray, threshold_px: float) -> np.ndarray:
    """Return which points (N,) agree.

    RANSAC judges by fits to as few points as possible, which are far off at a distance from those: it loses a good
    point in a corner. That point is added again if a fit to it and the others lies within the threshold of each.
    """
    homography, used = _search(model, points, threshold_px)
    if used.sum() < AT_LEAST[model]:
        return used  # OpenCV returns a fit even if no four points agree
    for index in np.argsort(_errors(homography, points)):
        if not used[index]:
            wider = used.copy()
            wider[index] = True
            if _errors(_search(model, points[wider])[0], points[wider]).max() <= threshold_px:
                used = wider
    return used


def _predicted_px(model: str, points: np.ndarray) -> Optional[float]:
    """Return the root mean square error of points (of many, at most 64), each by the fit to the others.

    A fit lies nearer to its own points than to any others, and that of a model with more freedom nearer still. None if
    the others do not determine a fit.
    """
    squares: List[float] = []
    for index in range(0, len(points), -(-len(points) // 64)):
        others = np.delete(points, index, axis=0)
        if _conditioning(model, others) <= LEAST_CONDITIONING:
            return None
        squares.append(_errors(_search(model, others)[0], points[[index]])[0] ** 2)
    return float(np.sqrt(np.mean(squares)))


def _errors(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(project(homography, points[:, :2]) - points[:, 2:], axis=1)


def _check_spread(model: str, points: np.ndarray) -> None:
    if _conditioning(model, points) <= LEAST_CONDITIONING:
        raise IrvisError(
            f"{len(points)} points do not fix {_a(model)}: too many lie in one place or on one line; "
            "spread them over the frame"
        )


def _conditioning(model: str, points: np.ndarray) -> float:
    """Return how well the points determine the model's least certain parameter, relative to the most certain: 0 to 1.

    It is the ratio of singular values of the equations in points of mean 0 and spread 1 (Hartley, 1997), over both
    frames, since points spread out in one may lie in one place in the other.
    """
    if len(points) < AT_LEAST[model]:
        return 0.0
    source, target = _normalised(points[:, :2]), _normalised(points[:, 2:])
    if model == "similarity":
        return float(min(source.std(), target.std()))  # 0 for a single place, else 1
    if model == "affine":
        return min(_singular_ratio(source, 1), _singular_ratio(target, 1))
    rows = np.c_[source, np.ones(len(source))]
    zero = np.zeros_like(rows)
    across, down = np.hsplit(target, 2)
    equations = np.vstack([np.hstack([rows, zero, -across * rows]), np.hstack([zero, rows, -down * rows])])
    return _singular_ratio(equations, 7)


def _singular_ratio(matrix: np.ndarray, index: int) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[index] / max(values[0], 1e-12))


def _normalised(points: np.ndarray) -> np.ndarray:
    centred = points - points.mean(axis=0)
    return centred / max(np.sqrt((centred**2).mean()), 1e-12)


def _parse_csv(text: str) -> List[List[Any]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    if rows and not all(map(_is_number, rows[0])):
        header = [cell.lower() for cell in rows.pop(0)]
        if not set(COLUMNS) <= set(header):
            raise ValueError(f"its header must name {', '.join(COLUMNS)}. Got {', '.join(header)}")
        order = [header.index(column) for column in COLUMNS]
        rows = [[row[index] if index < len(row) else "" for index in order] for row in rows]
    return [[float(cell) if _is_number(cell) else cell for cell in row] for row in rows]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _coordinate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def _a(model: str) -> str:
    return "an affine map" if model == "affine" else f"a {model}"
