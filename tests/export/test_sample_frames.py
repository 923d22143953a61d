"""What an engine is calibrated and measured on: pairs of files as frames of the engine's size."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from irvis.export.sample_frames import find_pairs, read_frames, to_planes
from irvis.runtime.errors import FileError
from irvis.runtime.frames import split_luminance
from irvis.runtime.images import write_image
from irvis.runtime.pairs import Pair, pairs_of


def test_the_pairs_of_a_folder(samples: Path) -> None:
    assert [pair.name for pair in find_pairs(samples, 2)] == ["glare", "smoke"]
    assert len(find_pairs(samples, 25)) == 3


def test_a_bad_pair_is_told_before_work_on_them(cut_samples: Path) -> None:
    with pytest.raises(FileError, match=r"not an image that OpenCV can read: .*/cut/ir/street\.png"):
        find_pairs(cut_samples, 25)
    assert len(find_pairs(cut_samples, 1)) == 1


def test_frames_are_those_of_the_files(samples: Path) -> None:
    pair = pairs_of(samples)[0]
    infrared, visible = read_frames(pair)
    np.testing.assert_array_equal(infrared, cv2.imread(str(pair.infrared), cv2.IMREAD_UNCHANGED))
    np.testing.assert_array_equal(visible, cv2.imread(str(pair.visible), cv2.IMREAD_UNCHANGED))
    assert (infrared.shape, visible.shape) == ((96, 128), (96, 128, 3))


def test_frames_of_another_size(samples: Path) -> None:
    infrared, visible = read_frames(pairs_of(samples)[0], (32, 32))
    assert (infrared.shape, visible.shape) == ((32, 32), (32, 32, 3))
    assert (infrared.dtype, visible.dtype) == (np.uint8, np.uint8)
    whole, _ = read_frames(pairs_of(samples)[0])
    blocks = whole.reshape(32, 3, 32, 4).mean(axis=(1, 3))
    assert np.abs(infrared - blocks).max() <= 1


def test_real_pairs(data: Path) -> None:
    infrared, visible = read_frames(find_pairs(data / "TNO" / "test", 1)[0], (96, 128))
    assert (infrared.shape, visible.shape) == ((96, 128), (96, 128, 3))
    np.testing.assert_array_equal(visible[:, :, 0], visible[:, :, 2])  # TNO's visible is grey
    assert infrared.std() > 5


def write_pair(folder: Path, infrared: np.ndarray, visible: np.ndarray) -> Pair:
    pair = Pair("a", folder / "a_ir.png", folder / "a_vi.png")
    write_image(pair.infrared, infrared)
    write_image(pair.visible, visible)
    return pair


def test_a_grey_visible_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = np.arange(400, dtype=np.uint8).reshape(20, 20)
    _, visible = read_frames(write_pair(tmp_path, grey, grey))
    np.testing.assert_array_equal(visible, np.stack([grey] * 3, axis=2))


def test_what_cannot_be_fused_is_named(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, np.zeros((20, 20), np.uint8), np.zeros((20, 24, 3), np.uint8))
    with pytest.raises(FileError, match=r"a_ir\.png and .*a_vi\.png cannot be fused: .*20x20 and 20x24"):
        read_frames(pair)
    pair = write_pair(tmp_path, np.zeros((20, 20), np.uint16), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(FileError, match=r"8 bits.*uint16 in .*a_ir\.png"):
        read_frames(pair)


def test_planes_are_the_runtimes(samples: Path) -> None:
    infrared, visible = read_frames(pairs_of(samples)[0])
    planes = to_planes((infrared, visible))
    assert planes.dtype == np.float32
    np.testing.assert_array_equal(np.rint(planes[0] * 255), infrared)
    np.testing.assert_array_equal(np.rint(planes[1] * 255), split_luminance(visible).y)
