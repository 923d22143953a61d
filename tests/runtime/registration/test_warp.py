"""The warp against a reference by hand in float64, its common area, and what it allocates."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.runtime.errors import FrameError, IrvisError
from irvis.runtime.registration.homography import Registration, corners_of, project
from irvis.runtime.registration.warp import Warp, largest_rectangle

INFRARED, VISIBLE = (60, 80), (72, 96)


def registration_of(corners, infrared_size=INFRARED, visible_size=VISIBLE):
    """Return the registration that takes the infrared frame's corners, clockwise from the top left, to these points."""
    rows = []
    for (x, y), (u, v) in zip(corners_of(infrared_size), corners):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, u], [0, 0, 0, x, y, 1, -v * x, -v * y, v]]
    rows = np.array(rows)
    matrix = np.append(np.linalg.solve(rows[:, :8], rows[:, 8]), 1).reshape(3, 3)
    return Registration(matrix, infrared_size, visible_size, "points")


def shift(x, y, size=(48, 64)):
    return Registration(np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]]), size, size, "points")


# Each corner of the infrared anywhere near that corner of the visible: rotations, scales, shifts, keystones.
registrations = st.lists(st.floats(-15, 15), min_size=8, max_size=8).map(
    lambda moves: registration_of(corners_of(VISIBLE) + np.reshape(moves, (4, 2)))
)


def sources_of(registration):
    """Return where in the infrared each visible pixel lies, float64 (H, W, 2) as (x, y)."""
    height, width = registration.visible_size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
    return project(np.linalg.inv(registration.homography), pixels)


def reference(infrared, registration, step=0.0):
    """Bilinear by hand, the outermost pixels repeated; coordinates rounded to multiples of step."""
    source = np.clip(sources_of(registration), 0, np.array(infrared.shape[::-1]) - 1)
    if step:
        source = np.rint(source / step) * step
    corner = np.minimum(source.astype(int), np.array(infrared.shape[::-1]) - 2)
    (x, y), (a, b) = np.moveaxis(corner, -1, 0), np.moveaxis(source - corner, -1, 0)
    values = infrared.astype(np.float64)
    upper = (1 - a) * values[y, x] + a * values[y, x + 1]
    lower = (1 - a) * values[y + 1, x] + a * values[y + 1, x + 1]
    return (1 - b) * upper + b * lower


@settings(max_examples=40)
@given(registrations, st.integers(0, 2**32 - 1))
def test_noise_is_interpolated_to_a_level_at_a_thirty_second_of_a_pixel(registration, seed):
    infrared = np.random.default_rng(seed).integers(0, 256, INFRARED, dtype=np.uint8)
    found = Warp(registration)(infrared)
    # Where a coordinate lies midway between two steps, float32 and float64 may round to either.
    position = sources_of(registration) * 32 % 1
    clear = (np.abs(position - 0.5) > 0.02).all(-1)
    assert clear.mean() > 0.8
    assert np.abs(found - reference(infrared, registration, 1 / 32))[clear].max() <= 1


@settings(max_examples=40)
@given(registrations, st.sampled_from([(np.uint8, 1.0), (np.uint16, 20.0), (np.float32, 1.0)]))
def test_a_smooth_picture_is_right_to_a_level(registration, kind):
    dtype, contrast = kind
    y, x = np.mgrid[: INFRARED[0], : INFRARED[1]]
    infrared = np.rint((120 + 50 * np.sin(x / 9) + 50 * np.cos(y / 7)) * contrast).astype(dtype)
    found = Warp(registration)(infrared)
    assert found.dtype == dtype
    # The slope is under 8 levels a pixel, of which half a step of 1/32 is an eighth in either direction.
    assert np.abs(found - reference(infrared, registration)).max() <= 0.5 + 0.25 * contrast


@given(registrations)
@settings(max_examples=40)
def test_no_dark_rim_bleeds_in_and_outside_is_where_the_infrared_sees_nothing(registration):
    warp = Warp(registration)
    assert (warp(np.full(INFRARED, 200, np.uint8)) == 200).all()
    seen = np.abs(sources_of(registration) - (np.array(INFRARED[::-1]) - 1) / 2) <= np.array(INFRARED[::-1]) / 2 + 1e-6
    outside = warp.outside if warp.outside is not None else np.zeros(VISIBLE, np.uint8)
    assert outside.dtype == np.uint8
    np.testing.assert_array_equal(outside, np.where(seen.all(-1), 0, 255))


def test_the_identity_changes_nothing():
    infrared = np.random.default_rng(0).integers(0, 65536, (48, 64), dtype=np.uint16)
    warp = Warp(Registration(np.eye(3), (48, 64), (48, 64), "points"))
    np.testing.assert_array_equal(warp(infrared), infrared)
    assert warp.outside is None
    assert warp.area == (0, 0, 48, 64)


def test_twice_the_size_covers_everything():
    """The half pixel about a frame's outermost centres belongs to it."""
    registration = registration_of(corners_of((96, 128)), (48, 64), (96, 128))
    assert Warp(registration).outside is None
    assert Warp(registration, crop=True).size == (96, 128)


