import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from irvis.student.losses import (
    SHORTEST,
    attention_loss,
    attention_map,
    attention_map_loss,
    distillation_loss,
    gradient_loss,
    intensity_loss,
    response_loss,
    response_terms,
    similarity_loss,
    similarity_matrix,
    similarity_samples,
    similarity_samples_loss,
    task_loss,
    total_loss,
)

FEATURE_LOSSES = [attention_loss, similarity_loss]

# (C, h, w) of teacher and student.
SHAPES = [
    ((3, 32, 32), (3, 32, 32)),
    ((5, 24, 24), (2, 24, 24)),  # another C
    ((4, 64, 48), (3, 32, 24)),  # the teacher is larger,
    ((4, 31, 17), (3, 64, 50)),  # the student is, at no whole ratio,
    ((2, 7, 45), (3, 45, 7)),  # each is in one direction
    ((1, 1, 5), (6, 3, 1)),
]


def features(*shapes, batch=2, seed=0):
    """Return float64 features (B, C, h, w) around 0.3, one for each (C, h, w)."""
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(0.3, 1, (batch, *shape))) for shape in shapes]


def images(count, batch=2, height=9, width=8, seed=0):
    """Return float64 images (count, B, 1, H, W) in [0, 1]."""
    return torch.from_numpy(np.random.default_rng(seed).random((count, batch, 1, height, width)))


def resize_reference(planes, height, width):
    """Bilinear interpolation of (..., h, w) between pixel centres, without a low-pass."""

    def tents(found, wanted):
        centres = np.clip((np.arange(wanted) + 0.5) * found / wanted - 0.5, 0, found - 1)
        return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(found)))

    return tents(planes.shape[-2], height) @ planes @ tents(planes.shape[-1], width).T


def attention_reference(teacher, student):
    """Eq. 1 and 2 on two (C, h, w)."""
    size = np.minimum(teacher.shape[1:], student.shape[1:])
    maps = [resize_reference(feature.mean(axis=0), *size).ravel() for feature in (teacher, student)]
    tea, stu = (a / np.sqrt((a * a).sum()) for a in maps)
    return 1 - tea @ stu


def similarity_reference(teacher, student):
    """Eq. 3 to 5 on two (C, h, w)."""

    def matrix(feature):
        x = resize_reference(feature, 32, 32).reshape(len(feature), 1024).T
        x = x / np.sqrt((x * x).sum(axis=1))[:, None]
        return x @ x.T

    return ((matrix(teacher) - matrix(student)) ** 2).sum() / 1024**2


def sobel_reference(image):
    """|gx| + |gy| of (H, W) by OpenCV."""
    return sum(
        np.abs(cv2.Sobel(image, cv2.CV_64F, *order, ksize=3, borderType=cv2.BORDER_REPLICATE))
        for order in ((1, 0), (0, 1))
    )


def response_references(teacher, student):
    """The terms of eq. 6 and 7 on two (1, H, W)."""
    teacher, student = teacher[0], student[0]
    return np.abs(teacher - student).mean(), np.abs(sobel_reference(teacher) - sobel_reference(student)).mean()


def batch_mean(reference, *sides):
    return np.mean([reference(*one) for one in zip(*(side.numpy() for side in sides))], axis=0)


@pytest.mark.parametrize(("teacher_shape", "student_shape"), SHAPES)
def test_feature_losses_are_the_equations(teacher_shape, student_shape):
    sides = features(teacher_shape, student_shape)
    for loss, reference in ((attention_loss, attention_reference), (similarity_loss, similarity_reference)):
        expected = batch_mean(reference, *sides)
        assert expected > 0.01
        assert loss(*sides).item() == pytest.approx(expected, rel=1e-9)
        assert loss(*sides[::-1]).item() == pytest.approx(expected, rel=1e-9)


def test_response_loss_is_the_equations():
    teacher, student = images(2)
    intensity, gradient = batch_mean(response_references, teacher, student)
    terms = [term.item() for term in response_terms(teacher, student)]
    assert terms == pytest.approx([intensity, gradient], rel=1e-12)
    assert response_loss(teacher, student).item() == pytest.approx(intensity + 10 * gradient, rel=1e-12)
    assert response_loss(teacher, student, 0.5).item() == pytest.approx(intensity + 0.5 * gradient, rel=1e-12)


