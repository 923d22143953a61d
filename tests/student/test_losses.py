import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.losses import gradient_loss, intensity_loss, sobel_magnitude, task_loss

LOSSES = [intensity_loss, gradient_loss, task_loss]


def planes(count, batch=2, height=7, width=9, seed=0):
    """Give float64 planes (count, B, 1, H, W) in [0, 1]."""
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


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss):
    fused, infrared, visible = planes(3, 1, 5, 6)
    fused.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(x, infrared, visible), (fused,))


@pytest.mark.parametrize("loss", LOSSES)
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


def test_swapping_the_inputs_changes_nothing():
    fused, infrared, visible = planes(3)
    assert task_loss(fused, infrared, visible) == task_loss(fused, visible, infrared)
