"""Figure 10: an image's labels, and the detections on each method's fusion of it."""

from typing import List, NamedTuple, Optional, Sequence

import cv2
import numpy as np

from irvis.benchmarks.detection.objects import Detections, Objects
from irvis.runtime.panels import side_by_side, stack_rows

LEAST_SCORE = 0.25  # to be drawn, as in YOLOv5's pictures
COLUMNS = 3
TILE_WIDTH = 800  # pixels; on a smaller image the text would hide the objects
COLOURS = (  # BGR, distinguishable on grey; the classes take them in turn
    (80, 200, 255),
    (90, 230, 90),
    (255, 150, 60),
    (200, 90, 255),
    (230, 230, 60),
    (90, 110, 255),
)


class Tile(NamedTuple):
    """An image, uint8 BGR (H, W, 3) or grey (H, W), and the boxes drawn on it."""

    title: str
    image: np.ndarray
    objects: Objects
    scores: Optional[np.ndarray] = None  # float32 (N,) of detections; None for labels


def detected(title: str, image: np.ndarray, found: Detections) -> Tile:
    """Return a tile with the detections that score LEAST_SCORE or more."""
    likely = found.scores >= LEAST_SCORE
    return Tile(title, image, Objects(found.boxes[likely], found.classes[likely]), found.scores[likely])


def draw_grid(tiles: Sequence[Tile], classes: Sequence[str]) -> np.ndarray:
    """Return the tiles, all of one shape, row by row with their titles: uint8 BGR (H', W', 3)."""
    drawn = [draw(tile, classes) for tile in tiles]
    drawn += [np.full_like(drawn[0], 32)] * (-len(tiles) % COLUMNS)
    titles = [tile.title for tile in tiles] + [""] * (-len(tiles) % COLUMNS)
    rows: List[np.ndarray] = [
        side_by_side(drawn[start : start + COLUMNS], titles[start : start + COLUMNS])
        for start in range(0, len(drawn), COLUMNS)
    ]
    return stack_rows(rows, rows[0].shape[1])


def draw(tile: Tile, classes: Sequence[str]) -> np.ndarray:
    """Draw a tile's boxes, each with its class and, for a detection, its score: uint8 BGR (H', 800, 3)."""
    height = round(tile.image.shape[0] * TILE_WIDTH / tile.image.shape[1])
    canvas = cv2.resize(tile.image, (TILE_WIDTH, height), interpolation=cv2.INTER_LINEAR)
    canvas = cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR) if canvas.ndim == 2 else canvas
    scores = [None] * len(tile.objects.classes) if tile.scores is None else tile.scores
    # The highest score last, on top.
    for box, kind, score in sorted(zip(*tile.objects, scores), key=lambda row: row[2] or 0):
        left, top, right, bottom = np.rint(box * ([TILE_WIDTH, height] * 2)).astype(int).tolist()
        colour = COLOURS[kind % len(COLOURS)]
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2)
        text = classes[kind] if score is None else f"{classes[kind]} {score:.2f}"
        (width, rise), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
        base = top - 3 if top > rise + 5 else bottom + rise + 4
        left = min(left, TILE_WIDTH - width)
        cv2.rectangle(canvas, (left, base - rise - 2), (left + width, base + 3), colour, cv2.FILLED)
        cv2.putText(canvas, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas
