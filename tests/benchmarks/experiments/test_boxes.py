import argparse

import numpy as np
import pytest

from irvis.benchmarks.experiments.boxes import Box, parse_box, salient_box, texture_box
from irvis.runtime.errors import IrvisError


def centre(box):
    return box.x + box.width / 2, box.y + box.height / 2


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(90, 110, (240, 320), np.uint8)


def test_the_hottest_target_is_found_and_centred(noise):
    noise[100:128, 200:212] = 230  # a person
    noise[:, :60] = 200  # a warm wall is no target
    noise[30, 150] = 255  # nor is one pixel
    box = salient_box(noise)
    assert box[2:] == (40, 40)
    assert centre(box) == pytest.approx((206, 114), abs=2)


def test_the_box_grows_with_the_target(noise):
    noise[80:140, 200:212] = 230
    box = salient_box(noise)
    assert box[2:] == (71, 71)
    assert centre(box) == pytest.approx((206, 110), abs=2)


def test_of_two_neighbours_one_is_in_the_middle(noise):
    noise[100:124, 200:212] = 230
    noise[100:124, 232:244] = 220
    assert centre(salient_box(noise)) == pytest.approx((206, 112), abs=2)


def test_a_target_at_the_edge_is_in_a_box_within_the_frame(noise):
    noise[220:, 300:] = 250
    assert salient_box(noise) == (280, 200, 40, 40)


def test_a_flat_frame_has_some_box():
    flat = np.full((16, 20), 7, np.uint8)
    for box in (salient_box(flat), texture_box(flat, [])):
        box.check_inside(flat.shape, "box")


def test_the_richest_texture_is_found_beside_what_is_taken(noise):
    rng, frame = np.random.default_rng(1), np.full((240, 320), 100, np.uint8)
    frame[60:100, 40:80] = rng.integers(0, 256, (40, 40))
    frame[150:190, 200:240] = rng.integers(50, 150, (40, 40))
    first = texture_box(frame, [])
    assert first == pytest.approx((40, 60, 40, 40), abs=2)
    second = texture_box(frame, [first, Box(0, 0, 20, 20)])
    assert second == pytest.approx((200, 150, 40, 40), abs=2)
    assert second.shared(first) == 0


def test_boxes_as_text():
    assert parse_box("4,5,60,7") == Box(4, 5, 60, 7)
    for text in ("", "1,2,3", "1,2,3,0", "-1,2,3,4", "1, 2,3,4", "1,2,3,4,5"):
        with pytest.raises(argparse.ArgumentTypeError, match="X,Y,WIDTH,HEIGHT"):
            parse_box(text)


def test_what_boxes_cut_and_share():
    image = np.arange(48).reshape(6, 8)
    np.testing.assert_array_equal(Box(2, 1, 3, 2).cut(image), [[10, 11, 12], [18, 19, 20]])
    assert Box(0, 0, 4, 4).shared(Box(3, 2, 9, 9)) == 2
    assert Box(0, 0, 4, 4).shared(Box(4, 5, 2, 2)) == 0
    assert Box(1, 2, 3, 4).scaled(2) == (2, 4, 6, 8)
    Box(2, 2, 6, 4).check_inside((6, 8), "--crop")
    with pytest.raises(IrvisError, match=r"--crop does not lie within the 6x8 of the frame. Got 3,2,6,4"):
        Box(3, 2, 6, 4).check_inside((6, 8), "--crop")
