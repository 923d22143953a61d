"""Which operators of an ONNX run as one kernel, and the bytes that each kernel reads and writes: a model, not a run.

The network is bound by memory bandwidth, so its time follows from the bytes that its kernels move. TensorRT decides on
the GPU what to fuse. The rules here follow its "Layer Fusion Catalog" (docs.nvidia.com), kept simple, and are the same
for each graph; that reductions include what feeds them, and that convolutions of one input merge, is assumed. A kernel
reads each outside tensor once, and writes each that is used outside, at 2 bytes an element (FP16), weights included.

- Free: Reshape, Squeeze, Unsqueeze, Flatten, Identity; a Transpose that only moves axes of length 1; a Transpose
  that only MatMuls read and that swaps the last two axes. Any other copies, even if strides would do: TensorRT 8.5.2
  was seen to copy such factors (docs/tensorrt.md).
- A convolution's epilogue includes its bias, the sum with a tensor of its output's shape, and an activation (Relu,
  LeakyRelu, Sigmoid, ...), in this order, if each is the only user of its input. Gelu and broadcast products are not
  part of it. If two convolutions are summed, the later one includes the sum.
- Convolutions of one input and of the same kernel, strides, padding and kind (dense, or grouped) are one kernel.
- The kernel of a reduction, or Softmax, includes the pointwise operators that only it uses.
- Other pointwise operators, including broadcasts and Expand, join those whose results they use, as long as no kernel
  then waits for itself: in LayerNorm, x - mean and its quotient are two kernels, since a reduction is between them.
- MatMul reads both factors and writes the product; nothing joins it.
- Split, Slice, Gather, Concat, Pad, and each Transpose that is not free, copy: they read and write what they output. So
  taking q, k and v out of one tensor by Gather costs three reads and three writes besides the convolution's. TensorRT
  may avoid some of the copies (Concat's, by writing the parts in place); the kernels listed as copies bound the saving.
- Any other operator reads its inputs and writes its outputs.
"""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import onnx

from irvis.export.fixed_shapes import Shapes, attribute_of

BYTES = 2  # an element, FP16

FREE = frozenset("Reshape Squeeze Unsqueeze Flatten Identity".split())
COPIES = frozenset("Split Slice Gather Concat Pad Transpose Tile".split())
ACTIVATIONS = frozenset("Relu LeakyRelu Sigmoid Tanh Clip Elu Selu Softplus Softsign HardSigmoid".split())
POINTWISE = ACTIVATIONS | frozenset(
    """
    Abs Add And Cast Ceil Cos Div Equal Erf Exp Expand Floor Greater HardSwish Less Log Max Min Mod Mul Neg Not Or
    PRelu Pow Reciprocal Round Sign Sin Sqrt Sub Sum Where Xor
    """.split()
)
KINDS = ("dense convolution", "grouped convolution", "matmul", "reduction", "pointwise", "copy", "other")


class Group(NamedTuple):
    """Operators that run as one kernel."""

    kind: str  # of KINDS
    nodes: Tuple[str, ...]  # names, in the graph's order
    read_bytes: int
    written_bytes: int

    @property
    def bytes(self) -> int:
        """Read and written."""
        return self.read_bytes + self.written_bytes


class Kernel(NamedTuple):
    """A Group before its bytes are counted: its tensors by name, each once."""

    kind: str
    nodes: Tuple[onnx.NodeProto, ...]
    read: Tuple[str, ...]  # computed outside
    constants: Tuple[str, ...]
    written: Tuple[str, ...]  # used outside


class _Operator(NamedTuple):
    node: onnx.NodeProto
    inputs: Tuple[str, ...]  # computed tensors, past what is free
    constants: Tuple[str, ...]
    outputs: Tuple[str, ...]

    @property
    def kind(self) -> str:
        name = self.node.op_type
        if name == "Conv":
            return "dense convolution" if attribute_of(self.node, "group", 1) == 1 else "grouped convolution"
        if name in ("MatMul", "Gemm"):
            return "matmul"
        if name.startswith("Reduce") or name in ("Softmax", "GlobalAveragePool"):
            return "reduction"
        return "pointwise" if name in POINTWISE else "copy" if name in COPIES else "other"


