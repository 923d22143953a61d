import numpy as np
import pytest

skimage_metrics = pytest.importorskip("skimage.metrics")

from irvis.benchmarks.evaluate import evaluate_pairs, mean
from irvis.benchmarks.metrics import (
    average_gradient,
    correlation,
    entropy,
    evaluate_fusion,
    left_out,
    means_of,
    peak_signal_to_noise,
    spatial_frequency,
)
from irvis.runtime.pairs import pairs_of


def planes(seed=0, height=17, width=23):
    """Return infrared, visible and fused, uint8 (H, W), that have something but not all in common."""
    generator = np.random.default_rng(seed)
    infrared, visible, noise = generator.integers(0, 256, (3, height, width))
    return tuple(plane.astype(np.uint8) for plane in (infrared, visible, (infrared + 2 * visible + noise) // 4))


def test_correlation_worked_by_hand():
    x, y = np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.0, 3.0]])
    # Centred: (-1, 0, 1) and (-1, -1, 2); products sum to 3, squares to 2 and 6.
    assert correlation(x, y) == pytest.approx(3 / 12**0.5)
    assert correlation(x, -5 * x + 2) == pytest.approx(-1)
    assert correlation(x, np.ones((1, 3))) == 0


def test_psnr_worked_by_hand_has_the_fused_images_own_peak():
    fused = np.array([[100.0, 50.0]])
    infrared, visible = fused + np.array([1.0, -1.0]), fused + 3  # mean squared errors 1 and 9
    assert peak_signal_to_noise(infrared, visible, fused) == pytest.approx(10 * np.log10(100**2 / 5))


def test_psnr_where_there_is_no_error_or_no_peak():
    black, grey = np.zeros((2, 2)), np.full((2, 2), 9.0)
    assert peak_signal_to_noise(grey, grey, grey) == np.inf
    assert peak_signal_to_noise(grey, grey, black) == -np.inf
    assert np.isnan(peak_signal_to_noise(black, black, black))


def test_entropy_worked_by_hand():
    assert entropy(np.full((4, 4), 7, np.uint8)) == 0
    assert entropy(np.array([[0, 255], [0, 255]], np.uint8)) == 1
    assert entropy(np.array([[1, 1, 2, 3]], np.uint8)) == pytest.approx(1.5)
    assert entropy(np.arange(256, dtype=np.uint8).reshape(16, 16)) == pytest.approx(8)


def test_spatial_frequency_worked_by_hand():
    plane = np.array([[0.0, 3.0], [4.0, 3.0]])
    # Along rows 3 and -1: mean square 5; along columns 4 and 0: 8.
    assert spatial_frequency(plane) == pytest.approx(13**0.5)


