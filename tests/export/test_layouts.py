"""Conversions of small graphs, counted by hand, and those of the shipped students, which engines were seen to do."""

import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper

from irvis.export.fixed_shapes import fix_shapes, load_planes_onnx
from irvis.export.fused_groups import fused_kernels
from irvis.export.layouts import CONVERSION, conversions
from irvis.runtime.shipped import find_model

SIZE = (16, 24)
FRAME_BYTES = 2 * 32 * 16 * 24


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def conv(inputs, output, weight="dense", **attributes):
    return node("Conv", f"{inputs} {weight}", output, **attributes)


def conversions_of(model, size=None):
    fixed, shapes = fix_shapes(model, size)
    return conversions(fused_kernels(fixed, shapes), shapes)


def converted(nodes):
    """Name what is converted in a graph of (1, 32, 16, 24) from ``x`` to ``out``."""
    weights = {"dense": (32, 32, 1, 1), "deep": (32, 1, 3, 3), "plane": (1, 32, 1, 1), "one": (32, 1, 1, 1)}
    weights.update(seven=(7, 32, 1, 1), eight=(8, 32, 1, 1))
    shapes = {"four_heads": [4, 8, -1], "eight_heads": [8, 4, -1], "frame": [1, 32, *SIZE]}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, *SIZE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        initializer=[
            *(
                helper.make_tensor(key, TensorProto.FLOAT, of, [1.0] * (of[0] * of[1] * of[2] ** 2))
                for key, of in weights.items()
            ),
            *(helper.make_tensor(key, TensorProto.INT64, [len(of)], of) for key, of in shapes.items()),
        ],
    )
    found = conversions_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    assert all(group.kind == CONVERSION for group in found)
    return {name: group.bytes for group in found for name in group.nodes}


DEEP = {"group": 32, "pads": [1, 1, 1, 1]}


def test_convolutions_and_what_is_pointwise_keep_one_layout():
    nodes = [conv("x", "a"), conv("a", "b", "deep", **DEEP), node("Mul", "b b", "c"), conv("c", "out")]
    assert converted(nodes) == {}


@pytest.mark.parametrize("heads", ["four_heads", "eight_heads"])
def test_a_tensor_is_converted_on_its_way_to_a_product_and_back(heads):
    nodes = [
        conv("x", "a"),
        conv("a", "b", "deep", **DEEP),
        node("Reshape", f"b {heads}", "c"),
        node("Transpose", "c", "turned", perm=[0, 2, 1]),
        node("MatMul", "c turned", "gram"),
        node("Softmax", "gram", "weights", axis=2),
        node("MatMul", "weights c", "d"),
        node("Reshape", "d frame", "e"),
        conv("e", "out"),
    ]
    assert converted(nodes) == {"b": 2 * FRAME_BYTES, "d": 2 * FRAME_BYTES}


@pytest.mark.parametrize(("weight", "names"), [("seven", []), ("eight", ["a"])])
def test_channels_that_fill_no_vector_have_no_layout(weight, names):
    nodes = [
        conv("x", "a", weight),
        node("Transpose", "a", "turned", perm=[0, 1, 3, 2]),
        node("MatMul", "a turned", "out"),
    ]
    assert list(converted(nodes)) == names


def test_a_copied_transpose_wants_rows():
    turned = [conv("x", "a"), node("Transpose", "a", "turned", perm=[2, 1, 0, 3]), node("Sqrt", "turned", "out")]
    assert list(converted(turned)) == ["a"]
    assert converted([node("Transpose", "x", "turned", perm=[2, 1, 0, 3]), node("Sqrt", "turned", "out")]) == {}


def test_a_grouped_convolution_takes_either():
    nodes = [
        node("Transpose", "x", "turned", perm=[0, 1, 3, 2]),
        node("MatMul", "x turned", "gram"),
        conv("gram", "out", "deep", **DEEP),
    ]
    assert converted(nodes) == {}


def test_what_works_on_either_takes_the_layout_of_the_largest_that_it_reads():
    nodes = [
        conv("x", "a"),
        node("ReduceMean", "x", "mean", axes=[2]),
        node("MatMul", "mean mean_turned", "small"),
        node("Add", "a small", "sum"),
        conv("sum", "out"),
    ]
    nodes.insert(2, node("Transpose", "mean", "mean_turned", perm=[0, 1, 3, 2]))
    assert "a" not in converted(nodes)


def test_what_no_convolution_or_product_came_before_has_no_layout():
    assert converted([node("Sqrt", "x", "a"), conv("a", "out")]) == {}


def test_a_kernel_runs_after_all_that_it_reads_though_it_is_named_before():
    nodes = [
        node("Sqrt", "x", "root"),  # one kernel with the sum below
        conv("x", "a"),
        node("Transpose", "a", "turned", perm=[0, 1, 3, 2]),
        node("MatMul", "a turned", "gram"),
        node("MatMul", "gram a", "product"),
        node("Add", "root product", "sum"),
        conv("sum", "out"),
    ]
    assert converted(nodes) == {"a": 2 * FRAME_BYTES, "sum": 2 * FRAME_BYTES}


def test_a_single_plane_has_no_layout():
    nodes = [
        conv("x", "a", "plane"),
        node("Transpose", "a", "turned", perm=[2, 1, 0, 3]),
        node("Sqrt", "turned", "out"),
    ]
    assert converted(nodes) == {}


@pytest.mark.parametrize(("name", "side"), [("student", 1), ("fast", 2)])
def test_q_k_v_and_what_comes_of_them_are_converted_in_each_attention(name, side):
    """As TensorRT 8.5.2's FP16 engines of 480x640 do: 32 and 8 passes (docs/measured.md), beside what is small."""
    found = conversions_of(load_planes_onnx(find_model(name)), (480, 640))
    assert [group.read_bytes for group in found] == [2 * 32 * 480 * 640 // side**2] * 16
    of_attention = ("deep_qk.0", "deep_qk.1", "deep_v", "MatMul_2")
    assert all(any(part in group.nodes[0] for part in of_attention) for group in found)
