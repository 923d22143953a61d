import cv2
import numpy as np
import pytest

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras import scene
from irvis.runtime.cameras.reader import open_reader
from irvis.runtime.cameras.uri import parse_uri
from irvis.runtime.errors import FileError
from irvis.runtime.samples import make_scene

SIZE = "width=64&height=48"


def frames(uri, role, count):
    reader = open_reader(parse_uri(uri), role)
    return [(reading.image.copy(), reading.stamp_s) for reading in (reader.read(Buffers()) for _ in range(count))]


def test_the_scene_moves_and_comes_round_without_a_jump():
    found = frames(f"test://street?{SIZE}&fps=10", "visible", 300)
    steps = [abs(second[0].astype(int) - first[0]).mean() for first, second in zip(found, found[1:])]
    assert max(steps) < 40
    assert sum(step > 0 for step in steps) > 200
    np.testing.assert_allclose([stamp for _, stamp in found], np.arange(300) / 10)


def test_both_see_the_same_at_the_same_time_whatever_their_rates():
    slow = frames(f"test://street?{SIZE}&fps=10", "infrared", 30)
    fast = frames(f"test://street?{SIZE}&fps=30", "infrared", 90)
    for (image, stamp), (other, other_stamp) in zip(slow, fast[::3]):
        assert stamp == pytest.approx(other_stamp)
        np.testing.assert_array_equal(image, other)


def test_infrared_may_have_16_bits():
    (wide, _), (narrow, _) = (frames(f"test://glare?{SIZE}{bits}", "infrared", 1)[0] for bits in ("&bits=16", ""))
    assert wide.dtype == np.uint16
    np.testing.assert_array_equal(wide, 7000 + 12 * narrow.astype(np.uint16))


def test_a_large_scene_is_a_small_one_enlarged_since_painting_it_would_take_a_minute(monkeypatch):
    painted = []

    def paint(name, height, width):
        painted.append((height, width))
        return make_scene(name, height, width)

    monkeypatch.setattr(scene, "make_scene", paint)
    monkeypatch.setattr(scene, "DEFAULT_SIZE", (48, 64))
    scene._panorama.cache_clear()
    for role, shape in (("infrared", (108, 192)), ("visible", (108, 192, 3))):
        image, _ = frames("test://street?width=192&height=108", role, 1)[0]
        assert image.shape == shape
        small = make_scene("street", *painted[0])[role == "visible"]
        back = cv2.resize(image, painted[0][::-1], interpolation=cv2.INTER_AREA)
        assert np.corrcoef(back.ravel(), small.ravel())[0, 1] > 0.99
    assert painted == [(42, 74)]  # of the same shape, and no more pixels than 48x64, up to rounding
    scene._panorama.cache_clear()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("test://moon", "one of test://street"),
        ("test://?width=8", "16 to 4096"),
        ("test://?bits=12", "bits must be 8, or 16 for infrared"),
        ("test://?fps=0", "fps must be a number above 0"),
        ("test://?width=wide", "width must be a whole number"),
    ],
)
def test_what_cannot_be_is_said(uri, message):
    with pytest.raises(FileError, match=message):
        open_reader(parse_uri(uri), "infrared")