def test_average_gradient_worked_by_hand():
    plane = np.array([[0.0, 3.0, 3.0], [4.0, 0.0, 9.0]])
    # At the two pixels with a right and a lower neighbour: (3, 4) and (0, -3).
    assert average_gradient(plane) == pytest.approx((12.5**0.5 + 4.5**0.5) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_every_metric_equals_its_formula(seed):
    infrared, visible, fused = planes(seed)
    a, b, f = (plane.astype(np.float64) for plane in (infrared, visible, fused))
    found = evaluate_fusion(infrared, visible, fused)

    def corr(x, y):
        return np.corrcoef(x.ravel(), y.ravel())[0, 1]

    share = np.unique(fused, return_counts=True)[1] / fused.size
    height, width = f.shape
    steps_x = [(f[y, x + 1] - f[y, x]) ** 2 for y in range(height) for x in range(width - 1)]
    steps_y = [(f[y + 1, x] - f[y, x]) ** 2 for y in range(height - 1) for x in range(width)]
    slopes = [
        np.hypot(f[y, x + 1] - f[y, x], f[y + 1, x] - f[y, x]) / 2**0.5
        for y in range(height - 1)
        for x in range(width - 1)
    ]
    expected = {
        "CC": (corr(a, f) + corr(b, f)) / 2,
        "PSNR": 10 * np.log10(f.max() ** 2 / ((((a - f) ** 2).mean() + ((b - f) ** 2).mean()) / 2)),
        "SCD": corr(f - b, a) + corr(f - a, b),
        "SSIM": ssim(a, f) + ssim(b, f),
        "EN": -np.sum(share * np.log2(share)),
        "SD": np.sqrt(np.mean((f - f.mean()) ** 2)),
        "SF": np.sqrt(np.mean(steps_x) + np.mean(steps_y)),
        "AG": np.mean(slopes),
    }
    assert list(found)[: len(expected)] == list(expected)  # the rest: test_metrics_kept.py
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def ssim(x, y):
    """Wang's index over 7x7 uniform windows that lie inside, with sample covariances, range 255."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(x.shape[0] - 6):
        for left in range(x.shape[1] - 6):
            window = np.s_[top : top + 7, left : left + 7]
            u, v = x[window].ravel(), y[window].ravel()
            (uu, uv), (_, vv) = np.cov(u, v)
            luminance = (2 * u.mean() * v.mean() + c1) / (u.mean() ** 2 + v.mean() ** 2 + c1)
            values.append(luminance * (2 * uv + c2) / (uu + vv + c2))
    return np.mean(values)


def test_ssim_is_that_of_scikit_image_over_both_inputs():
    infrared, visible, fused = planes()
    expected = sum(skimage_metrics.structural_similarity(x, fused, data_range=255) for x in (infrared, visible))
    assert evaluate_fusion(infrared, visible, fused)["SSIM"] == pytest.approx(expected, rel=1e-9)


def test_a_fused_image_equal_to_both_inputs_is_perfect():
    plane = planes(height=48, width=50)[0]
    found = evaluate_fusion(plane, plane, plane)
    assert found["CC"] == pytest.approx(1)
    assert found["SSIM"] == found["VIF"] == pytest.approx(2)
    assert found["MI"] == pytest.approx(2 * found["EN"])
    assert found["Qabf"] == pytest.approx(0.9748, abs=1e-4)  # its sigmoids do not reach 1
    assert found["PSNR"] == np.inf


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_constant_fused_image_says_nothing_and_gives_no_nan(level):
    infrared, visible, _ = planes(height=48, width=50)
    found = evaluate_fusion(infrared, visible, np.full_like(visible, level))
    nothing = ("CC", "EN", "SD", "SF", "AG", "MI", "VIF")
    assert {name: found[name] for name in nothing} == pytest.approx(dict.fromkeys(nothing, 0), abs=1e-12)
    assert not any(np.isnan(value) for value in found.values())


def test_a_mean_is_over_the_pairs_on_which_its_metric_is_finite():
    rows = [{"CC": 0.5, "PSNR": np.nan}, {"CC": 0.0, "PSNR": 12.0}, {"CC": 0.1, "PSNR": -np.inf}]
    assert means_of(rows) == {"CC": pytest.approx(0.2), "PSNR": 12.0}
    assert np.isnan(means_of(rows[:1])["PSNR"])
    assert left_out("abc", rows) == "PSNR of 2 of 3 pairs, the first a"
    assert left_out("b", rows[1:2]) == ""


def test_values_that_wrap_in_8_bits_do_not():
    infrared, visible = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    fused = np.tile(np.array([0, 255], np.uint8), (8, 4))
    found = evaluate_fusion(infrared, visible, fused)
    assert found["SF"] == 255
    assert found["PSNR"] == pytest.approx(10 * np.log10(2))


GOOD = np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.zeros((8, 8), np.float32), r"float32 \(8, 8\)"),
        (np.zeros((8, 8), np.uint16), r"uint16 \(8, 8\)"),
        (np.zeros((8, 8, 3), np.uint8), r"uint8 \(8, 8, 3\)"),
        (np.zeros((8, 9), np.uint8), r"uint8 \(8, 9\)"),
    ],
)
@pytest.mark.parametrize("position", range(3))
def test_other_planes_are_refused_with_what_came(bad, said, position):
    given = [GOOD, GOOD, GOOD]
    given[position] = bad
    with pytest.raises(ValueError, match=said):
        evaluate_fusion(*given)


def test_the_mean_of_the_inputs_rounds_halves_to_even():
    infrared, visible = np.array([[0, 1, 255, 3, 254]], np.uint8), np.array([[1, 2, 255, 4, 255]], np.uint8)
    found = mean(infrared, visible)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 2, 255, 4, 254]]


@pytest.mark.slow
def test_the_mean_of_tnos_inputs_scores_as_measured_elsewhere(data):
    found = evaluate_pairs(pairs_of(data / "TNO" / "test"), mean)
    rounded = {"CC": 4, "PSNR": 2, "SSIM": 3, "SCD": 3, "EN": 2, "SD": 1, "SF": 1, "AG": 1}
    assert {name: round(found[name], digits) for name, digits in rounded.items()} == {
        "CC": 0.5648,
        "PSNR": 15.31,
        "SSIM": 1.457,
        "SCD": 1.541,
        "EN": 6.23,
        "SD": 26.1,
        "SF": 7.0,
        "AG": 3.5,
    }
