from typing import List, Sequence, Tuple

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from irvis.export.transposes import share_transposes

SHAPE = (3, 5, 7)


def model_of(permutations: Sequence[Sequence[int]]) -> "onnx.ModelProto":
    """Return a graph with one output for each transpose of its input, after an identity each."""
    nodes, outputs = [], []
    for index, axes in enumerate(permutations):
        nodes.append(helper.make_node("Transpose", ["x"], [f"t{index}"], perm=axes))
        nodes.append(helper.make_node("Identity", [f"t{index}"], [f"y{index}"]))
        outputs.append(helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, [SHAPE[axis] for axis in axes]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def transposes(model: "onnx.ModelProto") -> List[Tuple[str, Tuple[int, ...]]]:
    return [(node.input[0], tuple(node.attribute[0].ints)) for node in model.graph.node if node.op_type == "Transpose"]


def test_the_second_is_taken_from_the_first() -> None:
    model = model_of([(1, 0, 2), (1, 2, 0)])
    share_transposes(model)
    assert transposes(model) == [("x", (1, 0, 2)), ("t0", (0, 2, 1))]


@pytest.mark.parametrize("permutations", [[(1, 0, 2), (2, 1, 0)], [(1, 0, 2)], [(1, 0, 2), (1, 0, 2)], [(0, 2, 1)]])
def test_others_are_left_alone(permutations: Sequence[Sequence[int]]) -> None:
    model = model_of(permutations)
    share_transposes(model)
    assert transposes(model) == [("x", tuple(axes)) for axes in permutations]


@pytest.mark.parametrize("first", [(1, 0, 2), (1, 2, 0), (2, 0, 1), (0, 1, 2)])
def test_the_outputs_are_the_same(first: Tuple[int, int, int]) -> None:
    permutations = [first, (first[0], first[2], first[1]), (2, 1, 0)]
    model, x = model_of(permutations), np.random.default_rng(0).random(SHAPE, np.float32)
    share_transposes(model)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for found in (session.run(None, {"x": x}), ReferenceEvaluator(model).run(None, {"x": x})):
        for plane, axes in zip(found, permutations):
            np.testing.assert_array_equal(plane, x.transpose(axes))
