import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irvis.runtime.buffers import Buffers
from irvis.runtime.errors import FrameError
from irvis.runtime.frames import (
    check_out,
    check_pair,
    join_luminance,
    recolour,
    split_luminance,
    to_levels,
    to_unit,
)

GREY = np.zeros((16, 20), np.uint8)
COLOUR = np.zeros((16, 20, 3), np.uint8)


@pytest.mark.parametrize(
    ("infrared", "visible"), [(GREY, GREY), (GREY, COLOUR), (GREY.astype(np.uint16), COLOUR), (GREY[:, ::-1], COLOUR)]
)
def test_pairs_that_can_be_fused_pass(infrared, visible):
    check_pair(infrared, visible)


@pytest.mark.parametrize(
    ("infrared", "visible", "message"),
    [
        (GREY.astype(np.float32), COLOUR, r"infrared must be uint8 or uint16. Got float32 \(16, 20\); scale it"),
        (np.full((16, 20), np.nan), COLOUR, "infrared must be uint8 or uint16. Got float64"),
        (GREY, COLOUR.astype(np.float32), "visible must be uint8. Got float32"),
        (GREY, COLOUR.astype(np.uint16), "visible must be uint8. Got uint16"),
        (COLOUR, COLOUR, r"infrared must be \(H, W\). Got \(16, 20, 3\)"),
        (GREY, np.zeros((16, 20, 4), np.uint8), r"visible must be BGR .*Got \(16, 20, 4\)"),
        (GREY, np.zeros(16, np.uint8), "visible must be BGR"),
        (GREY, COLOUR[:, 1:], "differ in size: 16x20 and 16x19; register"),
        (GREY[1:], COLOUR[1:], "at least 16x16. Got 15x20"),
        (GREY[:, 5:], COLOUR[:, 5:], "at least 16x16. Got 16x15"),
        (np.zeros((0, 0), np.uint8), np.zeros((0, 0), np.uint8), "at least 16x16. Got 0x0"),
        ([[1]], COLOUR, "infrared must be a numpy array. Got list"),
        (None, COLOUR, "infrared must be a numpy array. Got NoneType"),
    ],
)
def test_other_frames_are_refused_with_what_came(infrared, visible, message):
    with pytest.raises(FrameError, match=message):
        check_pair(infrared, visible)


