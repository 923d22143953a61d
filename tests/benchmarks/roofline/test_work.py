"""Bytes and operations counted by hand, on planes of 16x24."""

import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper

from irvis.benchmarks.roofline.work import (
    TRANSCENDENTAL,
    convolution_kind,
    group_works,
    operations_of,
    reduction_kind,
)
from irvis.export.fixed_shapes import fix_shapes

SIZE = (16, 24)
PIXELS = 16 * 24


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def weight(name, *shape):
    count = 1
    for length in shape:
        count *= length
    return helper.make_tensor(name, TensorProto.FLOAT, shape, [1.0] * count)


def works(nodes, precision="fp32", weights=(), channels=32, output="out"):
    planes = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *SIZE])]
    results = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", planes, results, initializer=list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return group_works(*fix_shapes(model), precision)


DENSE = weight("w3", 16, 32, 3, 3)


@pytest.mark.parametrize(("precision", "itemsize"), [("fp32", 4), ("fp16", 2)])
def test_a_dense_convolution(precision, itemsize):
    (work,) = works([node("Conv", "x w3", "out", pads=[1] * 4)], precision, [DENSE])
    assert (work.kind, work.unit) == ("dense convolution, 16 outputs or fewer", "matrix")
    assert work.operations == 2 * 9 * 32 * 16 * PIXELS
    assert work.read_bytes == (itemsize * 32 * PIXELS, itemsize * 16 * 32 * 9)
    assert work.written_bytes == (itemsize * 16 * PIXELS,)
    assert work.intensity == pytest.approx(work.operations / work.bytes)


def test_a_depthwise_convolution_uses_no_matrix_unit():
    (work,) = works([node("Conv", "x w", "out", pads=[1] * 4, group=32)], weights=[weight("w", 32, 1, 3, 3)])
    assert (work.kind, work.unit, work.operations) == ("depthwise convolution", "vector", 2 * 9 * 32 * PIXELS)


def test_a_fused_group_computes_what_all_its_operators_do():
    nodes = [node("Mul", "x x", "a"), node("Exp", "a", "b"), node("Add", "b x", "out")]
    (work,) = works(nodes)
    assert (work.kind, work.operations) == ("transcendental", (2 + TRANSCENDENTAL) * 32 * PIXELS)
    assert work.bytes == 2 * 4 * 32 * PIXELS


def test_a_matrix_product():
    nodes = [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "out")]
    (work,) = works(nodes)
    assert (work.kind, work.unit, work.operations) == ("matmul", "matrix", 2 * 32 * 16 * 16 * 24)
    for transposed, first in ((0, (5, 7)), (1, (7, 5))):
        shapes = {"a": first, "b": (7, 3), "c": (5, 3)}
        assert operations_of(node("Gemm", "a b", "c", transA=transposed), shapes) == 2 * 5 * 3 * 7


def test_a_copy_reads_what_it_writes():
    nodes = [node("Relu", "x", "a"), node("Slice", "a first last axes", "b"), node("Softmax", "b", "out", axis=1)]
    ends = [
        helper.make_tensor(name, TensorProto.INT64, (1,), [at]) for name, at in (("first", 0), ("last", 8), ("axes", 1))
    ]
    copy = next(work for work in works(nodes, weights=ends) if work.kind == "copy")
    assert sum(copy.read_bytes[:1]) == sum(copy.written_bytes) == 4 * 8 * PIXELS


def test_in_int8_convolutions_compute_and_exchange_bytes():
    """x is read by the convolution alone, a by a convolution alone, b by a product too, which stays in FP16.

    So do the first two convolutions and the last three.
    """
    names = [f"w{index}" for index in range(7)]
    nodes = [
        node("Conv", "x w0", "y"),
        node("Conv", "y w1", "z"),
        node("Conv", "z w2", "a"),
        node("Conv", "a w3", "b"),
        node("Sigmoid", "b", "c"),
        node("Mul", "b c", "d"),
        node("Conv", "d w4", "e"),
        node("Conv", "e w5", "f"),
        node("Conv", "f w6", "out"),
    ]
    found = works(nodes, "int8", [weight(name, 32, 32, 1, 1) for name in names])
    assert [work.precision for work in found] == ["fp16", "fp16", "int8", "int8", "fp16", "fp16", "fp16", "fp16"]
    tensor = 32 * PIXELS
    assert [(sum(work.read_bytes), sum(work.written_bytes)) for work in found] == [
        (2 * tensor + 2048, 2 * tensor),
        (2 * tensor + 2048, tensor),
        (tensor + 1024, tensor),
        (tensor + 1024, 2 * tensor),
        (2 * tensor, 2 * tensor),
        *3 * [(2 * tensor + 2048, 2 * tensor)],
    ]


@pytest.mark.parametrize(
    ("shape", "channels", "kind"),
    [
        ((64, 32, 3, 3), 32, "dense convolution"),
        ((8, 32, 3, 3), 32, "dense convolution, 8 outputs or fewer"),
        ((32, 16, 3, 3), 32, "grouped convolution"),
        ((8, 32, 1, 1), 32, "1x1 convolution"),
        ((32, 1, 3, 3), 32, "depthwise convolution"),
        ((16, 1, 3, 3), 1, "dense convolution, 16 outputs or fewer"),
    ],
)
def test_kinds_of_convolutions(shape, channels, kind):
    assert convolution_kind(shape, channels) == kind


def test_kinds_of_reductions():
    assert reduction_kind((1, 32, 16, 24), (1, 1, 16, 24)) == "reduction over channels"
    assert reduction_kind((1, 32, 16, 24), (1, 32, 1, 1)) == "reduction"
    assert reduction_kind((1, 32, 16, 24), (1, 32)) == "reduction"
    (work,) = works([node("ReduceMean", "x", "out", axes=[1])])
    assert (work.kind, work.operations) == ("reduction over channels", 32 * PIXELS)
