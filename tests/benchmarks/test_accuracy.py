import contextlib
import importlib.util
import math

import numpy as np
import pytest

from irvis.benchmarks.accuracy import PAIRS_AT_MOST, Accuracy, measure_accuracy
from irvis.export.acceptance import compare
from irvis.runtime import Fuser
from irvis.runtime.images import write_image
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.runtime.shipped import SHIPPED_MODEL
from irvis.runtime.spread import spread_by_parts


class Mean:
    """A backend that takes the mean of both planes, and adds to it."""

    name, takes_frames, h2d_ms, compute_ms, d2h_ms = "mean", False, None, 0.0, None

    def __init__(self, size=None, more=0.0):
        self.size, self.more = size, more

    def run(self, infrared, visible):
        return (infrared + visible) / 2 + np.float32(self.more)

    def close(self):
        pass


def test_a_known_difference_has_its_decibels():
    wanted = np.full((4, 4), 100, np.uint8)
    assert compare(wanted + np.uint8(2), wanted) == (pytest.approx(20 * math.log10(255 / 2)), pytest.approx(2 / 255))
    assert compare(wanted, wanted) == (200.0, 0.0)
    assert compare(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))[1] == 1.0


def test_the_shipped_student_is_itself(samples):
    with Fuser() as fuser:
        accuracy = measure_accuracy(fuser, samples, SHIPPED_MODEL)
    assert accuracy.error == {"max_abs": 0.0, "worst_psnr_db": 200.0, "mean_psnr_db": 200.0}
    assert accuracy.reference == "student.onnx"
    assert accuracy.pairs == accuracy.of > 1
    if importlib.util.find_spec("skimage"):
        assert set(accuracy.quality) == {"CC", "PSNR", "SCD", "SSIM"}


def test_another_model_is_held_against_the_reference_in_its_own_size(samples):
    with contextlib.closing(Fuser(Mean(size=(48, 64)))) as fuser:
        accuracy = measure_accuracy(fuser, samples, SHIPPED_MODEL)
    assert 5 < accuracy.error["worst_psnr_db"] <= accuracy.error["mean_psnr_db"] < 60
    assert 0 < accuracy.error["max_abs"] <= 1


def test_a_model_that_fits_the_frames_itself_is_held_against_them_at_their_own_size(samples):
    with contextlib.closing(Fuser(Mean(size=(48, 64)), resize=True)) as fuser:
        accuracy = measure_accuracy(fuser, samples, SHIPPED_MODEL, resize=True)
        errors = []
        for infrared, luminance in map(read_luminance, pairs_of(samples)):
            assert infrared.shape == (96, 128)
            with Fuser(infrared_smoothing=0) as exact:
                errors.append(compare(fuser(infrared, luminance), exact(infrared, luminance)))
    assert accuracy.error["worst_psnr_db"] == pytest.approx(min(error[0] for error in errors), abs=0.005)
    assert accuracy.error["max_abs"] == pytest.approx(max(error[1] for error in errors), abs=1e-5)


def test_the_quality_is_the_one_of_the_evaluation(samples):
    pytest.importorskip("skimage")
    from irvis.benchmarks.evaluate import evaluate_pairs

    with contextlib.closing(Fuser(Mean())) as fuser:
        accuracy = measure_accuracy(fuser, samples, None)
        whole = evaluate_pairs(pairs_of(samples), fuser)
    assert accuracy.quality == pytest.approx({name: whole[name] for name in ("CC", "PSNR", "SCD", "SSIM")})
    assert accuracy.error is None


def test_a_model_that_gives_black_has_a_quality_that_can_be_reported(samples, caplog):
    pytest.importorskip("skimage")
    with contextlib.closing(Fuser(Mean(more=-1.0))) as fuser:
        found = measure_accuracy(fuser, samples, None)
    assert set(found.quality) == {"CC", "SCD", "SSIM"}
    assert f"PSNR of {found.pairs} of {found.pairs} pairs" in caplog.text


def test_without_scikit_image_there_is_an_error_and_no_quality(samples, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with contextlib.closing(Fuser(Mean())) as fuser:
        accuracy = measure_accuracy(fuser, samples, None)
    assert isinstance(accuracy, Accuracy)
    assert accuracy.quality is None


def test_a_large_data_set_is_measured_on_pairs_of_all_its_parts(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    from irvis.benchmarks.evaluate import evaluate_pairs

    planes = np.random.default_rng(0).integers(0, 256, (4, 2, 24, 32)).astype(np.uint8)
    for index, pair in enumerate(planes):
        for half, plane in zip(("ir", "vi"), pair):
            write_image(tmp_path / half / f"{index}.png", plane)
    monkeypatch.setattr("irvis.benchmarks.accuracy.PAIRS_AT_MOST", 2)
    with contextlib.closing(Fuser(Mean())) as fuser:
        found = measure_accuracy(fuser, tmp_path, None)
        wanted = evaluate_pairs(pairs_of(tmp_path)[::2], fuser)
    assert (found.pairs, found.of) == (2, 4)
    assert found.quality == pytest.approx({name: wanted[name] for name in found.quality})


def test_25_pairs_are_spread_over_the_data_set():
    assert spread_by_parts(list(range(361)), PAIRS_AT_MOST)[:3] == [0, 14, 28]
    assert len(spread_by_parts(list(range(361)), PAIRS_AT_MOST)) == 25
    assert spread_by_parts([1, 2], PAIRS_AT_MOST) == [1, 2]
