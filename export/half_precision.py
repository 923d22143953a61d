"""Runs an ONNX as a GPU would in FP16 at its worst: every tensor is rounded to FP16, and sums accumulate in FP16.

The order in which a kernel sums is not known beforehand, and determines the error. So a sum is split into blocks, which
are summed exactly. The blocks' sums are rounded and added up in FP16 in two orders: one after the other, and in eight
interleaved runs as threads do. For each element, the result farther from the exact one is taken.
"""

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from irvis.export.fixed_shapes import load_planes_onnx
from irvis.runtime.errors import ModelError, one_line

BLOCK = 32  # terms of a product or a mean that are summed exactly
CONV_BLOCK = 16  # channels of a convolution, with all their taps
RUNS = 8
MOVES = frozenset(  # operators without arithmetic
    "Concat Expand Gather Identity Reshape Slice Split Squeeze Transpose Unsqueeze".split()
)


class HalfPrecision:
    """Runs an ONNX with inputs ``infrared`` and ``visible`` and output ``fused``, float32 (1, 1, H, W), in FP16.

    It stops at the first node whose output is not finite: ``overflow`` names that node, and the fused plane is NaN.
    Raises FileError and ModelError, the latter also for an operator, or a form of one, that it does not support.
    """

    def __init__(self, model: Path) -> None:
        graph = load_planes_onnx(model).graph
        unknown = sorted({node.op_type for node in graph.node} - set(OPERATORS))
        if unknown:
            raise ModelError(f"{model} has operators that are not supported here: {', '.join(unknown)}")
        try:
            self.nodes = [(node, _attributes(node)) for node in graph.node]
            self.constants = {tensor.name: round_half(_tensor(tensor)) for tensor in graph.initializer}
        except Exception as error:  # onnx's and torch's, for types that one of them lacks
            raise ModelError(f"{model} has weights that are not supported here: {one_line(error, 150)}") from error
        self.overflow: Optional[str] = None

    def __call__(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """float32 (H, W) in [0, 1] each -> fused float32 (H, W)."""
        self.overflow = None
        last_use = {name: index for index, (node, _) in enumerate(self.nodes) for name in node.input}
        values: Dict[str, Any] = {
            **self.constants,
            "": None,
            "infrared": round_half(torch.from_numpy(infrared)[None, None]),
            "visible": round_half(torch.from_numpy(visible)[None, None]),
        }
        with torch.inference_mode():
            for index, (node, attributes) in enumerate(self.nodes):
                try:
                    results = OPERATORS[node.op_type](*(values[name] for name in node.input), **attributes)
                    results = results if isinstance(results, list) else [results]
                    if node.op_type not in MOVES:
                        results = [round_half(result) for result in results]
                except Exception as error:  # TypeError for an unsupported form, torch's for wrong shapes
                    label = f"{node.name or ' '.join(node.output)} ({node.op_type})"
                    raise ModelError(f"{label} cannot be computed here: {one_line(error, 150)}") from error
                for name, result in zip(node.output, results):
                    values[name] = result
                    # A sum of finite FP16 values is finite in float32, and is cheaper than checking each.
                    if result.is_floating_point() and not bool(torch.isfinite(values[name].sum())):
                        self.overflow = node.name or name
                        return np.full_like(infrared, np.nan)
                for name in node.input:
                    if last_use[name] == index and name not in self.constants and name:
                        values.pop(name, None)
        fused = values.get("fused")
        if fused is None or fused.shape != (1, 1, *infrared.shape):
            raise ModelError("the ONNX gives no fused plane (1, 1, H, W)")
        return fused[0, 0].numpy()


def round_half(x: Tensor) -> Tensor:
    """Round float32 to FP16's values, beyond 65504 to infinity; leave integers as they are."""
    return x.half().float() if x.is_floating_point() else x


def accumulate(blocks: Sequence[Tensor]) -> Tensor:
    """Add up tensors of one shape in FP16, in the worse of two orders for each element."""
    rounded = [round_half(block) for block in blocks]
    forward = rounded[0]
    for block in rounded[1:]:
        forward = round_half(forward + block)
    if len(blocks) <= 2:  # which have only one order
        return forward
    runs = rounded[:RUNS]
    for index, block in enumerate(rounded[RUNS:]):
        runs[index % RUNS] = round_half(runs[index % RUNS] + block)
    while len(runs) > 1:
        left = runs[len(runs) // 2 * 2 :]  # of an odd number, one
        runs = [round_half(a + b) for a, b in zip(runs[::2], runs[1::2])] + left
    exact = sum(blocks[1:], blocks[0])
    # A NaN or an infinity is farther than anything: the comparison is false for it.
    return torch.where((runs[0] - exact).abs() <= (forward - exact).abs(), forward, runs[0])


def _sum(x: Tensor, axes: Iterable[int], keepdims: int) -> Tensor:
    axes = [axis % x.ndim for axis in axes]
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    flat = x.permute(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
    total = accumulate([block.sum(-1) for block in flat.split(BLOCK, dim=-1)])
    return total.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)]) if keepdims else total