def fused_groups(kernels: Sequence[Kernel], shapes: Shapes) -> List[Group]:
    """Count the bytes of ``fused_kernels``' kernels, in their order."""

    def count(names: Tuple[str, ...]) -> int:
        return BYTES * sum(math.prod(shapes[name]) for name in names)

    groups = []
    for kernel in kernels:
        read, written = count(kernel.read), count(kernel.written)
        if kernel.kind == "copy":
            read = min(read, written)
        nodes = tuple(node.name or node.output[0] for node in kernel.nodes)
        groups.append(Group(kernel.kind, nodes, read + count(kernel.constants), written))
    return groups


def fused_kernels(model: onnx.ModelProto, shapes: Shapes) -> List[Kernel]:
    """Return the kernels of a model from ``fix_shapes``, in the order in which each first appears."""
    operators, results = _operators(model, shapes)
    plan = _Plan(operators, results, shapes)
    plan.fuse_epilogues()
    plan.fuse_into_reductions()
    plan.merge_convolutions()
    plan.merge_pointwise()
    return plan.kernels()


def _operators(model: onnx.ModelProto, shapes: Shapes) -> Tuple[List[_Operator], Set[str]]:
    """Return the operators that a result needs and that are not free, and the tensors that are results."""
    constants = {weight.name for weight in model.graph.initializer}
    users: Dict[str, List[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    seen_as: Dict[str, str] = {}  # the tensor that a free operator's output is
    operators = []
    for node in model.graph.node:
        if node.op_type in FREE or (
            node.op_type == "Transpose" and _is_free(node, shapes, users.get(node.output[0], []), outputs)
        ):
            seen_as[node.output[0]] = seen_as.get(node.input[0], node.input[0])
            continue
        names = [name for name in dict.fromkeys(node.input) if name]
        computed = dict.fromkeys(seen_as.get(name, name) for name in names if name not in constants)
        weights = tuple(name for name in names if name in constants)
        operators.append(_Operator(node, tuple(computed), weights, tuple(name for name in node.output if name)))
    results = {seen_as.get(name, name) for name in outputs}
    needed, alive = set(results), []
    for operator in reversed(operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            alive.append(operator)
    return alive[::-1], results


def _is_free(node: onnx.NodeProto, shapes: Shapes, users: List[onnx.NodeProto], outputs: Set[str]) -> bool:
    shape = shapes[node.input[0]]
    order = attribute_of(node, "perm", list(range(len(shape)))[::-1])
    long = [axis for axis in order if shape[axis] > 1]
    if long == sorted(long):
        return True
    swapped = [*long[:-2], long[-1], long[-2]] == sorted(long)
    return swapped and node.output[0] not in outputs and all(user.op_type == "MatMul" for user in users)


class _Plan:
    """The kernel of each operator, by number, and which kernels use the results of which others."""

    def __init__(self, operators: List[_Operator], results: Set[str], shapes: Shapes) -> None:
        self.operators, self.results, self.shapes = operators, results, shapes
        self.maker = {name: index for index, operator in enumerate(operators) for name in operator.outputs}
        self.users: Dict[str, Set[int]] = {}
        self.after: Dict[int, Set[int]] = {index: set() for index in range(len(operators))}
        for index, operator in enumerate(operators):
            for name in operator.inputs:
                self.users.setdefault(name, set()).add(index)
                if name in self.maker:
                    self.after[self.maker[name]].add(index)
        self.kernel = list(range(len(operators)))
        self.members = {index: [index] for index in range(len(operators))}
        self.taken: Set[int] = set()  # pointwise operators that run in a convolution or a reduction

    def only_user(self, name: str) -> Optional[int]:
        users = self.users.get(name, set())
        return next(iter(users)) if len(users) == 1 and name not in self.results else None

    def merge(self, first: int, second: int) -> bool:
        """Merge two operators' kernels, unless the result would wait for itself; return whether they are one kernel."""
        one, other = self.kernel[first], self.kernel[second]
        if one == other:
            return True
        if self._leads_around(one, other) or self._leads_around(other, one):
            return False
        for index in self.members[other]:
            self.kernel[index] = one
        self.members[one] += self.members.pop(other)
        self.after[one] = (self.after[one] | self.after.pop(other)) - {one, other}
        for following in self.after.values():
            if other in following:
                following.remove(other)
                following.add(one)
        return True

    def _leads_around(self, start: int, end: int) -> bool:
        """Return whether ``end`` depends on ``start`` through a third kernel."""
        seen, waiting = {start}, [kernel for kernel in self.after[start] if kernel != end]
        while waiting:
            kernel = waiting.pop()
            if kernel == end:
                return True
            if kernel not in seen:
                seen.add(kernel)
                waiting.extend(self.after[kernel])
        return False

    def fuse_epilogues(self) -> None:
        for index in reversed(range(len(self.operators))):
            operator = self.operators[index]
            if operator.node.op_type != "Conv":
                continue
            name, follower = operator.outputs[0], self.only_user(operator.outputs[0])
            if follower is not None and self._is_sum(follower, name) and follower not in self.taken:
                self._take(index, follower)
                name = self.operators[follower].outputs[0]
                follower = self.only_user(name)
            if follower is not None and self._is_activation(follower):
                self._take(index, follower)

    def _is_sum(self, index: int, name: str) -> bool:
        operator = self.operators[index]
        others = [other for other in operator.inputs if other != name] + list(operator.constants)
        if operator.node.op_type != "Add" or len(others) != 1:
            return False
        sizes = [math.prod(self.shapes[tensor]) for tensor in (name, others[0], operator.outputs[0])]
        return sizes[0] == sizes[2] and (sizes[0] == sizes[1] or others[0] in operator.constants)

    def _is_activation(self, index: int) -> bool:
        operator = self.operators[index]
        return operator.node.op_type in ACTIVATIONS and len(operator.inputs) == 1

    def _take(self, index: int, pointwise: int) -> None:
        if self.merge(index, pointwise):
            self.taken.add(pointwise)

    def fuse_into_reductions(self) -> None:
        for index, operator in enumerate(self.operators):
            if operator.kind != "reduction":
                continue
            within, waiting = {index}, list(operator.inputs)
            while waiting:
                name = waiting.pop()
                maker = self.maker.get(name)
                if maker is None or maker in self.taken or self.operators[maker].kind != "pointwise":
                    continue
                if name not in self.results and self.users[name] <= within:
                    self._take(index, maker)
                    within.add(maker)
                    waiting.extend(self.operators[maker].inputs)

    def merge_convolutions(self) -> None:
        first: Dict[Tuple[object, ...], List[int]] = {}
        for index, operator in enumerate(self.operators):
            if operator.node.op_type == "Conv":
                window = [str(attribute_of(operator.node, name, None)) for name in ("strides", "pads", "dilations")]
                geometry = operator.inputs[0], operator.kind, self.shapes[operator.node.input[1]][2:], *window
                likes = first.setdefault(geometry, [])
                if not any(self.merge(like, index) for like in likes):
                    likes.append(index)

    def merge_pointwise(self) -> None:
        for index, operator in enumerate(self.operators):
            for name in operator.inputs:
                maker = self.maker.get(name)
                if maker is not None and all(
                    self.operators[each].kind == "pointwise" and each not in self.taken for each in (maker, index)
                ):
                    self.merge(maker, index)

    def kernels(self) -> List[Kernel]:
        kernels = []
        for members in sorted(self.members.values(), key=min):
            inside = [self.operators[index] for index in sorted(members)]
            made = dict.fromkeys(name for operator in inside for name in operator.outputs)
            kernels.append(
                Kernel(
                    next((operator.kind for operator in inside if operator.kind != "pointwise"), "pointwise"),
                    tuple(operator.node for operator in inside),
                    tuple(dict.fromkeys(name for each in inside for name in each.inputs if name not in made)),
                    tuple(dict.fromkeys(name for operator in inside for name in operator.constants)),
                    tuple(name for name in made if self._is_used_outside(name, members)),
                )
            )
        return kernels

    def _is_used_outside(self, name: str, members: List[int]) -> bool:
        return name in self.results or bool(self.users.get(name, set()) - set(members))