def test_a_shift_by_whole_pixels_is_exact_and_can_be_cropped():
    infrared = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
    visible = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    whole, cropped = Warp(shift(5, -3)), Warp(shift(5, -3), crop=True)
    np.testing.assert_array_equal(whole(infrared)[:45, 5:], infrared[3:, :59])
    assert whole.size == (48, 64)
    assert (whole.outside == 0).sum() == 45 * 59
    assert cropped.area == (0, 5, 45, 59)
    assert cropped.size == (45, 59)
    assert cropped.outside is None
    np.testing.assert_array_equal(cropped(infrared), infrared[3:, :59])
    view = cropped.crop_visible(visible)
    assert np.shares_memory(view, visible)
    np.testing.assert_array_equal(view, visible[:45, 5:])


@given(registrations)
@settings(max_examples=10)
def test_the_common_area_is_the_largest_rectangle_that_is_wholly_covered(registration):
    outside = Warp(registration).outside
    covered = np.ones(VISIBLE, bool) if outside is None else outside == 0
    top, left, height, width = Warp(registration, crop=True).area
    assert covered[top : top + height, left : left + width].all()
    assert height * width == largest_by_histogram(covered)


def largest_by_histogram(covered, least=16):
    """The largest rectangle of any mask, convex or not: from each row upwards, the lowest column bounds the height."""
    best, heights = 0, np.zeros(covered.shape[1], int)
    for row in covered:
        heights = np.where(row, heights + 1, 0)
        for left in range(len(heights)):
            down = np.minimum.accumulate(heights[left:])
            across = np.arange(1, len(down) + 1)
            best = max(best, int((down * across * ((down >= least) & (across >= least))).max()))
    return best


def test_nothing_in_common_is_one_line():
    with pytest.raises(IrvisError, match="nothing in common") as caught:
        Warp(shift(100, 0))
    assert "irvis calibrate" in str(caught.value)
    assert Warp(shift(50, 0)).outside is not None
    with pytest.raises(IrvisError, match="smaller than 16x16"):
        Warp(shift(50, 0), crop=True)
    with pytest.raises(IrvisError, match="smaller than 16x16"):
        largest_rectangle(np.zeros((40, 40), bool))


def test_pixels_behind_the_horizon_see_nothing():
    """A strong keystone: the inverse has its horizon in the visible frame, beyond which its points come back."""
    matrix = np.array([[1, 0, 0], [0, 1, 0], [0.05, 0, 1.0]])
    registration = Registration(matrix, (48, 64), (48, 64), "points")
    edge = project(matrix, corners_of((48, 64)))[1][0]  # nothing lies right of it
    assert edge < 20
    outside = Warp(registration).outside
    assert (outside[:, 20:] == 255).all()
    assert (outside[0, 1:15] == 0).all()


def test_out_is_written_and_nothing_of_a_frame_s_size_is_allocated():
    registration = registration_of(corners_of((480, 640)) * 1.05 - 9, (480, 640), (480, 640))
    warp, infrared = Warp(registration), np.random.default_rng(0).integers(0, 256, (480, 640), dtype=np.uint8)
    out = np.empty((480, 640), np.uint8)
    wanted = warp(infrared)
    tracemalloc.start()
    try:
        for _ in range(5):
            assert warp(infrared, out) is out
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize(
    ("infrared", "message"),
    [
        (np.zeros((60, 81), np.uint8), "infrared frames of 60x80. Got 60x81; .*irvis calibrate"),
        (np.zeros((60, 80, 3), np.uint8), r"uint16 or float32 \(H, W\). Got uint8 \(60, 80, 3\)"),
        (np.zeros((60, 80), np.float64), r"uint16 or float32 \(H, W\). Got float64"),
        ([[1, 2]], "Got list"),
    ],
)
def test_another_frame_is_refused_in_one_line(infrared, message):
    warp = Warp(registration_of(corners_of(VISIBLE)))
    with pytest.raises(FrameError, match=message) as caught:
        warp(infrared)
    assert "\n" not in str(caught.value)


def test_another_visible_frame_is_refused():
    warp = Warp(registration_of(corners_of(VISIBLE)))
    with pytest.raises(FrameError, match=r"visible frames of 72x96\. Got 60x80"):
        warp.crop_visible(np.zeros((60, 80), np.uint8))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros(VISIBLE, np.uint16),
        np.zeros(INFRARED, np.uint8),
        np.zeros((72, 192), np.uint8)[:, ::2],
        np.frombuffer(bytes(72 * 96), np.uint8).reshape(VISIBLE),
    ],
    ids=["type", "size", "strides", "read-only"],
)
def test_an_out_that_opencv_would_not_write_is_refused(out):
    with pytest.raises(FrameError, match=r"out must be uint8 \(72, 96\), contiguous and writable"):
        Warp(registration_of(corners_of(VISIBLE)))(np.zeros(INFRARED, np.uint8), out)
