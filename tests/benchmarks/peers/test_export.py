import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from irvis.benchmarks.peers import export as peer_export
from irvis.benchmarks.peers.export import export_published, fix_kernels, share_constants
from irvis.export import to_onnx
from irvis.export.check_onnx import find_obstacles
from irvis.export.to_onnx import sample_pairs
from irvis.runtime.errors import ModelError
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.student.teachers.load import load_published
from irvis.student.teachers.published import network_class
from irvis.student.teachers.zheng_blocks import CrossDifference, InvertibleConvolution

SIZE = (32, 48)
FILES = {"MMDRFuseStudent": "MMDRFuse_student"}
WITH_WEIGHTS = ["SeAFusion", "SFDFusion", "SHIP", "DATFuse", "FISCNet", "PFCFuse", "MMDRFuseStudent"]


def network(name):
    torch.manual_seed(0)
    return network_class(name)().eval()


# DATFuse of random weights: 1.5e-5 with PyTorch 2.4 and ONNX Runtime 1.15 to 1.19, less with newer ones.
@pytest.mark.parametrize(("name", "bound"), [("MMDRFuseStudent", 1e-5), ("SFDFusion", 1e-5), ("DATFuse", 2e-5)])
def test_the_onnx_is_of_the_form_that_tensorrt_takes(name, bound, tmp_path):
    path = tmp_path / "network.onnx"
    exported = export_published(network(name), path, SIZE, sample_pairs(SIZE)[:2])
    model = onnx.load(path)
    assert (exported.nodes, exported.difference < bound) == (len(model.graph.node), True)
    assert find_obstacles(model) == []
    assert model.ir_version <= 8
    assert [opset.version for opset in model.opset_import] == [13]
    values = [*model.graph.input, *model.graph.output]
    assert [value.name for value in values] == ["infrared", "visible", "fused"]
    for value in values:
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [1, 1, *SIZE]
    read = {name for node in model.graph.node for name in node.input}
    assert {weight.name for weight in model.graph.initializer} <= read


def test_the_network_is_left_in_eval_mode(tmp_path):
    """The exporter restores the mode of what it was given, in all of it; batch norms then use the batch's moments."""
    found = network("DATFuse")
    export_published(found, tmp_path / "network.onnx", SIZE, sample_pairs(SIZE)[:1])
    assert not any(module.training for module in found.modules())


def test_computed_kernels_become_plain_ones():
    module = torch.nn.ModuleDict({"cross": CrossDifference(4), "mix": InvertibleConvolution(4)})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)))
        x = torch.rand(1, 4, 9, 9)
        wanted = [module[name](x) for name in module]
        fix_kernels(module)
        assert all(type(child) is torch.nn.Conv2d for child in module.values())
        for child, plane in zip(module.values(), wanted):
            assert (child(x) - plane).abs().max() < 1e-5


def test_equal_constants_are_kept_once_and_unread_ones_not():
    weights = {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32), "c": np.zeros(3, np.float32)}
    nodes = [
        onnx.helper.make_node("Add", ["x", "a"], ["y"]),
        onnx.helper.make_node("Mul", ["y", "b"], ["z"]),
    ]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in "xz"]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], constants))
    share_constants(model)
    assert [weight.name for weight in model.graph.initializer] == ["a"]
    assert [list(node.input) for node in model.graph.node] == [["x", "a"], ["y", "a"]]


def test_a_network_that_fails_a_check_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(peer_export, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match=r"differ by \S+ on MMDRFuseStudent, over 0e\+00"):
        export_published(network("MMDRFuseStudent"), tmp_path / "n.onnx", SIZE, sample_pairs(SIZE)[:1])
    with pytest.raises(ModelError, match=r"SFDFusion needs sides that are multiples of 2 .*. Got 32x47"):
        export_published(network("SFDFusion"), tmp_path / "n.onnx", (32, 47), [])
    monkeypatch.setattr(to_onnx, "OPSET", 18)
    with pytest.raises(ModelError, match=r"TensorRT 8.5 would not take MMDRFuseStudent: .*opset 18"):
        export_published(network("MMDRFuseStudent"), tmp_path / "n.onnx", SIZE, [])
    assert list(tmp_path.iterdir()) == []


def test_one_that_fails_does_not_keep_the_others_from_it(published, tmp_path, capsys):
    weights = published / "MMDRFuse_student.safetensors"
    arguments = [f"SHIP={tmp_path / 'none.pth'}", f"mmdrfusestudent={weights}", "-o", str(tmp_path), "--size", "32x48"]
    assert peer_export.main(arguments) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"wrote {tmp_path / 'MMDRFuseStudent.onnx'}: 7 nodes, ")
    assert said.err.count("\n") == 1
    assert said.err.startswith("SHIP: weights not found: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_published_weights_give_what_they_give_in_pytorch(name, published, data, tmp_path):
    pairs = [read_luminance(pair) for pair in pairs_of(data / "TNO" / "test")[:3]]
    found = load_published(name, published / f"{FILES.get(name, name)}.safetensors")
    assert export_published(found, tmp_path / "network.onnx", (96, 128), pairs).difference < 3e-5
