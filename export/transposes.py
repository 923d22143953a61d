"""Makes one copy instead of two for two transposes of a tensor that differ only in their last two axes.

A matrix product reads a factor with its last two axes swapped without a copy (TensorRT's TransposeMatMulFusion, ONNX
Runtime's FusedMatMul); any other transpose copies the tensor. PyTorch's exporter merges a transpose of a transpose into
one of the source, which hides this.
"""

from typing import Dict, List, Tuple

import onnx

from irvis.export.fixed_shapes import attribute_of


def share_transposes(model: onnx.ModelProto) -> None:
    """Make the later of two such transposes swap the last two axes of the earlier one's output, in place."""
    seen: Dict[Tuple[str, Tuple[int, ...]], str] = {}  # (input, axes) -> output
    for node in model.graph.node:
        if node.op_type != "Transpose":
            continue
        axes = attribute_of(node, "perm", [])
        source = seen.get((node.input[0], _swapped(axes)))
        if source is None:
            seen.setdefault((node.input[0], tuple(axes)), node.output[0])
        else:
            node.input[0] = source
            node.attribute[0].ints[:] = _swapped(list(range(len(axes))))


def _swapped(axes: List[int]) -> Tuple[int, ...]:
    return (*axes[:-2], *reversed(axes[-2:]))