@given(arrays(np.uint8, (16, 16)))
def test_grey_goes_through_to_the_bit(frame):
    luminance = split_luminance(frame)
    unit = np.empty(frame.shape, np.float32)
    to_unit(luminance.y, unit)
    assert luminance.colour is None
    np.testing.assert_array_equal(unit, frame.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(join_luminance(unit, None), frame)
    np.testing.assert_array_equal(join_luminance(unit, luminance), frame)


@given(arrays(np.uint8, (16, 16, 3)))
def test_unchanged_luminance_gives_the_frame_back_to_the_bit(frame):
    luminance = split_luminance(frame)
    unit = np.empty(frame.shape[:2], np.float32)
    to_unit(luminance.y, unit)
    np.testing.assert_array_equal(join_luminance(unit, luminance), frame)


def recoloured(visible, y_fused):
    """The definition, in whole numbers."""
    blue, green, red = (visible[:, :, channel].astype(int) for channel in range(3))
    y = (1868 * blue + 9617 * green + 4899 * red + 8192) // 16384
    return np.clip(visible + (y_fused.astype(int) - y)[:, :, None], 0, 255)


@given(arrays(np.uint8, (16, 16, 3)), arrays(np.uint8, (16, 16)))
def test_recolouring_is_as_defined(frame, y_fused):
    wanted = recoloured(frame, y_fused)
    luminance = split_luminance(frame)
    before = frame.copy()
    np.testing.assert_array_equal(recolour(y_fused, luminance), wanted)
    out = np.empty_like(frame)
    assert recolour(y_fused, luminance, out) is out
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(frame, before)
    assert recolour(y_fused, luminance, frame) is frame  # where the caller needs the visible no more
    np.testing.assert_array_equal(frame, wanted)


def test_recolouring_takes_views():
    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    part, y_fused = frame[3:23, 5:45:2], frame[20:40, 30:50, 1]
    np.testing.assert_array_equal(recolour(y_fused, split_luminance(part)), recoloured(part, y_fused))


def test_recolouring_grey_gives_a_copy():
    y_fused, out = np.arange(256, dtype=np.uint8).reshape(16, 16), np.zeros((16, 16), np.uint8)
    result = recolour(y_fused, split_luminance(out.copy()))
    np.testing.assert_array_equal(result, y_fused)
    assert not np.shares_memory(result, y_fused)
    assert recolour(y_fused, split_luminance(out.copy()), out) is out
    np.testing.assert_array_equal(out, y_fused)


def test_luminance_is_bt601():
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    blue, green, red = (frame[:, :, channel].astype(float) for channel in range(3))
    np.testing.assert_allclose(split_luminance(frame).y, 0.299 * red + 0.587 * green + 0.114 * blue, atol=0.51)


def test_luminance_is_the_documented_formula_for_every_colour():
    green, red = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for blue in range(256):
        frame = np.dstack([np.full_like(green, blue), green, red])
        weighted = 1868 * blue + 9617 * green.astype(np.int32) + 4899 * red.astype(np.int32)
        np.testing.assert_array_equal(split_luminance(frame).y, (weighted + 8192) >> 14)


@given(arrays(np.float32, (16, 16), elements=st.floats(-1, 2, width=32)))
def test_levels_are_rounded_half_to_even_in_float32_and_the_plane_is_left_as_it_was(plane):
    before = plane.copy()
    wanted = np.clip(np.rint(plane * np.float32(255)), 0, 255)
    np.testing.assert_array_equal(to_levels(plane), wanted)
    np.testing.assert_array_equal(to_levels(plane, buffers=Buffers()), wanted)
    np.testing.assert_array_equal(plane, before)


def test_the_fused_luminance_takes_the_visible_hue():
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, :, 2] = 120
    brighter = join_luminance(np.full((16, 16), 0.4, np.float32), split_luminance(red))
    before, after = cv2.cvtColor(red, cv2.COLOR_BGR2YCrCb)[0, 0], cv2.cvtColor(brighter, cv2.COLOR_BGR2YCrCb)[0, 0]
    assert abs(int(after[0]) - 102) <= 1
    np.testing.assert_allclose(after[1:].astype(int), before[1:], atol=1)


@given(st.floats(-3, 3))
def test_what_lies_outside_saturates(value):
    frame = join_luminance(np.full((16, 16), value, np.float32), None)
    assert (frame == round(min(max(np.float32(value), 0), 1) * 255)).all()


def test_out_must_fit():
    check_out(COLOUR.copy(), COLOUR)
    for out in (GREY, COLOUR.astype(np.float32), None):
        with pytest.raises(FrameError, match="out must be uint8"):
            check_out(out, COLOUR)
    with pytest.raises(FrameError, match="contiguous"):
        check_out(np.zeros((16, 40, 3), np.uint8)[:, ::2], COLOUR)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_an_out_that_overlaps_the_visible_must_be_the_visible(channels):
    memory = np.zeros((33, 20, *channels), np.uint8)
    visible = memory[:16]
    check_out(visible, visible)
    check_out(memory[:16], visible)
    check_out(memory[16:32], visible)
    packed = memory.reshape(-1)[: memory[:16, 1:].size].reshape(16, 19, *channels)
    overlapping = (memory[1:17], visible), (visible, visible[::-1]), (visible, visible[:, ::-1])
    for out, frame in (*overlapping, (packed, memory[:16, :19])):  # the last begins where the frame does
        with pytest.raises(FrameError, match="out overlaps the visible frame") as caught:
            check_out(out, frame)
        assert "\n" not in str(caught.value)


def test_an_out_that_must_not_be_written_is_refused():
    out = COLOUR.copy()
    out.flags.writeable = False
    with pytest.raises(FrameError, match="writable"):
        check_out(out, COLOUR)
