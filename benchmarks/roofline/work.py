"""The work of a kernel, whatever runs it: bytes per tensor, operations, kind of layer, unit.

A multiply-add counts as two operations and anything else as one per element, except exponentials and the like: they
count as ``TRANSCENDENTAL``, about the cost of a polynomial for them.
"""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import onnx

from irvis.export.fixed_shapes import Shapes, attribute_of
from irvis.export.fused_groups import Kernel, fused_kernels
from irvis.export.layouts import CONVERSION, converted_tensors
from irvis.export.pins import int8_convolutions

TRANSCENDENTAL = 20  # operations per element
TRANSCENDENTALS = frozenset("Erf Exp Log Sigmoid Tanh Softmax Gelu FastGelu QuickGelu BiasGelu Sin Cos Pow".split())
ITEMSIZE = {"fp32": 4, "fp16": 2, "int8": 1}
MATRIX, VECTOR = "matrix", "vector"
# So few outputs leave vector registers or a matrix unit's tile partly empty.
NARROW = (8, 16)


class Work(NamedTuple):
    """The work of one kernel."""

    name: str
    kind: str  # of layer
    read_bytes: Tuple[int, ...]  # tensor by tensor, including weights
    written_bytes: Tuple[int, ...]
    operations: float
    unit: str  # MATRIX or VECTOR: what computes it on a device that has both
    precision: str  # of its computation
    group: Optional[int] = None  # which of ``fused_kernels`` it belongs to

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return sum(self.read_bytes) + sum(self.written_bytes)

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.bytes if self.bytes else 0.0


def convolution_kind(weight: Sequence[int], channels: int) -> str:
    """Return the kind of a convolution from its weight's shape (O, I / groups, kh, kw) and its input's channels."""
    outputs, inputs, *window = weight
    narrow = next((f", {limit} outputs or fewer" for limit in NARROW if outputs <= limit), "")
    if inputs == 1 and channels > 1:
        return "depthwise convolution"
    if math.prod(window) == 1:
        return "1x1 convolution"
    return ("dense convolution" if inputs == channels else "grouped convolution") + narrow


def reduction_kind(whole: Sequence[int], reduced: Sequence[int]) -> str:
    """Return the kind of a reduction: one that keeps the last axis, and so strides over planes, or one along it."""
    return "reduction over channels" if len(reduced) == len(whole) and reduced[-1] == whole[-1] > 1 else "reduction"


def group_works(model: onnx.ModelProto, shapes: Shapes, precision: str) -> List[Work]:
    """Return the kernels of a model from ``fix_shapes``, fused as ``fused_groups`` expects of TensorRT.

    In INT8, only the convolutions that the builder allows compute in INT8, and only tensors that no other kernels read
    are written in it; the rest stays in FP16. After the groups, except in FP32, come the conversions of ``layouts``,
    which belong to no group. Conversions between INT8 and FP16 are not predicted.
    """
    kernels = fused_kernels(model, shapes)
    quantized = int8_convolutions(model.graph, shapes) if precision == "int8" else set()
    itemsizes = _itemsizes(kernels, quantized)
    fallback = ITEMSIZE["fp16" if precision == "int8" else precision]

    def sizes(names: Sequence[str]) -> Tuple[int, ...]:
        return tuple(itemsizes.get(name, fallback) * math.prod(shapes[name]) for name in names)

    works = []
    for index, kernel in enumerate(kernels):
        main = next((node for node in kernel.nodes if node.op_type == "Conv"), kernel.nodes[-1])
        kind = _kind(kernel, main, shapes)
        own = precision if precision != "int8" or main.output[0] in quantized else "fp16"
        read, written = sizes(kernel.read), sizes(kernel.written)
        if kernel.kind == "copy":
            read = (min(sum(read), sum(written)),)
        weights = tuple(ITEMSIZE[own] * math.prod(shapes[name]) for name in kernel.constants)
        works.append(
            Work(
                name=main.name or main.output[0],
                kind=kind,
                read_bytes=read + weights,
                written_bytes=written,
                operations=sum(operations_of(node, shapes) for node in kernel.nodes),
                unit=MATRIX if kind == "matmul" or ("convolution" in kind and "depthwise" not in kind) else VECTOR,
                precision=own,
                group=index,
            )
        )
    converted = converted_tensors(kernels, shapes) if precision != "fp32" else []
    for name in converted:
        works.append(Work(name, CONVERSION, sizes([name]), sizes([name]), 0.0, VECTOR, "fp16"))
    return works


def _kind(kernel: Kernel, main: onnx.NodeProto, shapes: Shapes) -> str:
    """Return the kind of layer that a kernel is; ``main`` is its convolution, or else its last operator."""
    if main.op_type == "Conv":
        return convolution_kind(shapes[main.input[1]], shapes[main.input[0]][1])
    if kernel.kind == "reduction":
        reducing = next((node for node in kernel.nodes if _reduces(node)), None)
        return reduction_kind(shapes[reducing.input[0]], shapes[reducing.output[0]]) if reducing else "softmax"
    if kernel.kind == "pointwise" and any(node.op_type in TRANSCENDENTALS for node in kernel.nodes):
        return "transcendental"
    return kernel.kind


def operations_of(node: onnx.NodeProto, shapes: Shapes) -> float:
    """Return the number of operations of an ONNX operator."""
    elements = math.prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return 2.0 * elements * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return 2.0 * elements * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        return 2.0 * elements * shapes[node.input[0]][0 if attribute_of(node, "transA", 0) else 1]
    if node.op_type in TRANSCENDENTALS:
        return float(TRANSCENDENTAL * elements)
    if _reduces(node):
        return float(math.prod(shapes[node.input[0]]))
    return float(elements)


def merged(works: Sequence[Work], name: str, kind: str, group: Optional[int]) -> Work:
    """Return the work of several kernels together."""
    longest = max(works, key=lambda work: work.operations)
    return Work(
        name,
        kind,
        tuple(count for work in works for count in work.read_bytes),
        tuple(count for work in works for count in work.written_bytes),
        sum(work.operations for work in works),
        longest.unit,
        longest.precision,
        group,
    )


def as_json(work: Work) -> Dict[str, Any]:
    """Return the work as a JSON object."""
    return {
        "name": work.name,
        "kind": work.kind,
        "read_bytes": sum(work.read_bytes),
        "written_bytes": sum(work.written_bytes),
        "operations": work.operations,
        "intensity": work.intensity,
    }


def _reduces(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith("Reduce") or node.op_type == "GlobalAveragePool"


def _itemsizes(kernels: List[Kernel], quantized: Set[str]) -> Dict[str, int]:
    """Return the bytes per element of tensors unlike the rest: in INT8, those that only INT8 convolutions read."""
    by_convolutions: Dict[str, bool] = {}
    for kernel in kernels:
        firsts = {node.input[0] for node in kernel.nodes if node.op_type == "Conv" and node.output[0] in quantized}
        for name in kernel.read:
            alone = name in firsts
            by_convolutions[name] = by_convolutions.get(name, True) and alone
    return {name: 1 for name, alone in by_convolutions.items() if alone}
