"""Targets in rendered frames: known homographies, blur, noise, either polarity, 16 bits, small and turned frames."""

import argparse

import numpy as np
import pytest

from irvis.runtime.registration.homography import project
from irvis.runtime.registration.points import fit
from irvis.runtime.registration.targets import Target, _like, parse_count

COLD16 = {"low": 7000, "high": 7300, "dtype": np.uint16, "inverted": True}
FAINT8 = {"low": 100, "high": 150}
BEFORE_DARK = {"low": 90, "high": 210, "inverted": True, "ground": -0.5}
CASES = {
    "checkerboard, small and inverted": (Target("checkerboard", 9, 6), (120, 160), 8, COLD16),
    "checkerboard before a dark scene": (Target("checkerboard", 9, 6), (480, 640), 17, BEFORE_DARK),
    "checkerboard, upside down": (Target("checkerboard", 9, 6), (256, 320), 178, FAINT8),
    "square checkerboard, on its corner": (Target("checkerboard", 7, 7), (480, 640), 46, COLD16),
    "circles, on their side": (Target("circles", 7, 5), (256, 320), 93, COLD16),
    "square of circles": (Target("circles", 6, 6), (480, 640), -44, FAINT8),
    "shifted rows": (Target("asymmetric-circles", 4, 11), (256, 320), -170, COLD16),
    "shifted rows that look the same turned": (Target("asymmetric-circles", 4, 10), (480, 640), 90, FAINT8),
}


@pytest.mark.parametrize("name", CASES)
def test_both_frames_are_counted_alike_and_to_a_part_of_a_pixel(name, similarity, render_pair):
    target, size, degrees, infrared = CASES[name]
    truth = similarity(size, 3, 1.04, (12, -9))
    points = target.match(*render_pair(target, truth, size, degrees, **infrared))
    assert points.shape == (target.columns * target.rows, 4)
    errors_px = np.linalg.norm(project(truth, points[:, :2]) - points[:, 2:], axis=1)
    infrared_pixel = 480 / size[0]
    assert np.sqrt(np.mean(errors_px**2)) < 0.25 * infrared_pixel
    assert fit(points, "similarity").used.all()


@pytest.mark.parametrize("shape", [(5, 7), (6, 6)])
def test_however_one_frame_is_counted_the_other_follows(shape):
    row, column = np.mgrid[: shape[0], : shape[1]]
    grid = np.stack([20.0 * column + 3 * row, 20.0 * row - 3 * column], -1)
    ways = [grid[::down, ::across] for down in (1, -1) for across in (1, -1)]
    if shape[0] == shape[1]:
        ways += [way.swapaxes(0, 1) for way in ways]
    for way in ways:
        np.testing.assert_array_equal(_like(way, grid * 1.5 + 7), grid)
        np.testing.assert_array_equal(_like(grid, way), way)


def test_a_target_that_is_not_there_is_not_found(similarity, render_pair):
    noise = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)
    target = Target("circles", 7, 5)
    assert target.find(noise) is None
    assert target.find(np.full((60, 80), 9, np.uint16)) is None
    infrared, visible = render_pair(target, similarity((480, 640), 0, 1, (0, 0)), (480, 640), 0, **FAINT8)
    assert target.match(infrared, np.full((480, 640, 3), 90, np.uint8)) is None
    assert target.match(infrared, np.dstack([visible] * 3)) is not None


def test_a_count_is_columns_and_rows():
    assert parse_count("9x6") == (9, 6)
    for text in ("9", "9x", "2x6", "9x-6", "axb", "9x6x3"):
        with pytest.raises(argparse.ArgumentTypeError, match="COLSxROWS"):
            parse_count(text)
