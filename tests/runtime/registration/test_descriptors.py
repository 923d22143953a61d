import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irvis.runtime.registration.descriptors import describe, to_plane


def bars(degrees, size=64, period=12.0):
    """Return a sine across bars whose normal points this way, in [0, 1]."""
    y, x = np.mgrid[:size, :size] * (2 * np.pi / period)
    angle = np.deg2rad(degrees)
    return (0.5 + 0.5 * np.sin(x * np.cos(angle) + y * np.sin(angle))).astype(np.float32)


@given(st.floats(0, 180))
def test_the_channels_are_twice_and_four_times_the_angle(degrees):
    cos2, sin2, cos4, sin4 = describe(bars(degrees))[16:-16, 16:-16].mean((0, 1))
    for cos, sin, times in ((cos2, sin2, 2), (cos4, sin4, 4)):
        difference = np.angle((cos + 1j * sin) * np.exp(-1j * times * np.deg2rad(degrees)))
        assert abs(difference) < 0.05
        assert np.hypot(cos, sin) > 0.5


@given(arrays(np.float32, (24, 20), elements=st.floats(0, 1, width=32)))
def test_neither_sign_nor_gain_matters_and_all_is_finite(plane):
    described = describe(plane)
    assert described.shape == (24, 20, 4)
    assert described.dtype == np.float32
    assert np.isfinite(described).all()
    np.testing.assert_allclose(describe(1 - plane), described, atol=0.02)


def test_weak_and_strong_contrast_count_alike_and_flat_is_0():
    plane = np.hstack([bars(30), 0.5 + 0.2 * (bars(30) - 0.5)])
    strength = np.linalg.norm(describe(plane), axis=2)
    weak, strong = strength[16:-16, 80:-16].mean(), strength[16:-16, 16:-80].mean()
    assert 0.3 < weak / strong < 1
    assert not describe(np.full((32, 32), 0.3, np.float32)).any()


def test_noise_has_no_orientation():
    noise = np.random.default_rng(0).random((128, 128)).astype(np.float32)
    ratio = np.linalg.norm(describe(noise), axis=2).mean() / np.linalg.norm(describe(bars(10, 128)), axis=2).mean()
    assert ratio < 0.5


def test_planes_are_scaled_by_percentiles_in_any_type():
    ramp = np.linspace(0, 255, 200 * 200).reshape(200, 200).astype(np.uint8)
    for frame in (ramp, ramp.astype(np.uint16) * 30 + 5000, cv2.cvtColor(ramp, cv2.COLOR_GRAY2BGR)):
        plane = to_plane(frame)
        assert plane.dtype == np.float32
        assert (plane.min(), plane.max()) == (0, 1)
        np.testing.assert_allclose(plane, np.clip((ramp - 1.27) / 252.5, 0, 1), atol=0.02)
