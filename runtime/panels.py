"""Pictures to look at: infrared, visible and fused side by side, with their names."""

from typing import List, Sequence

import cv2
import numpy as np

from irvis.runtime.infrared import InfraredScaler

LABELS = ("infrared", "visible", "fused")
STRIP = 24  # height of the labels, pixels
GAP = 4


def side_by_side(frames: Sequence[np.ndarray], labels: Sequence[str] = LABELS) -> np.ndarray:
    """Put frames of one height, uint8 or uint16, (H, W) or BGR (H, W, 3), in a labelled row: uint8 (H + 24, W', 3)."""
    tiles: List[np.ndarray] = []
    for frame, label in zip(frames, labels):
        tile = cv2.copyMakeBorder(_to_bgr(frame), STRIP, 0, 0, 0, cv2.BORDER_CONSTANT, value=(32, 32, 32))
        cv2.putText(tile, label, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230, 230, 230), 1, cv2.LINE_AA)
        tiles += [tile, np.full((tile.shape[0], GAP, 3), 32, np.uint8)]
    return np.concatenate(tiles[:-1], axis=1)


def stack_rows(rows: Sequence[np.ndarray], width: int = 1600) -> np.ndarray:
    """Put rows, uint8 (H, W, 3) each, under one another, each resized to one width in pixels: uint8 (H', width, 3)."""
    resized = []
    for row in rows:
        height = max(1, round(row.shape[0] * width / row.shape[1]))
        mode = cv2.INTER_AREA if row.shape[1] > width else cv2.INTER_LINEAR
        resized.append(cv2.resize(row, (width, height), interpolation=mode))
    return np.concatenate(resized)


def _to_bgr(frame: np.ndarray) -> np.ndarray:
    if frame.dtype == np.uint16:
        frame = cv2.convertScaleAbs(InfraredScaler()(frame), alpha=255.0)
    return cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame
