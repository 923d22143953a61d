"""Small graphs whose passes are counted by hand: one pass is one read or write of (1, 32, 16, 24)."""

import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper

from irvis.export.fixed_shapes import fix_shapes
from irvis.export.fused_groups import fused_groups, fused_kernels

SIZE = (16, 24)
PASS_BYTES = 2 * 32 * 16 * 24


def node(kind, inputs, output, **attributes):
    outputs = output.split()
    return helper.make_node(kind, inputs.split(), outputs, name=outputs[0], **attributes)


def weight(name, *shape, kind=TensorProto.FLOAT, values=None):
    count = 1
    for length in shape:
        count *= length
    return helper.make_tensor(name, kind, shape, values or [1.0] * count)


W1, W3 = weight("w1", 32, 32, 1, 1), weight("w3", 32, 1, 3, 3)


def conv(inputs, output):
    return node("Conv", f"{inputs} w1", output, kernel_shape=[1, 1])


def groups_of(model):
    fixed, shapes = fix_shapes(model)
    return fused_groups(fused_kernels(fixed, shapes), shapes)


def count(nodes, outputs="out", inputs=("x",), weights=(W1, W3), channels=32):
    """Return [(kind, nodes, passes read, passes written)], the bytes of weights left out."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *SIZE]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        initializer=list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    constant_bytes = {tensor.name: 2 * int(onnx.numpy_helper.to_array(tensor).size) for tensor in weights}
    found = []
    for group in groups_of(model):
        used = {name for each in nodes if each.name in group.nodes for name in each.input}
        read = group.read_bytes - sum(constant_bytes.get(name, 0) for name in used)
        found.append((group.kind, " ".join(group.nodes), read / PASS_BYTES, group.written_bytes / PASS_BYTES))
    return found


def test_pointwise_operators_are_one_kernel():
    nodes = [node("Mul", "x z", "a"), node("Sqrt", "a", "b"), node("Add", "b x", "c"), node("Sigmoid", "c", "out")]
    assert count(nodes, inputs=("x", "z")) == [("pointwise", "a b c out", 2, 1)]


def test_a_pointwise_kernel_writes_each_tensor_that_is_used_outside():
    nodes = [node("Mul", "x x", "a"), node("Sqrt", "a", "b"), conv("a", "c"), conv("b", "d")]
    assert count(nodes, "c d")[0] == ("pointwise", "a b", 1, 2)
    assert count([node("Mul", "x x", "a"), node("Sqrt", "a", "out")], "a out") == [("pointwise", "a out", 1, 2)]


def test_weights_count_by_their_bytes():
    graph = [conv("x", "out")]
    (group,) = fused_groups_of(graph)
    assert group.read_bytes == PASS_BYTES + 2 * 32 * 32
    assert group.written_bytes == PASS_BYTES
    assert group.bytes == 2 * PASS_BYTES + 2048


def fused_groups_of(nodes):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, *SIZE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        initializer=[W1],
    )
    return groups_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))


def test_layer_norm_is_four_kernels():
    """The mean, x - mean, the variance with its square, the quotient: 6 passes beside what has one channel."""
    nodes = [
        node("ReduceMean", "x", "mean", axes=[1]),
        node("Sub", "x mean", "centred"),
        node("Mul", "centred centred", "square"),
        node("ReduceMean", "square", "variance", axes=[1]),
        node("Sqrt", "variance", "sigma"),
        node("Div", "centred sigma", "out"),
    ]
    thin = 1 / 32
    assert count(nodes) == [
        ("reduction", "mean", 1, thin),
        ("pointwise", "centred", 1 + thin, 1),
        ("reduction", "square variance", 1, thin),
        ("pointwise", "sigma out", 1 + thin, 1),
    ]


def test_a_reduction_takes_in_all_that_it_alone_uses():
    nodes = [node("Add", "x z", "a"), node("Exp", "a", "b"), node("Mul", "a b", "c"), node("ReduceMean", "c", "out")]
    assert count(nodes, inputs=("x", "z"))[0][:3] == ("reduction", "a b c out", 2)
    assert [kind for kind, *_ in count(nodes, "b out", inputs=("x", "z"))] == ["pointwise", "reduction"]


def test_softmax_is_a_reduction():
    nodes = [node("Mul", "x x", "a"), conv("x", "c"), node("Softmax", "a", "out", axis=3)]
    assert count(nodes, "c out") == [("reduction", "a out", 1, 1), ("dense convolution", "c", 1, 1)]


def test_a_convolution_takes_a_sum_and_then_an_activation():
    nodes = [conv("x", "a"), node("Add", "z a", "b"), node("Relu", "b", "out")]
    assert count(nodes, inputs=("x", "z")) == [("dense convolution", "a b out", 2, 1)]


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid"])
def test_a_convolution_takes_an_activation(activation):
    assert count([conv("x", "a"), node(activation, "a", "out")]) == [("dense convolution", "a out", 1, 1)]
    nodes = [conv("x", "a"), node(activation, "a", "b"), node("Softmax", "b", "out", axis=3)]  # and no reduction has it
    assert count(nodes) == [("dense convolution", "a b", 1, 1), ("reduction", "out", 1, 1)]


def test_a_convolution_takes_a_clip_between_constants():
    bounds = [weight("low", values=[0.0]), weight("high", values=[6.0])]
    nodes = [conv("x", "a"), node("Clip", "a low high", "out")]
    assert count(nodes, weights=[W1, *bounds]) == [("dense convolution", "a out", 1, 1)]


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([node("Relu", "a", "b"), node("Add", "b z", "out")], ["a b", "out"]),  # a sum after the activation
        ([node("Relu", "a", "b"), node("Add", "a b", "out")], ["a", "b out"]),  # two users
        ([node("Erf", "a", "b"), node("Mul", "a b", "out")], ["a", "b out"]),  # gelu
        ([node("Mul", "a z", "out")], ["a", "out"]),
        ([node("Add", "a a", "out")], ["a", "out"]),
        ([node("ReduceMax", "z", "m", keepdims=0), node("Clip", "a m", "out")], ["a", "m", "out"]),
        ([node("ReduceMean", "z", "m", axes=[2, 3]), node("Add", "a m", "out")], ["a", "m", "out"]),  # a broadcast
    ],
)
def test_a_convolution_takes_nothing_else(nodes, outputs):
    found = [names for _, names, *_ in count([conv("x", "a"), *nodes], inputs=("x", "z"))]
    assert found == outputs


def test_a_bias_added_after_the_convolution_is_its_bias():
    nodes = [conv("x", "a"), node("Add", "a bias", "b"), node("Relu", "b", "out")]
    assert count(nodes, weights=[W1, weight("bias", 1, 32, 1, 1)]) == [("dense convolution", "a b out", 1, 1)]


def test_what_is_also_a_result_is_written():
    nodes = [conv("x", "a"), node("Relu", "a", "out")]
    assert count(nodes, "a out") == [("dense convolution", "a", 1, 1), ("pointwise", "out", 1, 1)]
    assert count([*nodes, node("Identity", "a", "view")], "view out") == count(nodes, "a out")


def test_of_two_summed_convolutions_the_later_takes_the_sum():
    nodes = [conv("x", "a"), conv("z", "b"), node("Add", "a b", "out")]
    assert count(nodes, inputs=("x", "z")) == [("dense convolution", "a", 1, 1), ("dense convolution", "b out", 2, 1)]


def test_convolutions_of_one_input_and_geometry_read_it_once():
    deep = node("Conv", "x w3", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=32)
    nodes = [conv("x", "a"), conv("x", "b"), deep]
    assert count(nodes, "a b c") == [("dense convolution", "a b", 1, 2), ("grouped convolution", "c", 1, 1)]


@pytest.mark.parametrize(
    "other",
    [{"strides": [2, 2]}, {"pads": [2, 2, 2, 2]}, {"dilations": [2, 2]}, {"kernel_shape": [1, 1]}, {"group": 32}],
)
def test_convolutions_of_another_geometry_stay_apart(other):
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1]}
    kernel = weight("w", 32, 32, 3, 3)
    its = "w1" if "kernel_shape" in other else "w3" if "group" in other else "w"
    nodes = [node("Conv", "x w", "a", **same), node("Conv", f"x {its}", "b", **{**same, **other})]
    assert [names for _, names, *_ in count(nodes, "a b", weights=[W1, W3, kernel])] == ["a", "b"]
    nodes = [node("Conv", "x w", "a", **same), node("Conv", "x w", "b", **same)]
    assert [names for _, names, *_ in count(nodes, "a b", weights=[kernel])] == ["a b"]


def test_convolutions_of_one_input_stay_apart_where_one_waits_for_the_other():
    nodes = [conv("x", "a"), node("ReduceMean", "a", "m", axes=[1]), conv("x", "b"), node("Add", "b r", "out")]
    nodes.insert(2, node("Mul", "a m", "r"))
    assert [names for _, names, *_ in count(nodes)] == ["a", "m", "r", "b out"]


def test_views_are_free():
    shape = weight("shape", 3, kind=TensorProto.INT64, values=[1, 32, -1])
    nodes = [node("Reshape", "x shape", "a"), node("Identity", "a", "b"), node("Relu", "b", "out")]
    assert count(nodes, weights=[shape]) == [("pointwise", "out", 1, 1)]


def test_a_convolution_sees_past_views():
    nodes = [node("Identity", "x", "view"), node("Identity", "view", "same"), conv("same", "a"), conv("x", "b")]
    assert count(nodes, "a b") == [("dense convolution", "a b", 1, 2)]


def matmul_of(permutation, squeezed=True):
    """x, transposed, times (1, 32, 24, 16) or its like, of ones."""
    axes = weight("axes", 1, kind=TensorProto.INT64, values=[0])
    lengths = [(32, 16, 24)[axis] for axis in permutation]
    ones = weight("ones", lengths[0], lengths[2], 1)
    first = [node("Squeeze", "x axes", "s"), node("Transpose", "s", "t", perm=permutation)]
    return count([*first, node("MatMul", "t ones", "out")], weights=[axes, ones])


def test_a_matmul_takes_a_factor_with_its_last_axes_swapped():
    ((kind, names, read, _),) = matmul_of([0, 2, 1])
    assert (kind, names, read) == ("matmul", "out", 1)


@pytest.mark.parametrize("permutation", [[1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
def test_any_other_factor_is_copied(permutation):
    copy, matmul = matmul_of(permutation)
    assert copy == ("copy", "t", 1, 1)
    assert matmul[:3] == ("matmul", "out", 1)


def test_a_transposition_for_others_than_matmul_is_a_copy():
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Relu", "t", "out")]
    assert count(nodes) == [("copy", "t", 1, 1), ("pointwise", "out", 1, 1)]


def test_a_swap_of_the_last_axes_is_a_copy_where_not_matmul_alone_takes_it():
    swap, square = node("Transpose", "x", "t", perm=[0, 1, 3, 2]), 32 * 16 * 16 * 2 / PASS_BYTES
    assert count([swap, node("Relu", "t", "out")])[0] == ("copy", "t", 1, 1)
    gram = node("MatMul", "x t", "gram")
    assert count([swap, gram, node("Relu", "t", "out")], "gram out")[0] == ("copy", "t", 1, 1)
    assert count([swap, gram], "gram t") == [("copy", "t", 1, 1), ("matmul", "gram", 2, square)]


def test_a_transposition_of_axes_of_length_1_is_free():
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2, 3]), node("Relu", "t", "out")]
    assert count(nodes) == [("pointwise", "out", 1, 1)]


def test_matmul_reads_its_factors_once_where_they_are_one_tensor():
    nodes = [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "gram")]
    other = [node("Transpose", "z", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "gram")]
    square = 32 * 16 * 16 * 2 / PASS_BYTES
    assert count(nodes, "gram") == [("matmul", "gram", 1, square)]
    assert count(other, "gram", inputs=("x", "z")) == [("matmul", "gram", 2, square)]


BOUNDS = [(("from", 1), 0), (("to", 1), 8), (("on", 1), 1)]


def test_split_slice_gather_and_concat_copy_what_they_write():
    halves = weight("halves", 2, kind=TensorProto.INT64, values=[16, 16])
    bounds = [weight(*named, kind=TensorProto.INT64, values=[value]) for named, value in BOUNDS]
    first = weight("first", kind=TensorProto.INT64, values=[0])
    split = [node("Split", "x halves", "a b", axis=1), node("Concat", "b a", "out", axis=1)]
    assert count(split, weights=[halves])[0][2:] == pytest.approx((1, 1), abs=1e-3)
    assert count(split, weights=[halves])[1] == ("copy", "out", 1, 1)
    ((_, _, read, written),) = count([node("Slice", "x from to on", "out")], weights=bounds)
    assert (read, written) == (0.25, 0.25)
    ((_, _, read, written),) = count([node("Gather", "x first", "out", axis=1)], weights=[first])
    assert (read, written) == (1 / 32, 1 / 32)
    assert count([node("Concat", "x x", "out", axis=1)]) == [("copy", "out", 1, 2)]


def test_operators_without_a_rule_read_and_write():
    assert count([node("MaxPool", "x", "out", kernel_shape=[2, 2], strides=[2, 2])]) == [("other", "out", 1, 0.25)]


def test_what_no_result_needs_does_not_count():
    assert len(count([node("Relu", "x", "out"), node("Exp", "x", "unused"), conv("unused", "more")])) == 1
