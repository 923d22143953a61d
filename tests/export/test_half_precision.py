import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper

from irvis.export import half_precision
from irvis.export.half_precision import OPERATORS, HalfPrecision, accumulate
from irvis.export.to_onnx import export
from irvis.runtime.errors import ModelError
from irvis.student.network import Student, StudentConfig

SIZE = (40, 52)


def blocks_of(values):
    return [torch.tensor([float(value)]) for value in values]


def test_a_running_sum_stops_growing():
    """4096 ones: beyond 2048, adding 1 rounds back to even. Eight interleaved runs would still be right."""
    assert accumulate(blocks_of([1] * 4096)).item() == 2048
    assert np.add.accumulate(np.ones(4096, np.float16), dtype=np.float16)[-1] == 2048  # numpy's FP16 agrees


def test_interleaved_runs_are_taken_where_they_are_worse():
    values = [0.0] * 64
    values[0::8] = [2048.0] + [1.0] * 7  # one run has all: it loses each 1; so does the plain order
    assert accumulate(blocks_of(values)).item() == 2048
    values = [1.0, -1.0] * 1000 + [3.0]
    exact = sum(values)
    assert abs(accumulate(blocks_of(values)).item() - exact) <= 1


def test_runs_are_added_up_pair_by_pair():
    assert accumulate(blocks_of([0, 1, 1, 2048])).item() == 2048  # (0 + 1) + (1 + 2048); one by one it would be exact


@pytest.mark.parametrize(("places", "total"), [([0, 31, 7], 2050), ([0, 32, 64], 2048)])
def test_a_product_is_exact_within_32_terms_alone(places, total):
    row = torch.zeros(1, 96)
    row[0, places] = torch.tensor([2048.0, 1.0, 1.0])
    assert OPERATORS["MatMul"](row, torch.ones(96, 1)).item() == total


def test_softmax_takes_values_whose_exponentials_fp16_has_not():
    assert OPERATORS["Softmax"](torch.tensor([[12.0, 12.0]])).tolist() == [[0.5, 0.5]]


def test_few_blocks_are_rounded_once_each():
    assert accumulate(blocks_of([2049.0])).item() == 2048
    assert accumulate(blocks_of([2049.0, 1.0])).item() == 2048
    assert accumulate(blocks_of([60000.0, 60000.0])).item() == float("inf")
    assert np.isnan(accumulate(blocks_of([1e9, -1e9, 0.0])).item())


def graph_of(path, nodes, initializers=()):
    planes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, None, None]) for name in ("a", "b", "c")]
    for value, name in zip(planes, ("infrared", "visible", "fused")):
        value.name = name
    graph = helper.make_graph(nodes, "graph", planes[:2], planes[2:], initializer=list(initializers))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    return path


def test_every_tensor_is_rounded(tmp_path):
    """(a + b) * b, against numpy's own float16."""
    path = graph_of(
        tmp_path / "m.onnx",
        [
            helper.make_node("Add", ["infrared", "visible"], ["sum"]),
            helper.make_node("Mul", ["sum", "visible"], ["fused"]),
        ],
    )
    a, b = np.random.default_rng(0).random((2, *SIZE), np.float32)
    wanted = (a.astype(np.float16) + b.astype(np.float16)) * b.astype(np.float16)
    np.testing.assert_array_equal(HalfPrecision(path)(a, b), wanted.astype(np.float32))


def test_it_stops_at_the_first_overflow(tmp_path):
    huge = helper.make_tensor("huge", TensorProto.FLOAT, [], [60000.0])
    path = graph_of(
        tmp_path / "m.onnx",
        [
            helper.make_node("Mul", ["infrared", "huge"], ["large"], name="fits"),
            helper.make_node("Add", ["large", "huge"], ["larger"], name="overflows"),
            helper.make_node("Div", ["visible", "larger"], ["fused"], name="hides it"),
        ],
        [huge],
    )
    model = HalfPrecision(path)
    assert model.overflow is None
    ones = np.ones(SIZE, np.float32)
    assert np.isnan(model(ones, ones)).all()
    assert model.overflow == "overflows"
    assert (model(ones * 0, ones) == np.float16(1 / 60000)).all()
    assert model.overflow is None


def test_an_operator_that_is_not_known(tmp_path):
    path = graph_of(tmp_path / "m.onnx", [helper.make_node("Pow", ["infrared", "visible"], ["fused"])])
    with pytest.raises(ModelError, match="not supported here: Pow"):
        HalfPrecision(path)


def test_a_form_of_an_operator_that_is_not_known(tmp_path):
    zero, eight = (
        helper.make_tensor(name, TensorProto.INT64, [4], [value] * 4) for name, value in (("z", 0), ("e", 8))
    )
    nodes = [helper.make_node("Slice", ["infrared", "z", "e"], ["fused"], name="cut")]
    ones = np.ones(SIZE, np.float32)
    with pytest.raises(ModelError, match=r"cut \(Slice\) cannot be computed here: .*'axes'"):
        HalfPrecision(graph_of(tmp_path / "m.onnx", nodes, [zero, eight]))(ones, ones)
    nodes = [helper.make_node("Resize", ["infrared", "", "", "e"], ["fused"], name="nearest", mode="nearest")]
    with pytest.raises(ModelError, match=r"nearest \(Resize\) cannot be computed here: a resize with .*nearest"):
        HalfPrecision(graph_of(tmp_path / "m.onnx", nodes, [eight]))(ones, ones)
    nodes = [helper.make_node("Shape", ["infrared"], ["fused"])]
    with pytest.raises(ModelError, match="gives no fused plane"):
        HalfPrecision(graph_of(tmp_path / "m.onnx", nodes))(ones, ones)


@pytest.mark.parametrize("plain", [False, True], ids=["deploy", "plain"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("strides", [{}, {"global_stride": 2, "fusion_stride": 4}], ids=["", "strides"])
def test_without_rounding_it_is_the_onnx(tmp_path, monkeypatch, plain, dynamic, strides):
    """The same interpreter in float32 equals ONNX Runtime: what it computes is the graph."""
    monkeypatch.setattr(half_precision, "round_half", lambda x: x)
    torch.manual_seed(0)
    path = tmp_path / "m.onnx"
    planes = np.random.default_rng(0).random((2, *SIZE), np.float32)
    pair = tuple((plane * 255).astype(np.uint8) for plane in planes)
    export(Student(StudentConfig(**strides)), path, None if dynamic else SIZE, plain=plain, pairs=[pair])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"infrared": planes[0][None, None], "visible": planes[1][None, None]})
    model = HalfPrecision(path)
    np.testing.assert_allclose(model(*planes), wanted[0, 0], atol=2e-6)
    assert model.overflow is None
