import cv2
import numpy as np
import pytest

from irvis.runtime.images import read_image
from irvis.runtime.samples import SCENES, build, expose, make_scene, write_samples

SMALL = (120, 160)


def exposed(name, seed=0):
    scene = build(name, *SMALL, seed)
    infrared, visible = expose(scene)
    return scene, infrared.astype(float), cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY).astype(float)


def ring(mask, pixels=5):
    """Surroundings of a mask: within these pixels of it, but not at its soft edge."""
    grown = [cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0 for size in (3, 2 * pixels + 1)]
    return grown[1] & ~grown[0]


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [SMALL, (16, 16), (97, 131), (96, 16), (16, 96), (131, 50)])
def test_shape_type_and_content(name, size):
    infrared, visible = make_scene(name, *size)
    assert infrared.shape == size
    assert visible.shape == (*size, 3)
    assert infrared.dtype == visible.dtype == np.uint8
    assert infrared.std() > 5
    assert visible.std() > 5


def test_default_size():
    infrared, visible = make_scene("street")
    assert infrared.shape == (480, 640)
    assert visible.shape == (480, 640, 3)


@pytest.mark.parametrize("name", SCENES)
def test_the_seed_decides_the_picture(name):
    first, again, other = make_scene(name, *SMALL, 3), make_scene(name, *SMALL, 3), make_scene(name, *SMALL, 4)
    for one, same, different in zip(first, again, other):
        np.testing.assert_array_equal(one, same)
        assert np.mean(np.abs(one.astype(int) - different)) > 1


@pytest.mark.parametrize("seed", range(3))
def test_people_stand_out_in_infrared_and_hide_in_visible(seed):
    scene, infrared, visible = exposed("street", seed)
    bodies = scene.bodies > 0.9
    around = ring(scene.bodies > 0.1)
    assert bodies.sum() > 150
    assert infrared[bodies].mean() > 2.5 * infrared[around].mean()
    assert infrared[bodies].mean() - infrared[around].mean() > 80
    assert abs(visible[bodies].mean() - visible[around].mean()) < 25


@pytest.mark.parametrize("seed", range(3))
def test_smoke_hides_in_visible_and_not_in_infrared(seed):
    scene, infrared, visible = exposed("smoke", seed)
    thick = scene.smoke > 0.97
    hidden = thick & (scene.bodies > 0.9)
    assert thick.mean() > 0.05
    assert hidden.sum() > 40
    around = ring(hidden) & thick & (scene.bodies < 0.1)
    assert infrared[hidden].mean() - infrared[around].mean() > 60
    assert abs(visible[hidden].mean() - visible[around].mean()) < 12
    # Local deviation, over windows that people stand in: detail in the infrared, plain grey in the visible.
    spread = [np.sqrt(np.maximum(cv2.blur(p * p, (9, 9)) - cv2.blur(p, (9, 9)) ** 2, 0)) for p in (infrared, visible)]
    assert spread[1][hidden].mean() < 0.4 * spread[0][hidden].mean()


@pytest.mark.parametrize("seed", range(3))
def test_headlights_blind_the_visible_only(seed):
    _, infrared, visible = exposed("glare", seed)
    ahead = np.s_[50:70, 40:110]  # the oncoming car, below the windows of the houses
    blind = visible[ahead] > 225
    assert blind.sum() > 20
    assert infrared[ahead][blind].mean() < 150


def test_samples_lie_in_two_folders(tmp_path):
    write_samples(tmp_path / "demo", *SMALL)
    for name in SCENES:
        infrared, visible = make_scene(name, *SMALL)
        np.testing.assert_array_equal(read_image(tmp_path / "demo" / "ir" / f"{name}.png"), infrared)
        np.testing.assert_array_equal(read_image(tmp_path / "demo" / "vi" / f"{name}.png"), visible)
    assert len(list((tmp_path / "demo").rglob("*.*"))) == 2 * len(SCENES)


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"unknown scene 'moon'.*street"):
        make_scene("moon")


@pytest.mark.parametrize("size", [(15, 64), (64, 15)])
def test_too_small_is_refused(size):
    with pytest.raises(ValueError, match=f"Got {size[0]}x{size[1]}"):
        make_scene("street", *size)