def _conv(x: Tensor, weight: Tensor, bias: Any = None, **attributes: Any) -> Tensor:
    groups, pads = attributes.get("group", 1), attributes.get("pads", [0, 0, 0, 0])
    sizes = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    if sizes != ([1, 1], [1, 1]) or pads[:2] != pads[2:]:
        raise ModelError(f"a convolution with {attributes} is not supported here")
    inputs = weight.shape[1]
    if inputs <= CONV_BLOCK:
        result = round_half(F.conv2d(x, weight, padding=pads[:2], groups=groups))
    else:
        grouped = x.unflatten(1, (groups, inputs))
        result = accumulate(
            [
                F.conv2d(
                    grouped[:, :, start : start + CONV_BLOCK].flatten(1, 2),
                    weight[:, start : start + CONV_BLOCK],
                    padding=pads[:2],
                    groups=groups,
                )
                for start in range(0, inputs, CONV_BLOCK)
            ]
        )
    return result if bias is None else result + bias[:, None, None]


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    blocks = zip(a.split(BLOCK, dim=-1), b.split(BLOCK, dim=-2))
    return accumulate([left @ right for left, right in blocks])


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    powers = round_half(torch.exp(round_half(x - x.amax(axis, keepdim=True))))
    return powers / _sum(powers, [axis], 1)


def _mean(x: Tensor, axes: List[int], keepdims: int = 1) -> Tensor:
    count = int(np.prod([x.shape[axis] for axis in axes]))
    return _sum(x, axes, keepdims) * round_half(torch.tensor(1 / count))


def _l2(x: Tensor, axes: List[int], keepdims: int = 1) -> Tensor:
    return torch.sqrt(_sum(round_half(x * x), axes, keepdims))


def _reduce_sum(x: Tensor, axes: Tensor, keepdims: int = 1) -> Tensor:
    return _sum(x, axes.tolist(), keepdims)


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, steps: Any = None) -> Tensor:
    index = [slice(None)] * x.ndim
    for axis, start, end in zip(axes.tolist(), starts.tolist(), ends.tolist()):
        index[axis] = slice(start, end)
    if steps is not None and set(steps.tolist()) != {1}:
        raise ModelError("a slice with steps is not supported here")
    return x[tuple(index)]


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape.tolist()))


def _gather(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
    return x.index_select(axis, indices.flatten()).reshape(shape)


def _squeeze(x: Tensor, axes: Tensor) -> Tensor:
    return x.squeeze(tuple(axes.tolist()))


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _clip(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    return x.clamp(min=None if low is None else float(low), max=None if high is None else float(high))


def _resize(x: Tensor, roi: Any, scales: Any, sizes: Tensor, **attributes: Any) -> Tensor:
    kind = attributes.get("mode"), attributes.get("coordinate_transformation_mode")
    if kind not in ((b"linear", b"half_pixel"), (b"linear", b"pytorch_half_pixel")) or x.ndim != 4:
        raise ModelError(f"a resize with {attributes} is not supported here")
    return F.interpolate(x, size=sizes.tolist()[2:], mode="bilinear", align_corners=False)


def _split(x: Tensor, sizes: Tensor, axis: int = 0) -> List[Tensor]:
    return list(x.split(sizes.tolist(), axis))


# All that irvis exports, plain and deploy, of fixed and of any size. Each returns float32, which is rounded afterwards.
OPERATORS: Dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Cast": lambda x, to: x.to(_dtype(to)),
    "Clip": _clip,
    "Concat": lambda *tensors, axis: torch.cat(tensors, axis),
    "Constant": lambda value: value,
    "ConstantOfShape": lambda shape, value: value.expand(shape.tolist()),
    "Conv": _conv,
    "Div": lambda a, b: a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="floor"),
    "Erf": torch.erf,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda x: x,
    "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
    "MatMul": _matmul,
    "Mul": torch.mul,
    "Reciprocal": torch.reciprocal,
    "ReduceL2": _l2,
    "ReduceMean": _mean,
    "ReduceSum": _reduce_sum,
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda x: torch.tensor(x.shape),
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Transpose": lambda x, perm: x.permute(perm),
    "Unsqueeze": _unsqueeze,
}


def _attributes(node: onnx.NodeProto) -> Dict[str, Any]:
    ignored = {"kernel_shape"}
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute if item.name not in ignored}
    return {
        name: round_half(_tensor(value)) if isinstance(value, onnx.TensorProto) else value
        for name, value in values.items()
    }


def _tensor(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(tensor)))


def _dtype(onnx_type: int) -> torch.dtype:
    return {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT64: torch.int64}[onnx_type]
