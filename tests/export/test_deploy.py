import copy

import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.export.deploy import (
    LIMIT,
    DeployAttention,
    DeployDACB,
    DeployFeedForward,
    DeployRSTBs,
    DeployStudent,
    rotation,
)
from irvis.student.network import Student, StudentConfig


def perturbed_student(seed, **config):
    """Give a student whose every parameter is off its initial value: norms, temperatures and biases too."""
    torch.manual_seed(seed)
    student = Student(StudentConfig(**config)).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return student


def difference(student, deployed, planes):
    with torch.inference_mode():
        wanted, found = student(*planes), deployed(*planes)
    assert found.shape == wanted.shape
    assert wanted.std() > 1e-3  # a picture, not a saturated plane that anything equals
    return (found - wanted).abs().max().item()


@settings(max_examples=25)
@given(height=st.integers(16, 40), width=st.integers(16, 40), seed=st.integers(0, 10**6))
def test_the_deploy_form_equals_the_student(height, width, seed):
    student = perturbed_student(seed)
    planes = torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    assert difference(student, DeployStudent(student), planes) <= 1e-5


@settings(max_examples=15)
@given(height=st.integers(16, 40), width=st.integers(16, 40), seed=st.integers(0, 10**6))
def test_the_rewrites_are_exact(height, width, seed):
    """In float64, where rounding hides nothing."""
    student = perturbed_student(seed).double()
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(2, 1, 1, height, width, generator=generator, dtype=torch.float64)
    assert difference(student, DeployStudent(student), planes) <= 1e-10


@pytest.mark.parametrize(
    "config",
    [
        {"channels": 8, "heads": 2, "global_blocks": 1, "local_blocks": 2, "expansion": 3, "reduction": 4},
        {"channels": 6, "heads": 1, "global_blocks": 2, "local_blocks": 1, "expansion": 1, "reduction": 1},
        {"global_stride": 2, "fusion_stride": 2},
        {"global_stride": 4, "local_blocks": 0},
        {"global_blocks": 0, "fusion_stride": 8},
    ],
)
def test_another_shape_of_the_student_is_rewritten_too(config):
    student = perturbed_student(1, **config).double()
    assert difference(student, DeployStudent(student), torch.rand(2, 1, 1, 19, 16, dtype=torch.float64)) <= 1e-10


WITHOUT_BRANCHES = [["global_blocks"], ["local_blocks"], ["global_blocks", "local_blocks"]]


@pytest.mark.parametrize("gone", WITHOUT_BRANCHES)
@settings(max_examples=5)
@given(height=st.integers(16, 30), width=st.integers(16, 30), seed=st.integers(0, 10**6))
def test_a_student_without_branches_is_rewritten_exactly(gone, height, width, seed):
    student = perturbed_student(seed, **dict.fromkeys(gone, 0)).double()
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(2, 1, 1, height, width, generator=generator, dtype=torch.float64)
    assert difference(student, DeployStudent(student), planes) <= 1e-10
    single = copy.deepcopy(student).float()
    assert difference(single, DeployStudent(single), planes.float()) <= 1e-5


