import copy
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from irvis.benchmarks.forms import export_form
from irvis.benchmarks.undone import UNDO, without
from irvis.export.deploy import DeployStudent
from irvis.student.network import Student, StudentConfig

# What the long way has more of in its graph, and what it has less of.
GRAPHS = {
    "rotated basis: no mean": ({"Sub", "Conv"}, set()),
    "LayerNorm's gain and bias folded": ({"Mul", "Add"}, set()),
    "Gram matrix normalised, not q and k": ({"Conv"}, {"Slice"}),
    "norms from the Gram matrix": ({"Conv", "Mul"}, {"Slice"}),
    "Gram matrix row by row": ({"Div"}, {"ReduceMean"}),
    "q and k, v: convolutions of their own": ({"Split"}, {"Conv"}),
    "gate, value: convolutions of their own": ({"Split"}, {"Conv"}),
    "both encoders as one": ({"Conv", "LeakyRelu"}, set()),
    "concatenation and 1x1 as a sum": ({"Concat"}, {"Conv", "Add"}),
    "squeeze-excite as 1x1, scaled": ({"MatMul"}, {"Conv", "ReduceMean"}),
}


def perturbed_student(seed, **config):
    """Return a student whose every parameter is off its initial value."""
    torch.manual_seed(seed)
    student = Student(StudentConfig(**config)).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return student


@pytest.fixture(scope="module")
def small():
    return perturbed_student(0, channels=8, heads=2, global_blocks=1, local_blocks=1)


@pytest.fixture(scope="module")
def operators(small, tmp_path_factory):
    """Return a function from a network to how often its graph has each operator."""
    frames = tuple(np.random.default_rng(0).integers(0, 256, (16, 24, *rest), np.uint8) for rest in ((), (3,)))
    path = tmp_path_factory.mktemp("graphs") / "form.onnx"

    def count(network):
        export_form(network, path, frames)  # which checks it against PyTorch
        return Counter(node.op_type for node in onnx.load(path).graph.node)

    return count


@pytest.fixture(scope="module")
def whole(small, operators):
    return operators(DeployStudent(small))


@pytest.mark.parametrize("rewrite", UNDO)
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"channels": 6, "heads": 3, "global_blocks": 2, "local_blocks": 1, "expansion": 1},
        {"channels": 8, "heads": 2, "global_blocks": 1, "local_blocks": 1, "global_stride": 2, "fusion_stride": 4},
    ],
)
def test_the_long_way_equals_the_student(rewrite, config):
    student = perturbed_student(1, **config).double()
    planes = torch.rand(2, 1, 1, 19, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.inference_mode():
        wanted, found = student(*planes), without(rewrite, DeployStudent(student))(*planes)
    assert wanted.std() > 1e-3  # a picture, not a saturated plane that anything equals
    assert (found - wanted).abs().max() <= 1e-9


@pytest.mark.parametrize("rewrite", UNDO)
def test_its_graph_is_another(rewrite, small, operators, whole):
    undone = operators(without(rewrite, DeployStudent(small)))
    more, fewer = GRAPHS[rewrite]
    assert {name: undone[name] - whole[name] for name in more if undone[name] <= whole[name]} == {}
    assert {name: undone[name] - whole[name] for name in fewer if undone[name] >= whole[name]} == {}


@pytest.mark.parametrize("rewrite", UNDO)
def test_the_deploy_form_is_left_as_it_was(rewrite, small):
    deploy = DeployStudent(small)
    before, kinds = copy.deepcopy(deploy.state_dict()), [type(module) for module in deploy.modules()]
    undone = without(rewrite, deploy)
    assert [type(module) for module in deploy.modules()] == kinds
    assert list(deploy.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in deploy.state_dict().items())
    assert {tensor.dtype for tensor in undone.state_dict().values()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in undone.parameters())


@pytest.mark.parametrize("rewrite", UNDO)
def test_no_weights_are_left_over(rewrite, small):
    """What the long way does not use would be counted as a part of it by whoever reads its state."""
    undone = without(rewrite, DeployStudent(small)).requires_grad_(True)
    undone(*torch.rand(2, 1, 1, 16, 17)).sum().backward()
    assert [name for name, parameter in undone.named_parameters() if parameter.grad is None] == []