def test_the_guarded_response_costs_a_negative_twice_a_flat_image():
    (teacher,) = images(1)
    flat = response_terms(teacher, 0 * teacher)[1].item()
    assert response_terms(teacher, 1 - teacher)[1].item() == pytest.approx(0, abs=1e-12)
    assert response_terms(teacher, 1 - teacher, guarded=True)[1].item() == pytest.approx(2 * flat)
    for student in (teacher / 2, 0 * teacher):
        plain, guarded = (response_terms(teacher, student, guarded=on) for on in (False, True))
        assert plain == guarded


def test_distillation_loss_is_eq_21():
    attention, similarity, response = (torch.tensor(value) for value in (0.25, 2.0, 16.0))
    assert distillation_loss(attention, similarity, response).item() == 18.25
    assert distillation_loss(attention, similarity, response, 2, 0.5, 0.25).item() == 5.5
    assert distillation_loss(attention, similarity, response, lambda_att=0, lambda_sim=0) == response


def test_the_paper_s_weights_add_all_terms_with_the_gradients_tenfold():
    teacher, student = features((4, 12, 10), (3, 9, 8))
    wanted, fused, infrared, visible = images(4)
    intensity, gradient = batch_mean(response_references, wanted, fused)
    attention, similarity = (batch_mean(one, teacher, student) for one in (attention_reference, similarity_reference))
    task = intensity_loss(fused, infrared, visible) + 10 * gradient_loss(fused, infrared, visible)
    kept = attention_loss(teacher, student), similarity_loss(teacher, student), response_loss(wanted, fused)
    found = total_loss(task_loss(fused, infrared, visible), distillation_loss(*kept))
    expected = task.item() + attention + similarity + intensity + 10 * gradient
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("teacher_shape", "student_shape"), [((2, 3, 4), (3, 3, 4)), ((2, 2, 5), (2, 3, 3))])
@pytest.mark.parametrize("loss", FEATURE_LOSSES)
def test_gradients_of_feature_losses_are_those_of_finite_differences(loss, teacher_shape, student_shape):
    teacher, student = features(teacher_shape, student_shape, batch=1)
    student.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(teacher, x), (student,), fast_mode=True)


def test_gradients_of_response_loss_are_those_of_finite_differences():
    teacher, student = images(2, 1, 5, 6)
    student.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: response_loss(teacher, x), (student,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_sides_cost_nothing(dtype):
    (feature,) = features((4, 40, 28))
    feature, image = feature.to(dtype), images(1)[0].to(dtype)
    assert attention_loss(feature, feature).item() == pytest.approx(0, abs=4 * torch.finfo(dtype).eps)
    assert similarity_loss(feature, feature).item() == 0
    assert response_loss(image, image).item() == 0


@pytest.mark.parametrize("scales", [(1e-3, 1e3), (1e3, 1e-3), (1.0, 0.3)])
@pytest.mark.parametrize("loss", FEATURE_LOSSES)
def test_feature_losses_do_not_see_scale(loss, scales):
    sides = features((3, 5, 4), (2, 4, 6))
    scaled = [scale * side for scale, side in zip(scales, sides)]
    assert loss(*scaled).item() == pytest.approx(loss(*sides).item(), rel=1e-9)


@pytest.mark.parametrize("loss", FEATURE_LOSSES)
def test_feature_losses_do_not_see_the_number_or_order_of_channels(loss):
    (feature,) = features((3, 6, 5))
    assert loss(feature, torch.cat([feature.flip(1), feature], dim=1)).item() == pytest.approx(0, abs=1e-12)


def test_attention_sees_the_sign_and_a_rotation_of_the_channels_and_similarity_does_not():
    (feature,) = features((4, 6, 5))
    rotation = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0])
    rotated = torch.einsum("dc,bchw->bdhw", rotation, feature)
    assert attention_loss(feature, -feature).item() == pytest.approx(2, abs=1e-12)
    assert attention_loss(feature, rotated).item() > 0.1
    assert similarity_loss(feature, -feature).item() == 0
    assert similarity_loss(feature, rotated).item() == pytest.approx(0, abs=1e-12)


