"""Find a heated checkerboard or grid of circles in an infrared and a visible frame, as pairs of points.

A target printed black on white and warmed by a lamp or the sun shows in the infrared too, since black paint absorbs
more heat. So does a metal board with holes in front of a warm plate. Either part may be brighter in either frame.
"""

import argparse
import re
from typing import List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from irvis.runtime.frames import to_grey

KINDS = ("checkerboard", "circles", "asymmetric-circles")
SMALL = 480  # pixels of height below which a frame is enlarged: the detectors need some pixels per square
SHARES = (1.0, 99.0)  # percentiles mapped to black and white
CLUTTER = 300  # blobs beyond the target's: more are noise, which OpenCV would search for many seconds


class Target(NamedTuple):
    """What to look for."""

    kind: str  # of KINDS
    columns: int  # inner corners of a checkerboard, circles of a grid
    rows: int

    def find(self, frame: np.ndarray) -> Optional[np.ndarray]:
        """Return the corners or centres, float64 (rows, columns, 2) as (x, y), to sub-pixel accuracy; None: not found.

        The direction in which rows and columns are counted is arbitrary.

        Args:
            frame: uint8 or uint16, (H, W) or BGR (H, W, 3).
        """
        grey = _stretched(frame)
        factor = int(np.ceil(SMALL / grey.shape[0]))
        if factor > 1:
            grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        detect = self._find_corners if self.kind == "checkerboard" else self._find_circles
        # Sharp first, which is the most accurate; noise and the column pattern of a cheap sensor need some smoothing.
        for picture in (grey, cv2.GaussianBlur(grey, (0, 0), 1.5 * factor)):
            for polarity in (picture, cv2.bitwise_not(picture)):
                found, points = detect(polarity)
                if found:
                    points = points.astype(np.float64).reshape(self.rows, self.columns, 2)
                    return (points + 0.5) / factor - 0.5  # cv2.resize keeps the frame's corners, not its centres
        return None

    def match(self, infrared: np.ndarray, visible: np.ndarray) -> Optional[np.ndarray]:
        """Find the target in both frames: pairs of points, float64 (N, 4), as ``points.fit`` takes; None: not found."""
        there = self.find(infrared)
        here = None if there is None else self.find(visible)  # a search without success takes the longest
        if there is None or here is None:
            return None
        return np.hstack([_like(there, here).reshape(-1, 2), here.reshape(-1, 2)])

    def _find_corners(self, grey: np.ndarray) -> Tuple[bool, np.ndarray]:
        # Not CALIB_CB_NORMALIZE_IMAGE: it equalises the histogram, which loses a board in front of a dark scene.
        flags = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
        return cv2.findChessboardCornersSB(grey, (self.columns, self.rows), flags=flags)

    def _find_circles(self, grey: np.ndarray) -> Tuple[bool, np.ndarray]:
        # OpenCV 4.5 has this name too; the type stubs of later versions lack it.
        settings = cv2.SimpleBlobDetector_Params()  # type: ignore[attr-defined]
        settings.minArea = 20.0
        settings.maxArea = grey.size / (self.columns * self.rows)
        settings.minDistBetweenBlobs = 4.0
        blobs = cv2.SimpleBlobDetector.create(settings)
        if len(blobs.detect(grey)) > self.columns * self.rows + CLUTTER:
            return False, np.empty(0)
        layout = cv2.CALIB_CB_SYMMETRIC_GRID if self.kind == "circles" else cv2.CALIB_CB_ASYMMETRIC_GRID
        # Clustering tolerates a slanted board, but not clutter around it, nor an even number of shifted rows.
        for flags in (layout, layout | cv2.CALIB_CB_CLUSTERING):
            found, points = cv2.findCirclesGrid(grey, (self.columns, self.rows), flags=flags, blobDetector=blobs)
            if found:
                break
        return found, points


def parse_count(text: str) -> Tuple[int, int]:
    """``"9x6"`` -> ``(9, 6)``, columns and rows, for ``type=`` of an argument. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"([0-9]{1,2})[xX]([0-9]{1,2})", text.strip())
    counts = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if min(counts) < 3:
        raise argparse.ArgumentTypeError(f"a target is COLSxROWS, 3 or more of each, such as 9x6. Got {text!r}")
    return counts


def _like(grid: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Reorder a grid (rows, columns, 2) so that its rows and columns run in the same directions as those of another.

    A target looks the same after half a turn, a square one after a quarter. The right order runs the same way in both
    frames as long as the cameras are rotated by less than 90 degrees to each other, 45 for a square target.
    """
    ways: List[np.ndarray] = [grid[::down, ::across] for down in (1, -1) for across in (1, -1)]
    if grid.shape[0] == grid.shape[1]:
        ways += [way.swapaxes(0, 1) for way in ways]
    wanted = _directions(other)
    return max(ways, key=lambda way: float((_directions(way) * wanted).sum()))


def _directions(grid: np.ndarray) -> np.ndarray:
    """Return the unit vectors (2, 2) in which columns and rows are counted."""
    along = np.stack([(grid[:, -1] - grid[:, 0]).mean(axis=0), (grid[-1] - grid[0]).mean(axis=0)])
    return along / np.linalg.norm(along, axis=1, keepdims=True)


def _stretched(frame: np.ndarray) -> np.ndarray:
    """uint8 or uint16, (H, W) or BGR -> uint8 (H, W), stretched from black to white."""
    grey = (to_grey(frame) if frame.ndim == 3 else frame).astype(np.float32)
    low, high = np.percentile(grey, SHARES)
    return cv2.convertScaleAbs(np.clip((grey - low) / max(high - low, 1), 0, 1), alpha=255.0)
