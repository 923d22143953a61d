"""The picture of a registration, and the words for it."""

import cv2
import numpy as np
import pytest

from irvis.runtime.registration.homography import Registration
from irvis.runtime.registration.preview import USED, describe, draw_preview
from irvis.runtime.samples import make_scene

SIZE = (96, 128)


def registration_of(matrix, infrared_size=SIZE, visible_size=SIZE):
    return Registration(np.array(matrix, float), infrared_size, visible_size, "points")


def turned(degrees, scale, right, down, size=SIZE):
    centre = ((size[1] - 1) / 2, (size[0] - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, -degrees, scale)  # OpenCV counts counter-clockwise
    matrix[:, 2] += (right, down)
    return np.vstack([matrix, (0, 0, 1)])


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        (
            np.eye(3),
            "magnified 1.000 times and turned 0.00 degrees clockwise; its centre lies 0.0 px right of and 0.0 px",
        ),
        (
            turned(2, 1.05, 7, -3),
            "magnified 1.050 times and turned 2.00 degrees clockwise; its centre lies 7.0 px right",
        ),
        (
            turned(-3, 0.95, -4, 6),
            "turned 3.00 degrees counter-clockwise; its centre lies 4.0 px left of and 6.0 px below",
        ),
        (np.diag([1.2, 1.0, 1.0]), "; its scale differs by 20.0% over the frame"),
    ],
)
def test_what_it_does_is_told_in_words(matrix, text):
    assert text in describe(registration_of(matrix))


def test_sizes_differ():
    doubled = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    text = describe(registration_of(doubled, (48, 64), SIZE))
    assert "magnified 2.000 times" in text
    assert "0.0 px right of and 0.0 px below" in text


def test_the_right_half_shows_the_registered_infrared_and_the_points():
    infrared, visible = make_scene("street", *SIZE)
    shift = registration_of([[1, 0, 12], [0, 1, 0], [0, 0, 1]])
    moved = np.roll(infrared, -12, axis=1)
    points = np.array([[20.0, 50.0, 32.0, 50.0]])
    right = draw_preview(shift, moved, visible, points, np.array([True]))
    still = draw_preview(registration_of(np.eye(3)), infrared, visible)
    assert right.shape == still.shape
    assert right.shape[1] == 1600
    half, top = 800, right.shape[0] // 2
    # Registered, the moved infrared gives the picture of the one that never moved, but for what came in at the side.
    ours, theirs = right[top:, half + 200 :], still[top:, half + 200 :]
    registered = abs(ours.astype(int) - theirs).mean()
    assert abs(right[top:, : half - 10].astype(int) - still[top:, : half - 10]).mean() > 3 * registered
    green = (abs(right[:top].astype(int) - USED) < 60).all(axis=2)
    assert green[:, half:].sum() > 20
    assert green[:, :half].sum() == 0
