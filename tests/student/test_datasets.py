import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.images import write_image
from irvis.runtime.pairs import Pair, pairs_of
from irvis.student.datasets import draw_crops, epoch_order, read_planes, to_unit


def write_pair(folder, name, infrared, visible):
    write_image(folder / "ir" / f"{name}.png", infrared)
    write_image(folder / "vi" / f"{name}.png", visible)


@pytest.fixture
def maps(tmp_path):
    """Pairs whose every pixel says where it is: infrared 2 * row + pair, visible 3 * column + 100 * pair, two sizes."""
    for pair, (height, width) in enumerate(((40, 50), (33, 37))):
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        write_pair(tmp_path, f"p{pair}", 2 * rows + pair, 3 * columns + 100 * pair)
    return tmp_path


def test_crops_are_registered_cuts_of_the_pairs(maps):
    pairs = [read_planes(pair) for pair in pairs_of(maps)]
    crops = draw_crops(maps, 40, 20, seed=1)
    assert crops.dtype == torch.uint8
    assert crops.shape == (40, 2, 20, 20)
    corners = set()
    for infrared, visible in crops.numpy():
        pair = infrared[0, 0] % 2
        top, left = infrared[0, 0] // 2, (int(visible[0, 0]) - 100 * pair) // 3
        cut = np.s_[top : top + 20, left : left + 20]
        np.testing.assert_array_equal(infrared, pairs[pair][0][cut])
        np.testing.assert_array_equal(visible, pairs[pair][1][cut])
        corners.add((pair, top, left))
    assert len(corners) > 30
    assert {pair for pair, _, _ in corners} == {0, 1}


def test_crops_reach_every_border(maps):
    crops = draw_crops(maps, 400, 31, seed=0).numpy()
    tops = {crop[0, 0, 0] // 2 for crop in crops if crop[0, 0, 0] % 2}
    lefts = {(int(crop[1, 0, 0]) - 100) // 3 for crop in crops if crop[0, 0, 0] % 2}
    assert tops == set(range(33 - 31 + 1))
    assert lefts == set(range(37 - 31 + 1))


def test_the_seed_decides_the_draw(maps):
    first, again, other = (draw_crops(maps, 10, 16, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_crop_may_be_a_whole_frame(maps):
    assert draw_crops(maps, 3, 33, seed=0).shape == (3, 2, 33, 33)


def test_too_small_frames_are_refused_with_their_side(maps):
    with pytest.raises(FrameError, match="crops of 34 x 34 do not fit into frames with a side of 33"):
        draw_crops(maps, 3, 34, seed=0)


def test_colour_is_taken_as_bt601_luminance(tmp_path):
    infrared, visible = np.random.default_rng(0).integers(0, 256, (2, 16, 17, 3), np.uint8)
    write_pair(tmp_path, "a", infrared[:, :, 0], visible)
    planes = read_planes(pairs_of(tmp_path)[0])
    assert [plane.dtype for plane in planes] == [np.uint8] * 2
    np.testing.assert_array_equal(planes[0], infrared[:, :, 0])
    exact = visible.astype(np.float64) @ [0.114, 0.587, 0.299]
    assert np.abs(planes[1] - exact).max() <= 0.51


def test_sizes_that_differ_within_a_pair_are_refused_with_both(tmp_path):
    write_pair(tmp_path, "odd", np.zeros((20, 30), np.uint8), np.zeros((20, 31), np.uint8))
    with pytest.raises(FrameError, match=r"odd differ in size: \(20, 30\) and \(20, 31\)"):
        draw_crops(tmp_path, 2, 16, seed=0)


def test_16_bit_infrared_is_refused(tmp_path):
    write_pair(tmp_path, "deep", np.zeros((20, 30), np.uint16), np.zeros((20, 30), np.uint8))
    with pytest.raises(FileError, match=r"8-bit infrared\. Got uint16"):
        draw_crops(tmp_path, 2, 16, seed=0)


def test_missing_folders_and_broken_images_are_refused(tmp_path, maps):
    with pytest.raises(FileError, match="folder not found"):
        draw_crops(tmp_path / "none", 2, 16, seed=0)
    (maps / "vi" / "p1.png").write_bytes(b"no image")
    with pytest.raises(FileError, match=r"p1\.png"):
        draw_crops(maps, 2, 16, seed=0)
    with pytest.raises(FileError, match="not found"):
        read_planes(Pair("x", maps / "ir" / "x.png", maps / "vi" / "x.png"))


def test_an_epoch_visits_every_crop_once_and_reproducibly():
    orders = [epoch_order(50, seed, epoch) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert sorted(order.tolist()) == list(range(50))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[3])


def test_unit_planes_keep_the_order_and_the_range():
    crops = torch.zeros(2, 2, 3, 4, dtype=torch.uint8)
    crops[:, 0], crops[:, 1] = 255, 51
    infrared, visible = to_unit(crops)
    assert infrared.shape == visible.shape == (2, 1, 3, 4)
    assert infrared.dtype == visible.dtype == torch.float32
    assert infrared.unique().tolist() == [1.0]
    assert visible.unique().tolist() == [np.float32(0.2)]


def test_infrared_stored_in_colour_comes_as_grey(tmp_path):
    grey = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)
    write_pair(tmp_path, "a", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), grey)
    for plane in read_planes(pairs_of(tmp_path)[0]):
        np.testing.assert_array_equal(plane, grey)
