"""Targets in rendered frames: known homographies, blur, noise, either polarity, 16 bits, small and turned frames."""

import argparse

import cv2
import numpy as np
import pytest

from irvis.runtime.registration.homography import project
from irvis.runtime.registration.points import fit
from irvis.runtime.registration.targets import Target, parse_count

SQUARE = 30  # pixels of the drawing
VISIBLE = (480, 640)


def draw(target):
    """Give the target dark on white, float64 (H, W) in 0..1."""
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


def about_centre(size, degrees, scale, shift=(0, 0)):
    """Give the matrix that turns and scales about a frame's centre, then shifts."""
    centre = (np.array(size[::-1]) - 1) / 2
    matrix = np.vstack([cv2.getRotationMatrix2D(tuple(centre), -degrees, scale), (0, 0, 1)])
    matrix[:2, 2] += shift
    return matrix


def render(picture, matrix, size, rng, low, high, dtype=np.uint8, inverted=False):
    """Give a camera's frame of the drawing: on a grey ground, a little blurred, with noise of 3 % of its contrast."""
    seen = cv2.warpPerspective(picture - 0.5, matrix, size[::-1], flags=cv2.INTER_LINEAR)
    seen = cv2.GaussianBlur(seen, (0, 0), 0.8) * (-1 if inverted else 1) + 0.5
    counts = low + (high - low) * (seen + rng.normal(0, 0.03, size))
    return np.clip(np.rint(counts), 0, np.iinfo(dtype).max).astype(dtype)


def pair_of(target, truth, infrared_size, degrees, seed=0, keystone=2e-4, **infrared):
    """Give infrared, visible as the homography ``truth`` has them, the target turned by so many degrees."""
    rng, picture = np.random.default_rng(seed), draw(target)
    height, width = picture.shape
    fitting = 0.75 * VISIBLE[0] / np.hypot(height, width)
    to_centre = np.eye(3)
    to_centre[:2, 2] = (np.array(VISIBLE[::-1]) - (width, height)) / 2
    tilt = np.eye(3)
    tilt[2] = (keystone, -keystone / 2, 1 - keystone * 320 + keystone / 2 * 240)
    placed = tilt @ about_centre(VISIBLE, degrees, fitting) @ to_centre
    visible = render(picture, placed, VISIBLE, rng, 40, 220)
    return render(picture, np.linalg.inv(truth) @ placed, infrared_size, rng, **infrared), visible


def truth_of(infrared_size, degrees, scale, shift):
    ratio = VISIBLE[0] / infrared_size[0]
    enlarge = np.array([[ratio, 0, (ratio - 1) / 2], [0, ratio, (ratio - 1) / 2], [0, 0, 1]])
    return about_centre(VISIBLE, degrees, scale, shift) @ enlarge


COLD16 = {"low": 7000, "high": 7300, "dtype": np.uint16, "inverted": True}
FAINT8 = {"low": 100, "high": 150}
CASES = {
    "checkerboard, small and inverted": (Target("checkerboard", 9, 6), (120, 160), 8, COLD16),
    "checkerboard, upside down": (Target("checkerboard", 9, 6), (256, 320), 178, FAINT8),
    "square checkerboard, on its corner": (Target("checkerboard", 7, 7), (480, 640), 46, COLD16),
    "circles, on their side": (Target("circles", 7, 5), (256, 320), 93, COLD16),
    "square of circles": (Target("circles", 6, 6), (480, 640), -44, FAINT8),
    "shifted rows": (Target("asymmetric-circles", 4, 11), (256, 320), -170, COLD16),
    "shifted rows that look the same turned": (Target("asymmetric-circles", 4, 10), (480, 640), 90, FAINT8),
}


@pytest.mark.parametrize("name", CASES)
def test_both_frames_are_counted_alike_and_to_a_part_of_a_pixel(name):
    target, size, degrees, infrared = CASES[name]
    truth = truth_of(size, 3, 1.04, (12, -9))
    points = target.match(*pair_of(target, truth, size, degrees, **infrared))
    assert points.shape == (target.columns * target.rows, 4)
    errors_px = np.linalg.norm(project(truth, points[:, :2]) - points[:, 2:], axis=1)
    infrared_pixel = VISIBLE[0] / size[0]
    assert np.sqrt(np.mean(errors_px**2)) < 0.25 * infrared_pixel
    assert fit(points, "similarity").used.all()


def test_a_target_that_is_not_there_is_not_found():
    noise = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    target = Target("circles", 7, 5)
    assert target.find(noise) is None
    assert target.find(np.full((60, 80), 9, np.uint16)) is None
    infrared, visible = pair_of(target, truth_of(VISIBLE, 0, 1, (0, 0)), VISIBLE, 0, **FAINT8)
    assert target.match(infrared, np.full((480, 640, 3), 90, np.uint8)) is None
    assert target.match(infrared, np.dstack([visible] * 3)) is not None


def test_a_count_is_columns_and_rows():
    assert parse_count("9x6") == (9, 6)
    for text in ("9", "9x", "2x6", "9x-6", "axb", "9x6x3"):
        with pytest.raises(argparse.ArgumentTypeError, match="COLSxROWS"):
            parse_count(text)
