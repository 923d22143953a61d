"""Layers named as TensorRT 8.5 names them."""

import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper

from irvis.benchmarks.roofline.engine import match
from irvis.export.fixed_shapes import fix_shapes
from irvis.export.fused_groups import fused_kernels
from irvis.runtime.errors import ModelError


def node(kind, inputs, name, **attributes):
    return helper.make_node(kind, inputs.split(), [f"{name}_output_0"], name=name, **attributes)


NODES = [
    node("Conv", "x w", "/a/Conv"),
    node("LeakyRelu", "/a/Conv_output_0", "/LeakyRelu"),
    node("Conv", "/LeakyRelu_output_0 w", "/b/Conv"),
    node("Conv", "/LeakyRelu_output_0 w", "/b/Conv_1"),
    node("Erf", "/b/Conv_output_0", "/Erf"),
    node("Mul", "/Erf_output_0 /b/Conv_1_output_0", "/Mul"),
    node("Softmax", "/Mul_output_0", "/Softmax", axis=3),
    node("MatMul", "/Softmax_output_0 /Mul_output_0", "/MatMul"),
    node("Relu", "/MatMul_output_0", "/Relu"),
]
A, B, POINTWISE, SOFTMAX, MATMUL, RELU = range(6)


def matched(*layers):
    graph = helper.make_graph(
        NODES,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 16, 16])],
        [helper.make_tensor_value_info("/Relu_output_0", TensorProto.FLOAT, None)],
        initializer=[helper.make_tensor("w", TensorProto.FLOAT, [4, 4, 1, 1], [1.0] * 16)],
    )
    model, shapes = fix_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    described = [{"name": name, "median_ms": ms, "type": kind} for name, ms, kind in layers]
    return match(model, fused_kernels(model, shapes), {"engine": "student.engine", "layers": described})


def test_convolutions_with_epilogues_siblings_and_pointwise_layers():
    found = matched(
        ("/a/Conv + /LeakyRelu", 1.0, "CaskConvolution"),
        ("/b/Conv || /b/Conv_1", 2.0, "CaskConvolution"),
        ("PWN(PWN(/Erf), /Mul)", 0.5, "PointWiseV2"),
        ("/Softmax", None, "SoftMax"),
    )
    assert found.rows == [((A,), 1.0), ((B,), 2.0), ((POINTWISE,), 0.5)]
    assert (found.reformats_ms, found.unmatched) == (0.0, {})


def test_layers_of_one_group_add_up():
    found = matched(("/b/Conv", 1.0, "CaskConvolution"), ("/b/Conv_1", 0.75, "CaskConvolution"))
    assert found.rows == [((B,), 1.75)]


def test_a_layer_of_several_groups_joins_them_with_their_other_layers():
    found = matched(
        ("/Erf", 0.25, "PointWise"),
        ("/Softmax", 0.25, "SoftMax"),
        ("{ForeignNode[/Mul.../Softmax]}", 2.0, "Myelin"),
        ("/a/Conv", 1.0, "CaskConvolution"),
    )
    assert found.rows == [((POINTWISE, SOFTMAX), 2.5), ((A,), 1.0)]


def test_a_foreign_node_takes_in_what_lies_between_and_no_layer_has():
    found = matched(("{ForeignNode[/Mul.../Relu]}", 2.0, "Myelin"), ("/Softmax", 0.5, "SoftMax"))
    assert found.rows == [((POINTWISE, MATMUL, RELU), 2.0), ((SOFTMAX,), 0.5)]


def test_reformats_and_strangers_are_told_apart():
    found = matched(
        ("Reformatting CopyNode for Input Tensor 0 to /a/Conv + /LeakyRelu", 0.25, "Reformat"),
        ("Reformatting CopyNode for Output Tensor 0 to /Relu", 0.25, "unknown"),
        *[("(Unnamed Layer* 12) [Shuffle]", 0.125, "Shuffle")] * 2,
        ("/a/Conv + /LeakyRelu", 1.0, "CaskConvolution"),
    )
    assert found.rows == [((A,), 1.0)]
    assert (found.reformats_ms, found.unmatched) == (0.5, {"(Unnamed Layer* 12) [Shuffle]": 0.25})


def test_names_joined_by_control_characters():
    assert matched(("/a/Conv\x1e/LeakyRelu\x1f", 1.0, "CaskConvolution")).rows == [((A,), 1.0)]


def test_the_profile_of_another_engine():
    with pytest.raises(ModelError, match=r"no layer of student\.engine names an operator of this ONNX"):
        matched(("/c/Conv", 1.0, "CaskConvolution"))