def test_similarity_loss_of_one_region_against_two_opposite_halves_is_2():
    halves = torch.ones(1, 2, 32, 32)
    halves[..., :16] = -1  # S is 1 within a half and -1 across
    assert similarity_loss(torch.full((1, 3, 8, 8), 0.5), halves).item() == pytest.approx(2, rel=1e-5)


@settings(max_examples=12)
@given(data=st.data(), shape=array_shapes(min_dims=3, max_dims=3, max_side=5))
def test_feature_losses_are_in_range_with_finite_gradients(data, shape):
    teacher, student = (
        torch.from_numpy(data.draw(arrays(np.float32, (1, *shape), elements=st.floats(-1000, 1000, width=32))))
        for _ in range(2)
    )
    student.requires_grad_(True)
    # S of the sides is positive semidefinite, and so is their product by elements: (S - S')^2 has a mean of 2 at most.
    for loss in FEATURE_LOSSES:
        value = loss(teacher, student)
        assert -1e-5 <= value.item() <= 2 + 1e-5
        (gradient,) = torch.autograd.grad(value, student)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 1e-30, -1e4])
def test_constant_features_give_finite_losses_and_gradients(level):
    (varied,) = features((3, 9, 7), batch=1)
    flat = torch.full((1, 4, 6, 8), level, dtype=torch.float64)
    for teacher, student in ((varied, flat.requires_grad_(True)), (flat.detach(), varied.clone().requires_grad_(True))):
        for loss in FEATURE_LOSSES:
            value = loss(teacher, student)
            (gradient,) = torch.autograd.grad(value, student)
            assert value.isfinite()
            assert gradient.isfinite().all()


def test_zero_features_have_no_cosine():
    (teacher,) = features((3, 32, 32))
    nothing = torch.zeros(2, 4, 32, 32, dtype=torch.float64)
    assert attention_loss(teacher, nothing).item() == 1
    assert attention_loss(nothing, nothing).item() == 1
    expected = similarity_matrix(teacher).square().mean().item()
    assert similarity_loss(teacher, nothing).item() == pytest.approx(expected, rel=1e-12)


def test_one_position_of_zeros_leaves_the_gradients_finite():
    teacher, student = features((3, 32, 32), (4, 32, 32), batch=1)
    student[0, :, 5, 6] = 0
    similarity_loss(teacher, student.requires_grad_(True)).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", FEATURE_LOSSES)
def test_a_vanishing_feature_has_no_steeper_gradient_than_the_shortest_that_counts(loss):
    teacher, student = features((3, 32, 32), (4, 32, 32), batch=1)
    faint = (1e-9 * student).requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(teacher, faint), faint)
    assert gradient.norm() <= 1 / SHORTEST


@pytest.mark.parametrize("loss", FEATURE_LOSSES)
def test_the_layout_in_memory_changes_nothing(loss):
    sides = features((3, 6, 5), (4, 7, 7))
    channels_last = [side.contiguous(memory_format=torch.channels_last) for side in sides]
    assert loss(*channels_last).item() == pytest.approx(loss(*sides).item(), rel=1e-12)


WEIGHTED = {
    "attention": lambda tea, stu, *weights: attention_map_loss(attention_map(tea), attention_map(stu), *weights),
    "similarity": lambda tea, stu, *weights: similarity_samples_loss(
        similarity_samples(tea), similarity_samples(stu), *weights
    ),
    "intensity": lambda tea, stu, *weights: response_terms(tea[:, :1], stu[:, :1], *weights)[0],
    "gradient": lambda tea, stu, *weights: response_terms(tea[:, :1], stu[:, :1], *weights)[1],
}


@pytest.mark.parametrize("loss", WEIGHTED.values(), ids=WEIGHTED)
def test_weights_weigh_the_images_of_a_batch(loss):
    teacher, student = features((3, 8, 7), (2, 8, 7), batch=3)
    singles = [loss(teacher[i : i + 1], student[i : i + 1]).item() for i in range(3)]
    assert np.ptp(singles) > 1e-3
    assert loss(teacher, student).item() == pytest.approx(np.mean(singles), rel=1e-12)

    weights = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    student.requires_grad_(True)
    value = loss(teacher, student, weights)
    assert value.item() == pytest.approx(np.mean(weights.numpy() * singles), rel=1e-12)
    value.backward()
    assert [bool(gradient.any()) for gradient in student.grad] == [True, False, True]
