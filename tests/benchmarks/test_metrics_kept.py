"""MI, VIF and Qabf: what the fused image keeps of the inputs."""

import math

import numpy as np
import pytest

pytest.importorskip("skimage")

import scipy.ndimage
import scipy.signal
import scipy.stats

from irvis.benchmarks.metrics import (
    edge_preservation,
    entropy,
    evaluate_fusion,
    mutual_information,
    visual_information_fidelity,
)

# Strengths and angles all equal: 0.9994 / (1 + exp(-7.5)) * 0.9879 / (1 + exp(-4.4)).
QABF_MOST = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4))


def planes(seed=0, height=48, width=53):
    """Return smooth infrared, visible and fused, float64 (H, W) of whole numbers in 0..255."""
    generator = np.random.default_rng(seed)
    smooth = [scipy.ndimage.gaussian_filter(generator.normal(size=(height, width)), 2) for _ in range(2)]
    infrared, visible = (128 + 45 * plane / plane.std() for plane in smooth)
    fused = 0.4 * infrared + 0.6 * visible + generator.normal(0, 4, (height, width))
    return tuple(np.rint(plane.clip(0, 255)) for plane in (infrared, visible, fused))


def test_mutual_information_worked_by_hand():
    x = np.array([[0, 0], [255, 255]], np.uint8)
    assert mutual_information(x, x) == 1
    assert mutual_information(x, np.array([[3, 9], [3, 9]], np.uint8)) == 0
    # Three of four alike: 1 + H(1/4) - H(1/2, 1/4, 1/4) = 1 + 0.8113 - 1.5.
    assert mutual_information(x, np.array([[7, 7], [7, 8]], np.uint8)) == pytest.approx(0.311278, abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_mutual_information_is_scipys_divergence_of_the_joint_from_independence(seed):
    infrared, _, fused = (plane.astype(np.uint8) for plane in planes(seed))
    joint, _, _ = np.histogram2d(infrared.ravel(), fused.ravel(), bins=256, range=[[0, 256], [0, 256]])
    independent = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    expected = scipy.stats.entropy(joint.ravel(), independent.ravel(), base=2)
    assert mutual_information(infrared, fused) == pytest.approx(expected, rel=1e-9)
    assert mutual_information(fused, infrared) == pytest.approx(expected, rel=1e-9)
    assert mutual_information(fused, fused) == pytest.approx(entropy(fused))


def vif_by_windows(reference, fused):
    """VIFp in the order of its authors' code: two-dimensional windows, case after case set by masks."""
    kept = present = 0.0
    for scale in range(1, 5):
        side = 2 ** (5 - scale) + 1
        offsets = np.arange(side) - side // 2
        window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (side / 5) ** 2))
        window /= window.sum()

        def filtered(plane, window=window):
            return scipy.signal.convolve2d(plane, window, mode="valid")

        if scale > 1:
            reference, fused = filtered(reference)[::2, ::2], filtered(fused)[::2, ::2]
        mean_r, mean_f = filtered(reference), filtered(fused)
        var_r = np.maximum(filtered(reference**2) - mean_r**2, 0)
        var_f = np.maximum(filtered(fused**2) - mean_f**2, 0)
        cov = filtered(reference * fused) - mean_r * mean_f
        gain = cov / (var_r + 1e-10)
        noise = var_f - gain * cov
        flat_r, flat_f = var_r < 1e-10, var_f < 1e-10
        gain[flat_r], noise[flat_r], var_r[flat_r] = 0, var_f[flat_r], 0
        gain[flat_f], noise[flat_f] = 0, 0
        opposed = gain < 0
        gain[opposed], noise[opposed] = 0, var_f[opposed]
        noise = np.maximum(noise, 1e-10)
        kept += np.log10(1 + gain**2 * var_r / (noise + 2)).sum()
        present += np.log10(1 + var_r / 2).sum()
    return kept / present


@pytest.mark.parametrize(("height", "width"), [(41, 41), (48, 53), (97, 64)])
def test_vif_is_that_of_the_authors_steps(height, width):
    infrared, visible, fused = planes(1, height, width)
    fused[5:20, 5:30] = 90  # flat, where the variances vanish
    infrared[25:, :12] = 255
    for reference in (infrared, visible):
        expected = vif_by_windows(reference, fused)
        assert 0.01 < expected < 0.9
        assert visual_information_fidelity(reference, fused) == pytest.approx(expected, rel=1e-8)


