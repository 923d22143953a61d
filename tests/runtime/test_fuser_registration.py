"""Fuser with a registration: infrared in a geometry of its own fuses as the registered pair does."""

import cv2
import numpy as np
import pytest

from irvis.benchmarks.loop_cost import NoNetwork
from irvis.runtime import Fuser
from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.registration import Registration, Warp
from irvis.runtime.samples import make_scene

SIZE, SMALL = (120, 160), (112, 144)
# A turn of 1.5 degrees, a scale of 1.02 and a shift: the infrared covers most of the visible.
TURN = 1.02 * np.array([[0.99966, -0.02618], [0.02618, 0.99966]])
TRUTH = np.vstack([np.c_[TURN, (9.0, 3.0)], (0, 0, 1)])
REGISTRATION = Registration(TRUTH, SMALL, SIZE, "points")


@pytest.fixture(scope="module")
def pair():
    """Infrared of SMALL as the camera gives it, the same as registered, and visible."""
    infrared, visible = make_scene("street", *SIZE)
    infrared = cv2.GaussianBlur(infrared, (0, 0), 1.0)  # two interpolations leave nothing finer
    moved = cv2.warpPerspective(infrared, np.linalg.inv(TRUTH), SMALL[::-1], borderMode=cv2.BORDER_REPLICATE)
    return moved, infrared, visible


@pytest.fixture(scope="module")
def fuser():
    with Fuser(registration=REGISTRATION) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain():
    with Fuser() as opened:
        yield opened


def test_it_fuses_as_the_registered_pair_does_and_leaves_the_visible_elsewhere(fuser, plain, pair):
    moved, infrared, visible = pair
    fused, wanted = fuser(moved, visible), plain(infrared, visible)
    outside = Warp(REGISTRATION).outside > 0
    assert 0.05 < outside.mean() < 0.5
    np.testing.assert_array_equal(fused[outside], visible[outside])
    inside = cv2.erode((~outside).astype(np.uint8), np.ones((9, 9))) > 0  # the network sees beyond the edge
    difference = np.abs(fused.astype(int) - wanted)[inside]
    assert difference.mean() < 1
    assert np.percentile(difference, 99) < 6
    unregistered = plain(cv2.resize(moved, SIZE[::-1]), visible)
    assert np.abs(unregistered.astype(int) - wanted)[inside].mean() > 4 * difference.mean()


class ShowsInfrared(NoNetwork):
    """A network that takes frames and returns the infrared."""

    takes_frames = True

    def run(self, infrared, visible):
        return cv2.cvtColor(infrared, cv2.COLOR_GRAY2BGR)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_model_that_takes_frames_leaves_the_visible_elsewhere_too(pair, in_place):
    moved, _, visible = pair
    warp, given = Warp(REGISTRATION), visible.copy()
    with Fuser(ShowsInfrared(), registration=REGISTRATION) as fuser:
        fused = fuser(moved, given, out=given if in_place else None)
    wanted = np.where(warp.outside[:, :, None] > 0, visible, warp(moved)[:, :, None])
    np.testing.assert_array_equal(fused, wanted)


@pytest.mark.parametrize("grey", [False, True])
def test_in_place_the_visible_stays_elsewhere_too(fuser, pair, grey):
    moved, _, visible = pair
    visible = visible[:, :, 1].copy() if grey else visible
    wanted, given = fuser(moved, visible), visible.copy()
    np.testing.assert_array_equal(fuser(moved, given, out=given), wanted)


def test_it_is_the_same_as_warping_first(fuser, plain, pair):
    moved, _, visible = pair
    inside = Warp(REGISTRATION).outside == 0
    wanted = plain(Warp(REGISTRATION)(moved), visible)
    np.testing.assert_array_equal(fuser(moved, visible)[inside], wanted[inside])


def test_a_grey_visible_and_sixteen_bits(fuser, pair):
    moved, _, visible = pair
    grey = visible[:, :, 1].copy()
    fused = fuser(moved.astype(np.uint16) * 20 + 7000, grey)
    assert fused.shape == SIZE
    outside = Warp(REGISTRATION).outside > 0
    np.testing.assert_array_equal(fused[outside], grey[outside])
    assert np.abs(fused[~outside].astype(int) - grey[~outside]).mean() > 3


def test_crop_gives_the_common_area_only(plain, pair):
    moved, infrared, visible = pair
    with Fuser(registration=REGISTRATION, crop=True) as fuser:
        fused = fuser(moved, visible)
        top, left, height, width = fuser.warp.area
        with pytest.raises(FrameError, match=rf"out must be uint8 \({height}, {width}, 3\)"):
            fuser(moved, visible, np.empty_like(visible))
    assert fused.shape == (height, width, 3)
    assert height * width > 0.5 * SIZE[0] * SIZE[1]
    area = slice(top, top + height), slice(left, left + width)
    wanted = plain(np.ascontiguousarray(infrared[area]), np.ascontiguousarray(visible[area]))
    assert np.abs(fused.astype(int) - wanted).mean() < 1.5


def test_a_file_serves_as_well_and_out_is_written(fuser, pair, tmp_path):
    moved, _, visible = pair
    REGISTRATION.save(tmp_path / "registration.json")
    out, kept = np.empty_like(visible), visible.copy()
    with Fuser(registration=tmp_path / "registration.json") as from_file:
        assert from_file(moved, visible, out) is out
    np.testing.assert_array_equal(out, fuser(moved, visible))
    np.testing.assert_array_equal(visible, kept)


@pytest.mark.parametrize(
    ("infrared", "visible", "said"),
    [
        (SIZE, SIZE, "infrared frames of 112x144. Got 120x160"),
        (SMALL, SMALL, "visible frames of 120x160. Got 112x144"),
    ],
)
def test_other_sizes_are_one_line(fuser, infrared, visible, said):
    with pytest.raises(FrameError) as caught:
        fuser(np.zeros(infrared, np.uint8), np.zeros(visible, np.uint8))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_one_line(tmp_path):
    with pytest.raises(FrameError, match="crop needs a registration"):
        Fuser(crop=True)
    with pytest.raises(FileError, match="registration not found"):
        Fuser(registration=tmp_path / "none.json")
