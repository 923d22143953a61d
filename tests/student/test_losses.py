import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.student.losses import (
    correlation_loss,
    fidelity_loss,
    gradient_loss,
    guarded_gradient_loss,
    intensity_loss,
    sobel_magnitude,
    task_loss,
    total_loss,
)

LOSSES = [intensity_loss, gradient_loss, guarded_gradient_loss, task_loss]


def planes(count, batch=2, height=7, width=9, seed=0):
    """Return float64 planes (count, B, 1, H, W) in [0, 1]."""
    return torch.from_numpy(np.random.default_rng(seed).random((count, batch, 1, height, width)))


def sobel_reference(image):
    """|gx| + |gy| of (H, W), written out by hand."""
    p = np.pad(image, 1, mode="edge")
    left, right = p[:, :-2], p[:, 2:]
    gx = (right - left)[:-2] + 2 * (right - left)[1:-1] + (right - left)[2:]
    above, below = p[:-2], p[2:]
    gy = (below - above)[:, :-2] + 2 * (below - above)[:, 1:-1] + (below - above)[:, 2:]
    return np.abs(gx) + np.abs(gy)


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (1, 5), (2, 2)])
def test_sobel_magnitude_is_the_sum_of_both_absolute_gradients(size):
    image = planes(1, 2, *size)[0]
    expected = np.stack([sobel_reference(plane[0]) for plane in image.numpy()])[:, None]
    np.testing.assert_allclose(sobel_magnitude(image).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_sobel_magnitude_of_a_ramp_and_a_step():
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    assert sobel_magnitude(ramp)[0, 0].tolist() == [[4, 8, 8, 8, 4]] * 4
    step = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).t().expand(4, 3)[None, None]
    assert sobel_magnitude(step)[0, 0].tolist() == [[0] * 3, [4] * 3, [4] * 3, [0] * 3]


def test_losses_are_the_equations():
    fused, infrared, visible = planes(3)
    f, a, b = (plane.numpy()[:, 0] for plane in (fused, infrared, visible))
    intensity = np.mean(np.abs(np.maximum(b, a) - f))
    gradients = [np.stack([sobel_reference(image) for image in plane]) for plane in (f, a, b)]
    gradient = np.mean(np.abs(np.maximum(gradients[1], gradients[2]) - gradients[0]))
    assert intensity_loss(fused, infrared, visible).item() == pytest.approx(intensity, rel=1e-12)
    assert gradient_loss(fused, infrared, visible).item() == pytest.approx(gradient, rel=1e-12)
    assert task_loss(fused, infrared, visible).item() == pytest.approx(intensity + 10 * gradient, rel=1e-12)
    assert task_loss(fused, infrared, visible, 0.5).item() == pytest.approx(intensity + 0.5 * gradient, rel=1e-12)


@pytest.mark.parametrize("loss", [*LOSSES, correlation_loss, fidelity_loss])
def test_gradients_are_those_of_finite_differences(loss):
    fused, infrared, visible = planes(3, 1, 5, 6)
    fused.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(x, infrared, visible), (fused,))


@pytest.mark.parametrize("loss", [*LOSSES, fidelity_loss])
def test_a_fused_plane_equal_to_both_inputs_costs_nothing(loss):
    (image,) = planes(1)
    assert loss(image, image, image).item() == 0


def test_constant_planes_have_no_gradient_loss_whatever_their_levels():
    fused, infrared, visible = (torch.full((2, 1, 6, 5), level) for level in (0.125, 0.875, 0.5))
    assert gradient_loss(fused, infrared, visible).item() == 0
    assert intensity_loss(fused, infrared, visible).item() == pytest.approx(0.75)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_planes_give_finite_gradients(level):
    fused = torch.full((1, 1, 4, 4), level, requires_grad=True)
    task_loss(fused, torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), 0.5)).backward()
    assert torch.isfinite(fused.grad).all()
    assert fused.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [*LOSSES, correlation_loss, fidelity_loss])
def test_swapping_the_inputs_changes_nothing(loss):
    fused, infrared, visible = planes(3)
    assert loss(fused, infrared, visible).item() == pytest.approx(loss(fused, visible, infrared).item(), rel=1e-12)


def test_total_loss_is_eq_16():
    task, distillation = torch.tensor(0.25), torch.tensor(3.0)
    assert total_loss(task, distillation).item() == 3.25
    assert total_loss(task, distillation, 0.5).item() == 1.75
    assert total_loss(task, distillation, 0.0) == task


def scd_reference(fused, infrared, visible):
    """Sum of the correlations of differences of three (H, W)."""
    pairs = (fused - visible, infrared), (fused - infrared, visible)
    return sum(np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in pairs)


def test_correlation_loss_without_a_floor_is_the_mean_of_1_minus_half_the_scd():
    triples = planes(3, batch=3)
    scds = [scd_reference(*triple) for triple in zip(*(plane.numpy()[:, 0] for plane in triples))]
    assert np.ptp(scds) > 0.1  # so that the order of mean and correlation matters
    assert correlation_loss(*triples, floor=0.0).item() == pytest.approx(1 - np.mean(scds) / 2, rel=1e-12)


