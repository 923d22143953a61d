"""Rendered targets: what an infrared and a visible camera see of a board, and the homography between the two."""

import cv2
import numpy as np
import pytest

SQUARE = 30  # pixels of the drawing
VISIBLE = (480, 640)


def _draw(target):
    """Return the target dark on white, float64 (H, W) in 0..1."""
    rows, columns = target.rows, target.columns
    if target.kind == "checkerboard":
        squares = np.add.outer(np.arange(rows + 1), np.arange(columns + 1)) % 2
        return np.pad(np.kron(squares, np.ones((SQUARE, SQUARE))), SQUARE, constant_values=1).astype(float)
    shifted = target.kind == "asymmetric-circles"
    radius = SQUARE * (0.22 if shifted else 0.3)
    row, column = np.mgrid[:rows, :columns]
    across = column + (row % 2) / 2 if shifted else column
    down = row / 2 if shifted else row
    height, width = (int((grid.max() + 2) * SQUARE) for grid in (down, across))
    y, x = np.mgrid[:height, :width]
    picture = np.ones((height, width))
    for u, v in zip((across.ravel() + 1) * SQUARE, (down.ravel() + 1) * SQUARE):
        picture = np.minimum(picture, np.clip(np.hypot(x - u, y - v) - radius + 0.5, 0, 1))
    return picture


def _about_centre(size, degrees, scale, shift=(0, 0)):
    """Return the matrix that turns and scales about a frame's centre, then shifts."""
    centre = (np.array(size[::-1]) - 1) / 2
    matrix = np.vstack([cv2.getRotationMatrix2D(tuple(centre), -degrees, scale), (0, 0, 1)])
    matrix[:2, 2] += shift
    return matrix


def _render(picture, matrix, size, rng, low, high, dtype=np.uint8, inverted=False, ground=0.5):
    """Return a camera's frame of the drawing: on plain ground, a little blurred, with noise of 3 % of its contrast."""
    seen = cv2.warpPerspective(1 - picture if inverted else picture, matrix, size[::-1], borderValue=ground)
    seen = cv2.GaussianBlur(seen, (0, 0), 0.8)
    counts = low + (high - low) * (seen + rng.normal(0, 0.03, size))
    return np.clip(np.rint(counts), 0, np.iinfo(dtype).max).astype(dtype)


def _render_pair(target, truth, infrared_size, degrees, seed=0, keystone=2e-4, **infrared):
    """Return infrared, visible as the homography ``truth`` has them, the target turned by so many degrees."""
    rng, picture = np.random.default_rng(seed), _draw(target)
    height, width = picture.shape
    fitting = 0.75 * VISIBLE[0] / np.hypot(height, width)
    to_centre = np.eye(3)
    to_centre[:2, 2] = (np.array(VISIBLE[::-1]) - (width, height)) / 2
    tilt = np.eye(3)
    tilt[2] = (keystone, -keystone / 2, 1 - keystone * 320 + keystone / 2 * 240)
    placed = tilt @ _about_centre(VISIBLE, degrees, fitting) @ to_centre
    visible = _render(picture, placed, VISIBLE, rng, 40, 220)
    return _render(picture, np.linalg.inv(truth) @ placed, infrared_size, rng, **infrared), visible


def _similarity(infrared_size, degrees, scale, shift):
    """Return the homography of an infrared camera beside a visible one of 480x640, float64 (3, 3)."""
    ratio = VISIBLE[0] / infrared_size[0]
    enlarge = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]])
    return _about_centre(VISIBLE, degrees, scale, shift) @ enlarge


@pytest.fixture
def similarity():
    """The function that gives a homography from an infrared size, degrees, a scale and a shift."""
    return _similarity


@pytest.fixture
def render_pair():
    """The function that gives the two frames of a target."""
    return _render_pair
