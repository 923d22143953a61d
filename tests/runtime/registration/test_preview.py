import numpy as np
import pytest

from irvis.runtime.registration.homography import Registration
from irvis.runtime.registration.preview import FROM_INFRARED, LEFT_OUT, USED, describe, draw_preview

SIZE = (120, 160)


def registration(matrix, infrared_size=SIZE, visible_size=SIZE):
    return Registration(np.array(matrix, np.float64), infrared_size, visible_size, "points")


def about_centre(degrees, scale):
    """Return a matrix that turns (clockwise, as y runs down) and scales about the centre of frames of SIZE."""
    angle, centre = np.deg2rad(degrees), (np.array(SIZE[::-1]) - 1) / 2
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.vstack([np.c_[turn, centre - turn @ centre], (0, 0, 1)])


def count(picture, colour):
    return int((np.abs(picture.astype(int) - colour).max(-1) < 60).sum())


def test_nothing_moved_is_said_so():
    assert describe(registration(np.eye(3))) == (
        "the infrared is magnified 1.000 times and turned 0.00 degrees clockwise; "
        "its centre lies 0.0 px right of and 0.0 px below the visible's"
    )


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (about_centre(2.5, 1.25), "magnified 1.250 times and turned 2.50 degrees clockwise"),
        (about_centre(-3, 0.9), "magnified 0.900 times and turned 3.00 degrees counter-clockwise"),
        ([[1, 0, -7.5], [0, 1, 4], [0, 0, 1]], "7.5 px left of and 4.0 px below the visible's"),
        ([[1, 0, 2], [0, 1, -3], [0, 0, 1]], "2.0 px right of and 3.0 px above the visible's"),
        ([[1.1, 0, 0], [0, 1, 0], [0, 0, 1]], "its scale differs by 10.0% over the frame"),
    ],
)
def test_each_part_is_put_into_words(matrix, said):
    assert said in describe(registration(matrix))


def test_half_the_size_with_the_same_view_is_magnified_twice_about_the_same_centre():
    text = describe(registration([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]], (60, 80)))
    assert "magnified 2.000 times and turned 0.00 degrees" in text
    assert "0.0 px right of and 0.0 px below" in text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_before_on_the_left_and_after_on_the_right(dtype, channels):
    """A hot square before a dark scene: after registration its edges lie round the visible's."""
    infrared = np.full(SIZE, 20, dtype)
    infrared[30:60, 30:60] = 220
    visible = np.zeros((*SIZE, *channels), np.uint8)
    visible[50:80, 70:100] = 180
    picture = draw_preview(registration([[1, 0, 40], [0, 1, 20], [0, 0, 1]]), infrared, visible)
    assert (picture.dtype, picture.shape[1:]) == (np.uint8, (1600, 3))
    upper = picture[: picture.shape[0] // 2]
    orange = (upper[..., 2] > 200) & (upper[..., 1] < 170) & (upper[..., 0] < 60)
    rows, columns = np.nonzero(orange)
    left = columns < 800
    moved = (columns[~left].mean() - 804) - columns[left].mean(), rows[~left].mean() - rows[left].mean()
    scale = 1600 / (2 * SIZE[1] + 4)
    np.testing.assert_allclose(moved, (40 * scale, 20 * scale), atol=6)


def test_tiles_alternate_below_and_where_the_infrared_sees_nothing_the_visible_is_shown():
    infrared, visible = np.full(SIZE, 100, np.uint16), np.full(SIZE, 200, np.uint8)
    infrared[:, 80:] = 300  # 0 on the left, 255 on the right of what is shown
    picture = draw_preview(registration([[1, 0, 40], [0, 1, 0], [0, 0, 1]]), infrared, visible)
    lower = picture[picture.shape[0] // 2 :]
    scale = 1600 / (2 * SIZE[1] + 4)
    side = SIZE[0] // 8

    def tile(row, column, left):
        y, x = 24 + (row + 0.5) * side, left + (column + 0.5) * side
        return lower[int(y * scale), int(x * scale)].tolist()

    black, grey, white = [0] * 3, [200] * 3, [255] * 3
    assert [tile(0, column, 0) for column in (0, 1, 2, 3, 8, 9)] == [grey, black, grey, black, grey, white]
    assert [tile(1, column, 0) for column in (0, 1, 2, 3, 8, 9)] == [black, grey, black, grey, white, grey]
    assert [tile(0, column, SIZE[1] + 4) for column in (0, 1, 2, 3, 8, 9)] == [grey, grey, grey, black, grey, white]


def test_points_are_rings_in_the_visible_and_crosses_where_the_infrared_comes_to_lie():
    size = (480, 640)
    blank, nothing_moved = np.zeros(size, np.uint8), registration(np.eye(3), size, size)
    points = np.array([[30, 30, 30, 30], [420, 280, 400, 360.0]])
    bare = draw_preview(nothing_moved, blank, blank)
    assert [count(bare, colour) for colour in (USED, LEFT_OUT, FROM_INFRARED)] == [0, 0, 0]
    drawn = draw_preview(nothing_moved, blank, blank, points, np.array([True, False]))
    assert all(count(drawn, colour) > 20 for colour in (USED, LEFT_OUT, FROM_INFRARED))
