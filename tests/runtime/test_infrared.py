import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from irvis.runtime.errors import FrameError
from irvis.runtime.infrared import InfraredScaler


def scaled(scaler, frame):
    out = np.full(frame.shape, np.nan, np.float32)
    scaler(frame, out)
    return out


def test_percentiles_become_black_and_white():
    ramp = np.arange(10_000, dtype=np.uint16).reshape(100, 100) + 3000
    out = scaled(InfraredScaler((10, 90)), ramp)
    low, high = np.percentile(ramp, (10, 90))
    np.testing.assert_allclose(out, np.clip((ramp - low) / (high - low), 0, 1), atol=1e-6)


@given(arrays(np.uint16, (16, 16)))
def test_any_frame_lands_in_the_unit_interval_and_keeps_its_order(frame):
    out = scaled(InfraredScaler(), frame)
    assert np.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert (np.diff(out.ravel()[np.argsort(frame, axis=None)]) >= 0).all()


def test_a_flat_frame_is_black():
    assert scaled(InfraredScaler(), np.full((16, 16), 65535, np.uint16)).max() == 0


def test_a_hot_pixel_does_not_set_the_range():
    frame = np.random.default_rng(0).integers(7000, 7100, (240, 320)).astype(np.uint16)
    calm = scaled(InfraredScaler(), frame)
    frame[7, 9] = 65535
    hot = scaled(InfraredScaler(), frame)
    assert abs(hot - calm).mean() < 0.02


def test_the_limits_follow_slowly():
    scaler = InfraredScaler((0, 100), smoothing=0.75)
    scaled(scaler, np.array([[0, 100]] * 2, np.uint16))
    scaled(scaler, np.array([[1000, 2000]] * 2, np.uint16))
    np.testing.assert_allclose(scaler.limits, [250, 0.75 * 100 + 0.25 * 2000])
    scaler.reset()
    scaled(scaler, np.array([[1000, 2000]] * 2, np.uint16))
    np.testing.assert_allclose(scaler.limits, [1000, 2000])


def test_without_smoothing_each_frame_stands_alone():
    scaler = InfraredScaler((0, 100), smoothing=0)
    scaled(scaler, np.array([[0, 100]] * 2, np.uint16))
    np.testing.assert_allclose(scaled(scaler, np.array([[1000, 2000]] * 2, np.uint16)), [[0, 1]] * 2)


@pytest.mark.parametrize("percentiles", [(-1, 99), (50, 50), (90, 10), (0, 101)])
def test_silly_percentiles_are_refused(percentiles):
    with pytest.raises(FrameError, match="percentiles"):
        InfraredScaler(percentiles)


@given(st.one_of(st.floats(max_value=-0.01), st.floats(min_value=1), st.just(float("nan"))))
def test_silly_smoothing_is_refused(smoothing):
    with pytest.raises(FrameError, match="smoothing"):
        InfraredScaler(smoothing=smoothing)


def test_the_limits_of_a_large_frame_are_those_of_all_of_it():
    """One pixel in sixteen is looked at, from the first row and column to the last."""
    frame = (7000 + np.add.outer(10 * np.arange(480), 10 * np.arange(640))).astype(np.uint16)
    scaler = InfraredScaler((1, 99))
    scaled(scaler, frame)
    np.testing.assert_allclose(scaler.limits, np.percentile(frame, (1, 99)), atol=0.01 * np.ptp(frame))


def test_a_span_of_one_count_is_a_picture():
    np.testing.assert_array_equal(
        scaled(InfraredScaler((0, 100)), np.array([[7000, 7001]] * 2, np.uint16)), [[0, 1]] * 2
    )


def test_by_default_a_frame_moves_the_limits_by_a_tenth_of_the_change():
    scaler = InfraredScaler((0, 100))
    scaled(scaler, np.array([[0, 100]] * 2, np.uint16))
    scaled(scaler, np.array([[1000, 2000]] * 2, np.uint16))
    np.testing.assert_allclose(scaler.limits, [100, 290])
