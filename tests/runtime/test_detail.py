import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.runtime.buffers import Buffers
from irvis.runtime.detail import LARGEST, Fitted, detail_weights, resize_plane, restore_detail

SMALL = (24, 32)


def resized(plane, size):
    return resize_plane(plane, size, np.empty(size, plane.dtype))


def fitted(seed, size=(48, 64)):
    """Return two planes of noise, with what a model of another size gets of them."""
    infrared, luminance = np.random.default_rng(seed).integers(0, 256, (2, *size), np.uint8)
    return Fitted(infrared, luminance, resized(infrared, SMALL), resized(luminance, SMALL))


def levels(*planes):
    return [plane.astype(np.float32) for plane in planes]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([(48, 64), (50, 61), (96, 64), (24, 32), (17, 19)]),
    a=st.floats(0, 1),
    b=st.floats(0, 1),
)
def test_what_weighs_the_planes_alike_at_every_scale_is_restored_whole(seed, size, a, b):
    planes = fitted(seed, size)
    infrared, luminance, small_infrared, small_luminance = (plane.astype(np.float64) for plane in planes)
    fused = ((a * small_infrared + b * small_luminance) / 255 / 2).astype(np.float32)
    wanted = (a * infrared + b * luminance) / 2
    restored = restore_detail(fused, planes, Buffers())
    assert (restored.dtype, restored.shape) == (np.uint8, size)
    np.testing.assert_allclose(restored, wanted, atol=0.52)  # by rounding, and the ridge


def test_the_formula_against_float64():
    planes = fitted(1)
    fused = np.random.default_rng(2).integers(0, 256, SMALL, np.uint8)
    a, b = detail_weights(*levels(fused, planes.small_infrared, planes.small_luminance), Buffers())
    f, i, y = levels(fused, planes.small_infrared, planes.small_luminance)
    details = [plane - resized(resized(plane, (12, 16)), SMALL) for plane in (f, i, y)]
    ridge = 0.01 * f.size
    matrix = np.stack([details[1].ravel(), details[2].ravel()], axis=1).astype(np.float64)
    right = matrix.T @ details[0].ravel().astype(np.float64) + [0, ridge]
    found = np.linalg.solve(matrix.T @ matrix + ridge * np.eye(2), right)
    assert (a, b) == pytest.approx(found.clip(0, LARGEST), abs=1e-5)
    up = [resized(plane, (48, 64)) for plane in (f, i, y)]
    wanted = up[0] + a * (planes.infrared - up[1]) + b * (planes.luminance - up[2])
    np.testing.assert_allclose(restore_detail(fused, planes, Buffers()), wanted.clip(0, 255), atol=0.51)


def test_infrared_scaled_from_16_bits_is_a_plane_like_any_other():
    planes = fitted(3)
    scaled = [(plane / np.float32(255)).astype(np.float32) for plane in (planes.infrared, planes.small_infrared)]
    fused = resized(planes.infrared, SMALL)
    as_float = restore_detail(fused, planes._replace(infrared=scaled[0], small_infrared=scaled[1]), Buffers())
    np.testing.assert_allclose(as_float.astype(int), restore_detail(fused, planes, Buffers()), atol=1)


def test_frames_without_detail_and_a_model_that_returns_nan_leave_the_luminance_its_own():
    flat, noise = np.full(SMALL, 90, np.float32), levels(fitted(4).small_infrared)[0]
    assert detail_weights(flat, flat, flat, Buffers()) == (0.0, 1.0)
    assert detail_weights(np.full(SMALL, np.nan, np.float32), noise, noise, Buffers()) == (0.0, 1.0)
    a, b = detail_weights(noise, noise, noise, Buffers())  # which of two equal planes it is from is not known
    assert a + b == pytest.approx(1, abs=1e-3)


def test_weights_are_limited():
    infrared, luminance = levels(*fitted(5)[2:])
    assert detail_weights(4 * infrared - luminance, infrared, luminance, Buffers()) == (LARGEST, 0.0)