@pytest.mark.parametrize("level", [-0.5, 0.0, 0.25])
def test_correlation_loss_of_the_sum_of_both_inputs_is_what_the_floor_leaves(level):
    infrared, visible = planes(2)
    kept = [plane.numpy().var(axis=(1, 2, 3)) for plane in (infrared, visible)]
    expected = 1 - np.mean([variance / (variance + 1e-3) for variance in kept])
    assert 0 < expected < 0.02
    assert correlation_loss(infrared + visible - level, infrared, visible).item() == pytest.approx(expected, rel=1e-9)


def test_correlation_loss_of_the_negative_of_both_inputs_is_near_2():
    infrared, visible = planes(2)
    # f - b is nearly -100 a and f - a nearly -100 b where the planes do not correlate.
    assert correlation_loss(-100 * (infrared + visible), infrared, visible).item() > 1.5
    assert correlation_loss(-100 * visible, visible, visible).item() == pytest.approx(2, abs=0.02)


def test_correlation_loss_tells_an_image_from_its_negative_which_the_gradient_cannot():
    infrared, visible = planes(2, height=24, width=24)
    image, negative = ((plane, infrared, visible) for plane in (visible, 1 - visible))
    assert gradient_loss(*image).item() == pytest.approx(gradient_loss(*negative).item(), rel=1e-12)
    assert correlation_loss(*negative).item() > correlation_loss(*image).item() + 0.4


def test_guarded_gradient_loss_costs_a_negative_twice_a_flat_image():
    ramp = torch.arange(8.0, dtype=torch.float64).expand(1, 1, 8, 8) / 80
    inputs = 3 * ramp, -ramp.mT  # G is larger along x
    steep = sobel_magnitude(3 * ramp).mean().item()
    for fused, cost in ((3 * ramp, 0), (0 * ramp, steep), (-3 * ramp, 2 * steep), (2 * ramp, steep / 3)):
        assert guarded_gradient_loss(fused, *inputs).item() == pytest.approx(cost)
        assert guarded_gradient_loss(fused, *inputs[::-1]).item() == pytest.approx(cost)
    assert gradient_loss(-3 * ramp, *inputs).item() == pytest.approx(0)
    both = [torch.cat([image, image]) for image in inputs]
    assert guarded_gradient_loss(torch.cat([3 * ramp, -3 * ramp]), *both).item() == pytest.approx(steep)  # each its own


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_guarded_gradient_loss_is_the_papers_unless_edges_run_against_the_inputs(seed):
    fused, image = planes(2, batch=1, seed=seed)
    along = image + 0.1 * fused
    assert guarded_gradient_loss(along, image, image).item() == pytest.approx(gradient_loss(along, image, image).item())
    against = guarded_gradient_loss(-along, image, image)
    assert against > 1.5 * sobel_magnitude(image).mean()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    contrasts=st.tuples(*[st.sampled_from([0.0, 1e-6, 0.01, 1.0])] * 3),
    offset=st.floats(-1, 1),
)
def test_correlation_loss_is_between_0_and_2_and_blind_to_brightness(seed, contrasts, offset):
    fused, infrared, visible = (c * plane for c, plane in zip(contrasts, planes(3, seed=seed)))
    value = correlation_loss(fused, infrared, visible).item()
    assert 0 <= value <= 2
    assert correlation_loss(fused + offset, infrared, visible).item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("floor", [1e-3, 1e-6])
def test_correlation_loss_of_flat_planes_is_1_with_finite_gradients(floor):
    fused = torch.full((1, 1, 4, 4), 0.5, requires_grad=True)
    flat = torch.full((1, 1, 4, 4), 0.25)
    loss = correlation_loss(fused, flat, flat, floor)
    loss.backward()
    assert loss.item() == 1
    assert fused.grad.tolist() == torch.zeros(1, 1, 4, 4).tolist()


def test_correlation_loss_does_not_blow_up_faint_noise():
    infrared, visible, noise = planes(3)
    faint = correlation_loss(visible + 1e-4 * noise, infrared, visible)
    assert faint.item() == pytest.approx(correlation_loss(visible, infrared, visible).item(), abs=2e-3)


def test_fidelity_loss_is_the_mean_square_error_to_both_and_least_at_their_mean():
    fused, infrared, visible = planes(3)
    f, a, b = (plane.numpy() for plane in (fused, infrared, visible))
    expected = (np.mean((f - a) ** 2) + np.mean((f - b) ** 2)) / 2
    assert fidelity_loss(fused, infrared, visible).item() == pytest.approx(expected, rel=1e-12)
    middle = fidelity_loss((infrared + visible) / 2, infrared, visible).item()
    assert middle == pytest.approx(np.mean((a - b) ** 2) / 4, rel=1e-12)
    assert middle < expected