def test_vif_at_its_limits():
    infrared = planes()[0]
    flat = np.full_like(infrared, 77.0)
    assert visual_information_fidelity(infrared, infrared) == pytest.approx(1)
    assert visual_information_fidelity(infrared, infrared + 20) == pytest.approx(1)  # brightness carries nothing
    assert visual_information_fidelity(infrared, 1.5 * infrared) > 1.05
    assert visual_information_fidelity(infrared, 255 - infrared) == 0
    assert visual_information_fidelity(infrared, flat) == 0
    assert visual_information_fidelity(flat, infrared) == 0
    noise = np.random.default_rng(0).normal(size=infrared.shape)
    values = [visual_information_fidelity(infrared, infrared + sigma * noise) for sigma in (0, 2, 8, 32)]
    assert values == sorted(values, reverse=True)


def test_vif_needs_41_pixels_a_side():
    infrared, _, fused = planes(height=40, width=80)
    assert np.isnan(visual_information_fidelity(infrared, fused))
    infrared, _, fused = planes(height=41, width=80)
    assert 0 < visual_information_fidelity(infrared, fused) < 1


def test_qabf_worked_by_hand():
    spot = np.zeros((5, 5))
    spot[2, 2] = 100
    black = np.zeros_like(spot)
    assert edge_preservation(spot, spot, spot) == pytest.approx(QABF_MOST)
    assert edge_preservation(spot, black, spot) == pytest.approx(QABF_MOST)  # where there is no edge, none is lost
    assert edge_preservation(black, black, spot) == 0
    # Half the strength, in the sigmoid's middle, whichever of the two is the stronger; the angles are kept.
    half = 0.9994 / 2 * 0.9879 / (1 + math.exp(-4.4))
    assert edge_preservation(spot, black, 2 * spot) == edge_preservation(spot, black, spot / 2) == pytest.approx(half)


def test_qabf_of_edges_at_right_angles_is_nothing():
    rows = np.tile(100.0 * (np.arange(40) % 8 < 4)[:, None], (1, 40))
    assert edge_preservation(rows, rows, rows.T) < 0.1 * edge_preservation(rows, rows, rows)


def qabf_by_loops(a, b, f):
    """Qabf pixel by pixel, with Sobel's templates as the field's code convolves them."""
    template_x = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    template_y = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]

    def edge(plane, row, column):
        x = y = 0.0
        for i in range(3):
            for j in range(3):
                # A convolution turns its template round; beyond the border there are zeros.
                r, c = row + 1 - i, column + 1 - j
                value = plane[r, c] if 0 <= r < plane.shape[0] and 0 <= c < plane.shape[1] else 0.0
                x, y = x + template_x[i][j] * value, y + template_y[i][j] * value
        return math.sqrt(x * x + y * y), math.atan(y / x) if x else math.pi / 2

    kept = present = 0.0
    for row in range(f.shape[0]):
        for column in range(f.shape[1]):
            strength_f, angle_f = edge(f, row, column)
            for plane in (a, b):
                strength, angle = edge(plane, row, column)
                weaker, stronger = sorted((strength, strength_f))
                ratio = weaker / stronger if stronger else 0
                agreement = 1 - abs(angle - angle_f) / (math.pi / 2)
                q_strength = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5)))
                q_angle = 0.9879 / (1 + math.exp(-22 * (agreement - 0.8)))
                kept += q_strength * q_angle * strength
                present += strength
    return kept / present


@pytest.mark.parametrize("seed", range(3))
def test_qabf_is_that_of_loops_over_pixels(seed):
    infrared, visible, fused = (plane[:17, :13] for plane in planes(seed))
    infrared[4:9, 3:8] = 200  # a box: gradients of zero, and along one axis alone
    expected = qabf_by_loops(infrared, visible, fused)
    assert 0 < expected < QABF_MOST
    assert edge_preservation(infrared, visible, fused) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_qabf_stays_within_its_bounds(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (3, 20, 30)).astype(np.float64)
    assert 0 <= edge_preservation(*noise) <= QABF_MOST


def test_each_is_taken_over_both_inputs():
    infrared, visible, fused = planes()
    a, b, f = (plane.astype(np.uint8) for plane in (infrared, visible, fused))
    found = evaluate_fusion(a, b, f)
    assert list(found)[-3:] == ["MI", "VIF", "Qabf"]
    assert found["MI"] == pytest.approx(mutual_information(a, f) + mutual_information(b, f))
    assert found["VIF"] == pytest.approx(
        visual_information_fidelity(infrared, fused) + visual_information_fidelity(visible, fused)
    )
    assert found["Qabf"] == pytest.approx(edge_preservation(infrared, visible, fused))
