"""A heated checkerboard or grid of circles, found in an infrared and a visible frame, as pairs of points.

Printed black on white and warmed, by a lamp or the sun, a target shows in the infrared too: black paint takes up more
heat. A board of metal with holes before a warm plate does as well. Either may be the brighter in either frame.
"""

import argparse
import re
from typing import List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from irvis.runtime.frames import to_grey

KINDS = ("checkerboard", "circles", "asymmetric-circles")
SMALL = 480  # pixels of height below which a frame is enlarged: a detector needs some pixels a square
SHARES = (1.0, 99.0)  # percentiles that become black and white
CLUTTER = 300  # blobs beside the target's: more are noise, in which OpenCV would search for many seconds


class Target(NamedTuple):
    """What to look for."""

    kind: str  # of KINDS
    columns: int  # inner corners of a checkerboard, circles of a grid
    rows: int

    def find(self, frame: np.ndarray) -> Optional[np.ndarray]:
        """Give the corners or centres, float64 (rows, columns, 2) as (x, y), to a part of a pixel; None: not found.

        Args:
            frame: uint8 or uint16, (H, W) or BGR (H, W, 3). Which way round the target is counted is not told.
        """
        grey = _stretched(frame)
        factor = int(np.ceil(SMALL / grey.shape[0]))
        if factor > 1:
            grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        detect = self._find_corners if self.kind == "checkerboard" else self._find_circles
        # Sharp first, since that is the most exact; noise and the columns of a cheap sensor need some smoothing.
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
        here = None if there is None else self.find(visible)  # a search in vain takes the longest
        if there is None or here is None:
            return None
        return np.hstack([_like(there, here).reshape(-1, 2), here.reshape(-1, 2)])

    def _find_corners(self, grey: np.ndarray) -> Tuple[bool, np.ndarray]:
        # Not CALIB_CB_NORMALIZE_IMAGE: it equalises the histogram, in which a board before a dark scene is lost.
        flags = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
        return cv2.findChessboardCornersSB(grey, (self.columns, self.rows), flags=flags)

    def _find_circles(self, grey: np.ndarray) -> Tuple[bool, np.ndarray]:
        # The name that OpenCV 4.5 has too; the stubs of later ones lack it.
        settings = cv2.SimpleBlobDetector_Params()  # type: ignore[attr-defined]
        settings.minArea = 20.0
        settings.maxArea = grey.size / (self.columns * self.rows)
        settings.minDistBetweenBlobs = 4.0
        blobs = cv2.SimpleBlobDetector.create(settings)
        if len(blobs.detect(grey)) > self.columns * self.rows + CLUTTER:
            return False, np.empty(0)
        layout = cv2.CALIB_CB_SYMMETRIC_GRID if self.kind == "circles" else cv2.CALIB_CB_ASYMMETRIC_GRID
        # Clustering bears a slanting board, but no clutter around it, and no shifted rows of an even number.
        for flags in (layout, layout | cv2.CALIB_CB_CLUSTERING):
            found, points = cv2.findCirclesGrid(grey, (self.columns, self.rows), flags=flags, blobDetector=blobs)
            if found:
                break
        return found, points


def parse_count(text: str) -> Tuple[int, int]:
    """``"9x6"`` -> ``(9, 6)``, columns and rows: the ``type=`` of an argument. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"([0-9]{1,2})[xX]([0-9]{1,2})", text.strip())
    counts = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if min(counts) < 3:
        raise argparse.ArgumentTypeError(f"a target is COLSxROWS, 3 or more of each, such as 9x6. Got {text!r}")
    return counts


def _like(grid: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Turn how a grid (rows, columns, 2) is counted, so that its rows and columns run as those of another do.

    A target looks the same turned by half, a square one by a quarter. Of all ways to count it, the right one runs in
    both frames the same way, as long as the cameras are turned by less than 90 degrees to each other, 45 for a square.
    """
    ways: List[np.ndarray] = [grid[::down, ::across] for down in (1, -1) for across in (1, -1)]
    if grid.shape[0] == grid.shape[1]:
        ways += [way.swapaxes(0, 1) for way in ways]
    wanted = _directions(other)
    return max(ways, key=lambda way: float((_directions(way) * wanted).sum()))


def _directions(grid: np.ndarray) -> np.ndarray:
    """Give the unit vectors, (2, 2), along which columns and rows are counted."""
    along = np.stack([(grid[:, -1] - grid[:, 0]).mean(axis=0), (grid[-1] - grid[0]).mean(axis=0)])
    return along / np.linalg.norm(along, axis=1, keepdims=True)


def _stretched(frame: np.ndarray) -> np.ndarray:
    """uint8 or uint16, (H, W) or BGR -> uint8 (H, W) that goes from black to white."""
    grey = (to_grey(frame) if frame.ndim == 3 else frame).astype(np.float32)
    low, high = np.percentile(grey, SHARES)
    return cv2.convertScaleAbs(np.clip((grey - low) / max(high - low, 1), 0, 1), alpha=255.0)
