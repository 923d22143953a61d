import cv2
import numpy as np
import pytest

from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.frames import split_luminance
from irvis.runtime.images import write_image
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair


def put(folder, infrared, visible):
    pair = Pair("odd", folder / "ir" / "odd.png", folder / "vi" / "odd.png")
    write_image(pair.infrared, infrared)
    write_image(pair.visible, visible)
    return pair


def test_colour_is_taken_as_bt601_luminance(tmp_path):
    infrared, visible = np.random.default_rng(0).integers(0, 256, (2, 16, 17, 3), np.uint8)
    planes = read_luminance(put(tmp_path, infrared[:, :, 0], visible))
    assert [(plane.dtype, plane.shape) for plane in planes] == [(np.uint8, (16, 17))] * 2
    np.testing.assert_array_equal(planes[0], infrared[:, :, 0])
    np.testing.assert_array_equal(planes[1], split_luminance(visible).y)  # what the runtime fuses


def test_grey_stored_in_colour_or_not_comes_back_to_the_bit(tmp_path):
    grey = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16)
    coloured = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for infrared, visible in ((grey, grey), (coloured, grey), (grey, coloured)):
        for plane in read_luminance(put(tmp_path, infrared, visible)):
            np.testing.assert_array_equal(plane, grey)


@pytest.mark.parametrize(
    ("infrared", "visible", "error", "said"),
    [
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), FrameError, "one size. Got 20x20 and 20x21 in"),
        (np.zeros((20, 20), np.uint16), np.zeros((20, 20), np.uint8), FileError, "8-bit infrared. Got uint16 in"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint16), FileError, "8 bits a channel. Got uint16 in"),
        (np.zeros((15, 20), np.uint8), np.zeros((15, 20), np.uint8), FrameError, "16x16 or more. Got 15x20 in"),
    ],
    ids=["sizes differ", "16 bits infrared", "16 bits visible", "too small"],
)
def test_what_is_no_pair_is_one_line_with_the_file(tmp_path, infrared, visible, error, said):
    pair = put(tmp_path, infrared, visible)
    with pytest.raises(error) as raised:
        read_luminance(pair)
    message = str(raised.value)
    assert said in message
    assert "\n" not in message
    assert str(pair.infrared) in message or str(pair.visible) in message


def test_a_missing_and_a_broken_file_are_named(tmp_path):
    pair = put(tmp_path, np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8))
    pair.visible.write_bytes(b"no image")
    with pytest.raises(FileError, match=r"vi.odd\.png"):
        read_luminance(pair)
    pair.infrared.unlink()
    with pytest.raises(FileError, match=r"not found: .*ir.odd\.png"):
        read_luminance(pair)