@pytest.mark.parametrize("part", ["norm1", "norm2", "temperature", "excite", "encoder_vis", "fusion.conv"])
def test_each_rewritten_part_counts(part):
    """Off from the student where one part is, so that the equality above has seen each of them."""
    student = perturbed_student(2).double()
    deployed = DeployStudent(student)
    changed = [parameter for name, parameter in student.named_parameters() if part in name]
    assert changed
    with torch.no_grad():
        for parameter in changed:
            parameter.add_(0.3 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(3)))
    planes = torch.rand(2, 1, 1, 17, 18, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert difference(student, deployed, planes) > 1e-4
    assert difference(student, DeployStudent(student), planes) <= 1e-10


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_frames_equal_the_student(level):
    student = perturbed_student(5)
    plane = torch.full((1, 1, 16, 21), level)
    with torch.inference_mode():
        found, wanted = DeployStudent(student)(plane, plane), student(plane, plane)
    assert (found - wanted).abs().max() <= 1e-5


def test_the_student_is_left_as_it_was():
    student = perturbed_student(6).train()
    before = copy.deepcopy(student.state_dict())
    deployed = DeployStudent(student)
    with torch.no_grad():
        for tensor in [*deployed.parameters(), *deployed.buffers()]:
            tensor.fill_(7)
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert list(student.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_the_deploy_form_is_not_trained_by_mistake():
    assert not any(parameter.requires_grad for parameter in DeployStudent(Student()).parameters())


# Safe in FP16: bounds that hold for any input, and powers of two that follow from them.


@pytest.mark.parametrize("channels", [1, 2, 6, 32])
def test_the_rotation_takes_the_mean_to_the_first_axis(channels):
    matrix = rotation(channels)
    unit = torch.eye(channels, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, unit)
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(matrix @ torch.full((channels,), channels**-0.5, dtype=torch.float64), unit[0])


def outputs_of(deployed, kind, planes):
    """Give each module of a kind, its input and its output."""
    seen = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs[0], output)))
        for module in deployed.modules()
        if isinstance(module, kind)
    ]
    with torch.inference_mode():
        deployed(*planes)
    for hook in hooks:
        hook.remove()
    assert seen
    return seen


HOSTILE = {
    "noise": torch.rand(2, 1, 1, 24, 31, generator=torch.Generator().manual_seed(0)),
    "black and white": torch.stack([torch.zeros(1, 1, 24, 31), torch.ones(1, 1, 24, 31)]),
    "extremes": torch.rand(2, 1, 1, 24, 31, generator=torch.Generator().manual_seed(1)).round(),
}


@pytest.mark.parametrize("planes", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(("seed", "gone"), [(0, []), (1, []), (2, []), *enumerate(WITHOUT_BRANCHES, 3)])
def test_no_tensor_passes_its_bound(seed, gone, planes):
    deployed = DeployStudent(perturbed_student(seed, **dict.fromkeys(gone, 0)).double())
    planes = planes.double()
    for block, entering, leaving in outputs_of(deployed, (DeployAttention, DeployFeedForward), planes):
        added = (leaving - entering).abs().amax((0, 2, 3))
        basis = (deployed.fusion.rstb if block in deployed.fusion.rstb else deployed.global_branch).basis
        assert (added <= block.growth.rotated * basis.scale).all()
    for branch, _, leaving in outputs_of(deployed, DeployRSTBs, planes):
        plain = torch.einsum("cd,bdyx->bcyx", branch.basis.leave, leaving)
        assert (plain.amax((0, 2, 3)) <= branch.leaving.high).all()
        assert (plain.amin((0, 2, 3)) >= branch.leaving.low).all()
        assert leaving[:, 1:].square().mean(1).max() <= LIMIT
    for block, _, leaving in outputs_of(deployed, DeployDACB, planes) if len(deployed.local_branch) else ():
        assert (leaving.amax((0, 2, 3)) <= block.leaving.high).all()
        assert (leaving.amin((0, 2, 3)) >= block.leaving.low).all()


def test_scales_are_powers_of_two():
    deployed = DeployStudent(perturbed_student(3))
    scales = [deployed.decoder.factor, *(block.factor for block in deployed.local_branch)]
    for branch in (deployed.global_branch, deployed.fusion.rstb):
        scales += branch.basis.scale.tolist()
    assert all(torch.frexp(torch.tensor(scale)).mantissa == 0.5 for scale in scales)


@pytest.mark.parametrize("layer", ["qkv", "qkv_depthwise"])
@pytest.mark.parametrize("factor", [8.0, 2.0**-4, 2.0**-14, 2.0**-40])
def test_the_size_of_q_and_k_does_not_matter(layer, factor):
    """Attention normalises them; so does the choice of scales: the result is the same to the bit."""
    student = perturbed_student(4)
    louder = copy.deepcopy(student)
    for block in [*louder.global_branch, louder.fusion.rstb]:
        getattr(block.attention, layer).weight.data[: 2 * student.config.channels] *= factor
    planes = torch.rand(2, 1, 1, 20, 17, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        assert torch.equal(DeployStudent(student)(*planes), DeployStudent(louder)(*planes))
