"""Two transposes of one tensor that differ in their last two axes alone: one copy instead of two.

A matrix product takes a factor with its last two axes swapped as it is (TensorRT's TransposeMatMulFusion, ONNX
Runtime's FusedMatMul); any other transpose is a copy of the tensor. PyTorch's exporter joins a transpose of a transpose
into one from the source, which hides that.
"""

from typing import Dict, List, Tuple

import onnx


def share_transposes(model: onnx.ModelProto) -> None:
    """Let the later of two such transposes take its axes from the earlier one's output, in place."""
    seen: Dict[Tuple[str, Tuple[int, ...]], str] = {}  # (input, axes) -> output
    for node in model.graph.node:
        if node.op_type != "Transpose":
            continue
        axes = _axes(node)
        source = seen.get((node.input[0], _swapped(axes)))
        if source is None:
            seen.setdefault((node.input[0], tuple(axes)), node.output[0])
        else:
            node.input[0] = source
            node.attribute[0].ints[:] = _swapped(list(range(len(axes))))


def _axes(node: onnx.NodeProto) -> List[int]:
    return [axis for attribute in node.attribute if attribute.name == "perm" for axis in attribute.ints]


def _swapped(axes: List[int]) -> Tuple[int, ...]:
    return (*axes[:-2], *axes[:-3:-1])
