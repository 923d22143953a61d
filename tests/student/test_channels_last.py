import pytest

torch = pytest.importorskip("torch")

from irvis.student.channels_last import forward_channels_last
from irvis.student.network import Student, StudentConfig


def perturbed_student(seed, **config):
    torch.manual_seed(seed)
    student = Student(StudentConfig(**config))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return student


def gradients(student, forward, infrared, visible, weights):
    student.zero_grad()
    fused, feature = forward(infrared, visible)
    ((fused * weights).mean() + feature.square().mean()).backward()
    both = torch.cat([fused, feature], dim=1).detach()
    return both, {name: parameter.grad.clone() for name, parameter in student.named_parameters()}


def assert_equal(student, infrared, visible, weights):
    plain, plain_gradients = gradients(
        student, lambda *planes: student(*planes, return_feature=True), infrared, visible, weights
    )
    fast, fast_gradients = gradients(
        student, lambda *planes: forward_channels_last(student, *planes), infrared, visible, weights
    )
    assert (fast - plain).abs().max() <= 1e-5 * max(1, plain.abs().max())
    for name, gradient in plain_gradients.items():
        assert gradient.abs().max() > 0, name
        assert (fast_gradients[name] - gradient).abs().max() <= 1e-5 * max(1, gradient.abs().max()), name


@pytest.mark.parametrize(("seed", "batch", "size"), [(0, 2, (16, 16)), (1, 1, (17, 23)), (2, 3, (33, 20))])
def test_fused_planes_features_and_gradients_equal_those_of_the_student(seed, batch, size):
    planes = torch.rand(3, batch, 1, *size, generator=torch.Generator().manual_seed(seed))
    assert_equal(perturbed_student(seed), *planes)


def test_another_shape_equals_the_student_too():
    config = {"channels": 12, "heads": 3, "global_blocks": 1, "local_blocks": 1, "expansion": 3, "reduction": 4}
    assert_equal(perturbed_student(3, **config), *torch.rand(3, 2, 1, 19, 16))


def test_at_strides_it_equals_the_student_too():
    assert_equal(perturbed_student(6, global_stride=2, fusion_stride=4), *torch.rand(3, 2, 1, 33, 18))


@pytest.mark.parametrize("gone", [["global_blocks"], ["local_blocks"], ["global_blocks", "local_blocks"]])
def test_a_student_without_branches_is_equalled_too(gone):
    assert_equal(perturbed_student(5, **dict.fromkeys(gone, 0)), *torch.rand(3, 2, 1, 17, 16))


def test_a_dead_channel_keeps_gradients_finite():
    student = perturbed_student(4)
    with torch.no_grad():
        student.global_branch[0].attention.qkv_depthwise.weight[0].zero_()
    forward_channels_last(student, *torch.rand(2, 1, 1, 16, 16))[0].sum().backward()
    bad = [name for name, parameter in student.named_parameters() if not torch.isfinite(parameter.grad).all()]
    assert not bad


def test_wrong_planes_are_refused_with_what_came():
    with pytest.raises(ValueError, match=r"Got \(1, 1, 16, 16\) and \(1, 1, 17, 16\)"):
        forward_channels_last(Student(), torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 17, 16))
