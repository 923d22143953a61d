import numpy as np

from irvis.runtime.panels import GAP, STRIP, side_by_side, stack_rows


def test_the_frames_stand_unchanged_under_their_labels():
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (40, 60), dtype=np.uint8), rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    panel = side_by_side([grey, colour, grey])
    assert panel.shape == (40 + STRIP, 3 * 60 + 2 * GAP, 3)
    np.testing.assert_array_equal(panel[STRIP:, :60], np.dstack([grey] * 3))
    np.testing.assert_array_equal(panel[STRIP:, 60 + GAP : 120 + GAP], colour)
    for left in (0, 60 + GAP, 120 + 2 * GAP):
        assert panel[:STRIP, left : left + 60].max() > 200  # a label


def test_sixteen_bits_are_stretched_to_be_seen():
    counts = np.arange(1600, dtype=np.uint16).reshape(40, 40) + 7000
    tile = side_by_side([counts], ["infrared"])[STRIP:]
    assert tile.min() == 0
    assert tile.max() == 255


def test_rows_of_several_sizes_make_one_picture():
    rows = [np.full((10, 20, 3), 9, np.uint8), np.full((30, 30, 3), 7, np.uint8)]
    picture = stack_rows(rows, width=40)
    assert picture.shape == (20 + 40, 40, 3)
    assert (picture[:20] == 9).all()
    assert (picture[20:] == 7).all()
