import copy

import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.export.deploy import DeployStudent
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


@settings(max_examples=25, deadline=None)
@given(height=st.integers(16, 40), width=st.integers(16, 40), seed=st.integers(0, 10**6))
def test_the_deploy_form_equals_the_student(height, width, seed):
    student = perturbed_student(seed)
    planes = torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    assert difference(student, DeployStudent(student), planes) <= 1e-5


@settings(max_examples=15, deadline=None)
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
    ],
)
def test_another_shape_of_the_student_is_rewritten_too(config):
    student = perturbed_student(1, **config).double()
    assert difference(student, DeployStudent(student), torch.rand(2, 1, 1, 19, 16, dtype=torch.float64)) <= 1e-10


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
