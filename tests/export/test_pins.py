"""Which layers keep FP32: the rule on stand-ins for TensorRT's layers, which cannot be made without a GPU.

A stand-in has the attributes that the rule reads and keeps what it sets. Those of the shipped student are made from its
ONNX, node by node, as TensorRT's parser makes them.
"""

import enum
import math
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from irvis.export.pins import hold_all_but_int8, hold_large_to, may_be_int8, pin_to_fp32
from irvis.runtime.shipped import NAMES, find_model

SIZE = (48, 64)
FULL = (1, 32, *SIZE)
DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8")
LayerType = enum.Enum(
    "LayerType",
    "ACTIVATION CONCATENATION CONSTANT CONVOLUTION ELEMENTWISE GATHER IDENTITY MATRIX_MULTIPLY REDUCE SELECT SHAPE "
    "SHUFFLE SOFTMAX UNARY",
)
TRT = SimpleNamespace(DataType=DataType, LayerType=LayerType)


class Tensor:
    def __init__(
        self, shape: Optional[Sequence[int]], dtype: Any = DataType.FLOAT, is_shape: bool = False, name: str = ""
    ) -> None:
        self.given, self.dtype, self.is_shape_tensor, self.name = shape, dtype, is_shape, name or f"tensor {id(self)}"

    @property
    def shape(self) -> Tuple[int, ...]:
        if self.given is None:
            raise ValueError("__len__() should return >= 0")  # TensorRT's, of a tensor of unknown rank
        return tuple(self.given)


class Layer:
    def __init__(self, name: str, kind: Any, inputs: List[Tensor], output: Tensor) -> None:
        self.name, self.type, self.inputs, self.output = name, kind, inputs, output
        self.precision: Any = None
        self.output_types: Dict[int, Any] = {}
        self.num_inputs, self.num_outputs = len(inputs), 1

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        assert index == 0
        return self.output

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output_types[index] = dtype


class Network:
    num_outputs = 1

    def __init__(self, *layers: Layer) -> None:
        self.layers, self.num_layers = layers, len(layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def get_output(self, index: int) -> Tensor:
        assert index == 0
        return Tensor((1, 1, *SIZE), name="fused")


def layer(kind: Any, shape: Optional[Sequence[int]], *inputs: Tensor, dtype: Any = DataType.FLOAT) -> Layer:
    """Make a layer; it reads a tensor of its output's shape unless told otherwise."""
    return Layer(kind.name, kind, list(inputs) or [Tensor(shape)], Tensor(shape, dtype))


def is_pinned(one: Layer, parsed: int = 1) -> bool:
    indices = pin_to_fp32(TRT, Network(one), SIZE, parsed)
    set_by_it = (one.precision, one.output_types)
    assert set_by_it == ((DataType.FLOAT, {0: DataType.FLOAT}) if indices else (None, {}))
    return indices == {0}


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (LayerType.SOFTMAX, (4, 8, 8)),
        (LayerType.UNARY, (1, 1, *SIZE)),
        (LayerType.ELEMENTWISE, (1, 2, *SIZE)),
        (LayerType.ACTIVATION, (1, 32, 1, 1)),
        (LayerType.REDUCE, (1, 2, *SIZE)),
        (LayerType.ELEMENTWISE, ()),
        (LayerType.CONVOLUTION, (1, 16, 1, 1)),
    ],
)
def test_sensitive_layers_of_small_tensors_are_pinned(kind: Any, shape: Tuple[int, ...]) -> None:
    assert is_pinned(layer(kind, shape))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (LayerType.SOFTMAX, FULL),
        (LayerType.ELEMENTWISE, FULL),
        (LayerType.ELEMENTWISE, (1, 3, *SIZE)),
        (LayerType.UNARY, FULL),
        (LayerType.ACTIVATION, FULL),
        (LayerType.CONVOLUTION, FULL),
        (LayerType.MATRIX_MULTIPLY, (4, 8, 8)),
        (LayerType.SHUFFLE, (4, 8, 8)),
        (LayerType.ELEMENTWISE, (1, 1, -1, -1)),
        (LayerType.ELEMENTWISE, None),
    ],
)
def test_full_tensors_and_other_kinds_are_not(kind: Any, shape: Optional[Tuple[int, ...]]) -> None:
    assert not is_pinned(layer(kind, shape))


@pytest.mark.parametrize(
    ("read", "written", "pinned"),
    [
        ((1, 32, 480, 640), (1, 32, 1, 1), True),  # the sum over a frame
        ((1, 1, 4097), (1, 1, 1), True),
        ((1, 32, 17, 241), (1, 32, 1, 1), True),  # 4097 terms, of a full tensor
        ((1, 32, 64, 64), (1, 32, 1, 1), False),  # 4096 terms, of a full tensor
        ((1, 32, 480, 640), (1, 32, 480, 1), False),  # over a row
        ((1, 32, 480, 640), (1, 1, 480, 640), False),  # over channels
        ((1, 32, 48, 1), (1, 32, 1, 1), True),  # short, of a small one
        ((1, 32, -1, -1), (1, 32, 1, 1), False),
        ((1, 32, 480, 640), (1, 32, -1, 1), False),
    ],
)
def test_reductions_are_pinned_where_they_are_long_or_small(read: Any, written: Any, pinned: bool) -> None:
    assert is_pinned(layer(LayerType.REDUCE, written, Tensor(read))) is pinned


@pytest.mark.parametrize(
    ("product", "written", "pinned"),
    [
        ((240, 32, 32), (1, 32, 32), True),  # of the rows' Gram matrices of 240x320, more than two planes
        ((600, 32, 32), (1, 32, 32), True),  # eight planes
        ((601, 32, 32), (1, 32, 32), False),
        ((2, 16, 240 * 320), (2, 16, 1), True),  # a long sum whatever it is of
        ((1, 32, 240, 320), (1, 1, 240, 320), False),  # of a product as large as the frame's features
    ],
)
def test_the_mean_of_small_products_is_pinned_at_any_width(product: Any, written: Any, pinned: bool) -> None:
    given = Tensor(product, name="product")
    layers = [
        Layer("product", LayerType.MATRIX_MULTIPLY, [Tensor(product)] * 2, given),
        Layer("mean", LayerType.REDUCE, [given], Tensor(written)),
    ]
    assert pin_to_fp32(TRT, Network(*layers), (240, 320), len(layers)) == ({1} if pinned else set())
    alone = pin_to_fp32(TRT, Network(layers[1]), (240, 320), 1)
    assert bool(alone) is (pinned and math.prod(product) > 4096 * math.prod(written))


def test_what_else_reads_a_product_is_pinned_only_where_it_is_small() -> None:
    product, scaled = Tensor((240, 32, 32), name="product"), Tensor((240, 32, 32))
    layers = [
        Layer("product", LayerType.MATRIX_MULTIPLY, [Tensor((240, 32, 320))] * 2, product),
        Layer("scale", LayerType.ELEMENTWISE, [product], scaled),
        Layer("mean", LayerType.REDUCE, [scaled], Tensor((1, 32, 32))),
    ]
    assert pin_to_fp32(TRT, Network(*layers), (240, 320), len(layers)) == set()


@pytest.mark.parametrize("dtype", [DataType.INT32, DataType.BOOL])
def test_whole_numbers_and_truth_values_are_left_alone(dtype: Any) -> None:
    assert not is_pinned(layer(LayerType.ELEMENTWISE, (4,), Tensor((4,), dtype), dtype=dtype))
    assert not is_pinned(layer(LayerType.REDUCE, (1,), Tensor((4,), dtype), dtype=dtype))
    assert not is_pinned(layer(LayerType.ELEMENTWISE, (4,), Tensor((4,)), dtype=dtype))  # a comparison
    assert not is_pinned(layer(LayerType.ELEMENTWISE, (4,), Tensor((4,), is_shape=True)))


def test_what_turns_frames_into_planes_is_pinned_whatever_its_size() -> None:
    colour, grey = (*SIZE, 3), (1, 1, *SIZE)
    network = Network(
        layer(LayerType.ELEMENTWISE, FULL),  # the ONNX's
        layer(LayerType.IDENTITY, colour, Tensor(colour, DataType.UINT8)),
        Layer("constant", LayerType.CONSTANT, [], Tensor((1, 1, 3))),
        layer(LayerType.ELEMENTWISE, colour, Tensor(colour)),
        layer(LayerType.SHUFFLE, grey, Tensor(SIZE)),
        layer(LayerType.IDENTITY, colour, Tensor(colour), dtype=DataType.UINT8),
    )
    assert pin_to_fp32(TRT, network, SIZE, parsed=1) == {3, 4}
    assert [one.precision for one in network.layers] == [None, None, None, DataType.FLOAT, DataType.FLOAT, None]
    assert network.layers[1].output_types == {}
    assert network.layers[5].output_types == {}


def test_without_pins_frames_are_exact_all_the_same() -> None:
    network = Network(layer(LayerType.SOFTMAX, (4, 8, 8)), layer(LayerType.ELEMENTWISE, (*SIZE, 3)))
    assert pin_to_fp32(TRT, network, SIZE, parsed=1, sensitive=False) == {1}
    assert network.layers[0].precision is None


def norm(*, sum_kind: Any, read_twice: bool) -> Network:
    """x / sqrt(sum of x^2 + eps), the sum one plane; with an exponential of its root beside it, where asked for."""
    x, one = Tensor(FULL, name="x"), (1, 1, *SIZE)
    squares, total, summed, root = Tensor(FULL), Tensor(one), Tensor(one), Tensor(one)
    layers = [
        Layer("square", LayerType.ELEMENTWISE, [x, x], squares),
        Layer("sum", sum_kind, [squares], total),
        Layer("add", LayerType.ELEMENTWISE, [total, Tensor((1, 1, 1, 1))], summed),
        Layer("sqrt", LayerType.UNARY, [summed], root),
        Layer("divide", LayerType.ELEMENTWISE, [x, root], Tensor(FULL)),
    ]
    return Network(*layers, *[Layer("softmax", LayerType.SOFTMAX, [root], Tensor(one))] * read_twice)


def test_what_tensorrt_merges_into_a_large_layer_is_not_pinned() -> None:
    assert pin_to_fp32(TRT, norm(sum_kind=LayerType.CONVOLUTION, read_twice=False), SIZE, 5) == set()


def test_but_where_something_else_reads_it_or_a_pinned_sum_is_before_it() -> None:
    assert pin_to_fp32(TRT, norm(sum_kind=LayerType.CONVOLUTION, read_twice=True), SIZE, 6) == {2, 3, 5}
    network = norm(sum_kind=LayerType.CONVOLUTION, read_twice=False)
    long_sum = Layer("sum", LayerType.REDUCE, [Tensor((1, 32, 480, 640))], Tensor((1, 1, 1, 1)))
    network.layers[2].inputs[1] = long_sum.output
    assert pin_to_fp32(TRT, Network(long_sum, *network.layers), SIZE, 6) == {0, 3, 4}


def test_a_large_comparison_merges_nothing() -> None:
    x, root = Tensor(FULL), Tensor((1, 1, *SIZE))
    network = Network(
        Layer("sqrt", LayerType.UNARY, [Tensor((1, 1, *SIZE))], root),
        Layer("greater", LayerType.ELEMENTWISE, [x, root], Tensor(FULL, DataType.BOOL)),
    )
    assert pin_to_fp32(TRT, network, SIZE, 2) == {0}


@pytest.mark.parametrize(
    ("kind", "pinned"),
    [(LayerType.ACTIVATION, {0}), (LayerType.UNARY, {0, 1, 2}), (LayerType.ELEMENTWISE, {0, 1, 2})],
)
def test_an_activation_is_merged_into_a_large_layer_whatever_it_is_from(kind: Any, pinned: Any) -> None:
    pixel = (1, 32, 1, 1)
    factors, gated, scaled, product = Tensor(pixel), Tensor(pixel), Tensor(pixel), Tensor(FULL)
    network = Network(
        Layer("excite", LayerType.CONVOLUTION, [Tensor((1, 16, 1, 1))], factors),
        Layer("gate", kind, [factors], gated),
        Layer("scale", LayerType.ELEMENTWISE, [gated, Tensor((1, 1, 1, 1))], scaled),
        Layer("product", LayerType.ELEMENTWISE, [Tensor(FULL), scaled], product),
        Layer("sum", LayerType.ELEMENTWISE, [Tensor(FULL), product], Tensor(FULL)),
    )
    assert pin_to_fp32(TRT, network, SIZE, network.num_layers) == pinned


def test_what_touches_a_large_tensor_is_held_to_half() -> None:
    one, row, pixel = (1, 1, *SIZE), (1, 32, SIZE[0], 1), (1, 32, 1, 1)
    network = Network(
        layer(LayerType.CONVOLUTION, FULL),
        layer(LayerType.CONVOLUTION, one, Tensor(FULL)),
        layer(LayerType.REDUCE, row, Tensor(FULL)),
        layer(LayerType.REDUCE, pixel, Tensor(row)),  # pinned
        layer(LayerType.CONVOLUTION, pixel),  # pinned; in FP16, with a pinned ReLU behind it, it has no kernel
        layer(LayerType.ACTIVATION, pixel),  # pinned
        Layer("slice", LayerType.SHUFFLE, [Tensor(FULL), None, Tensor((4,), DataType.INT32)], Tensor(FULL)),
        layer(LayerType.ELEMENTWISE, None),  # of unknown size
        layer(LayerType.SHAPE, (4,), Tensor(FULL), dtype=DataType.INT32),
        Layer("constant", LayerType.CONSTANT, [], Tensor(FULL)),
        layer(LayerType.REDUCE, pixel, Tensor((1, 32, 480, 640))),  # pinned, though it reads a large one
        layer(LayerType.SHUFFLE, pixel),
        Layer("last", LayerType.CONVOLUTION, [Tensor(FULL)], Tensor(one, name="fused")),
    )
    pinned = pin_to_fp32(TRT, network, SIZE, network.num_layers)
    assert pinned == {3, 4, 5, 10}
    assert hold_large_to(TRT, network, DataType.HALF, SIZE, pinned) == 6
    held = [index for index, one in enumerate(network.layers) if one.precision is DataType.HALF]
    assert held == [0, 1, 2, 6, 7, 12]
    assert [network.layers[index].output_types for index in held] == 5 * [{0: DataType.HALF}] + [{}]


def test_int8_leaves_the_ends_and_what_writes_a_small_tensor() -> None:
    large, small = 32 * SIZE[0] * SIZE[1], 2 * SIZE[0] * SIZE[1]
    assert may_be_int8([large, large, small, large, -1, large, large, large, small], SIZE) == [
        *(False, False),  # the first two
        *(False, True, False, True),  # of those between, what is large; of unknown size is not
        *(False, False, False),  # the last three
    ]
    assert may_be_int8([large] * 5, SIZE) == [False] * 5
    assert may_be_int8([large] * 2 + [small, small + 1] + [large] * 3, SIZE)[2:4] == [False, True]
    assert may_be_int8([], SIZE) == []


def test_int8_is_kept_to_convolutions() -> None:
    first, last = ([layer(LayerType.CONVOLUTION, FULL) for _ in range(count)] for count in (2, 3))
    network = Network(
        *first,
        layer(LayerType.CONVOLUTION, FULL),
        layer(LayerType.ELEMENTWISE, FULL),
        layer(LayerType.SOFTMAX, (4, 8, 8)),
        layer(LayerType.MATRIX_MULTIPLY, FULL),
        layer(LayerType.SHUFFLE, FULL, Tensor(FULL), Tensor((4,), DataType.INT32)),
        layer(LayerType.SHAPE, (4,), dtype=DataType.INT32),
        Layer("constant", LayerType.CONSTANT, [], Tensor((1,))),
        *last,
    )
    pinned = pin_to_fp32(TRT, network, SIZE, network.num_layers)
    assert hold_all_but_int8(TRT, network, DataType.HALF, SIZE, pinned) == 3 + len(first) + len(last)
    half, full = DataType.HALF, DataType.FLOAT
    assert [one.precision for one in network.layers[2:-3]] == [None, half, full, half, half, None, None]
    assert all(one.precision is half for one in (*first, *last))


# The shipped student.

KINDS = {
    "Add": LayerType.ELEMENTWISE,
    "Clip": LayerType.ACTIVATION,
    "Concat": LayerType.CONCATENATION,
    "Conv": LayerType.CONVOLUTION,
    "Div": LayerType.ELEMENTWISE,
    "Erf": LayerType.UNARY,
    "LeakyRelu": LayerType.ACTIVATION,
    "MatMul": LayerType.MATRIX_MULTIPLY,
    "Max": LayerType.ELEMENTWISE,
    "Mul": LayerType.ELEMENTWISE,
    "Reciprocal": LayerType.UNARY,
    "ReduceMean": LayerType.REDUCE,
    "ReduceSum": LayerType.REDUCE,
    "Relu": LayerType.ACTIVATION,
    "Shape": LayerType.SHAPE,
    "Sigmoid": LayerType.ACTIVATION,
    "Softmax": LayerType.SOFTMAX,
    "Sqrt": LayerType.UNARY,
    "Sub": LayerType.ELEMENTWISE,
}


STUDENT_SIZE = (80, 64)  # over which a sum is long


def student_layers(name: str) -> List[Layer]:
    """The nodes of a shipped ONNX as stand-ins, with the shapes that running it at STUDENT_SIZE gives."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    np = pytest.importorskip("numpy")
    model = onnx.load(str(find_model(name)))
    nodes = [node for node in model.graph.node if node.op_type not in ("Constant", "Identity")]
    outputs = [node.output[0] for node in nodes]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    plane = np.full((1, 1, *STUDENT_SIZE), 0.5, np.float32)
    found = dict(zip(outputs, session.run(outputs, {"infrared": plane, "visible": plane})))
    found.update({"infrared": plane, "visible": plane})
    found.update((tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in model.graph.initializer)
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity":
            found[node.output[0]] = found[node.input[0]]

    def tensor(name: str) -> Tensor:
        dtype = DataType.FLOAT if found[name].dtype == np.float32 else DataType.INT32
        return Tensor(found[name].shape, dtype, name=name)

    return [
        Layer(
            node.op_type,
            KINDS.get(node.op_type, LayerType.SHUFFLE),
            # What a reduction has beside its first input is an attribute in TensorRT.
            [tensor(name) for name in (node.input[:1] if node.op_type.startswith("Reduce") else node.input) if name],
            tensor(node.output[0]),
        )
        for node in nodes
    ]


@pytest.mark.parametrize(("name", "stride"), [("student", 1), ("fast", 2)])
def test_the_shipped_students(name: str, stride: int) -> None:
    layers = student_layers(name)
    pinned = pin_to_fp32(TRT, Network(*layers), STUDENT_SIZE, len(layers))
    assert len(pinned) > 20
    assert [layers[index].name for index in sorted(pinned)].count("Softmax") == 4
    products = {one.output.name for one in layers if one.name == "MatMul"}
    for index, one in enumerate(layers):
        elements = [math.prod(tensor.shape) for tensor in (*one.inputs, one.output)]
        is_long = one.type is LayerType.REDUCE and elements[0] > 4096 * elements[-1]
        if index in pinned:
            of_product = one.name == "ReduceMean" and one.inputs[0].name in products
            assert is_long or of_product or max(elements) <= 2 * math.prod(STUDENT_SIZE), f"{one.name} is of a full one"
        elif one.name in ("Softmax", "ReduceSum", "ReduceMean"):
            assert max(elements) > 2 * math.prod(STUDENT_SIZE), f"{one.name} is small"
            assert not is_long
    spared = [one for one in layers if one.name in ("Sqrt", "Reciprocal") and one.precision is None]
    assert [one.name for one in spared] == ["Sqrt", "Reciprocal"] * 8  # of the LayerNorms, not of the attentions
    assert {one.output.shape for one in spared} == {(1, 1, *(side // stride for side in STUDENT_SIZE))}
    assert not {"MatMul", "Reshape", "Transpose", "Shape", "Resize"} & {layers[index].name for index in pinned}
    assert [layers[index].name for index in pinned].count("Conv") == 6  # of squeeze-excite
    sigmoids = [one.precision for one in layers if one.name == "Sigmoid"]
    assert sigmoids == [None] * 3 + [DataType.FLOAT]  # of squeeze-excite, and the network's last


@pytest.mark.parametrize("name", NAMES)
def test_of_the_shipped_students_only_moves_of_small_tensors_are_free_in_fp16(name: str) -> None:
    layers = student_layers(name)
    pinned = pin_to_fp32(TRT, Network(*layers), STUDENT_SIZE, len(layers))
    hold_large_to(TRT, Network(*layers), DataType.HALF, STUDENT_SIZE, pinned)
    free = [one for one in layers if one.precision is None and one.output.dtype is DataType.FLOAT]
    spared = {"Add", "Sqrt", "Reciprocal", "Sigmoid", "Mul"}  # of the LayerNorms and of squeeze-excite
    assert {one.name for one in free} - spared <= {"Slice", "Concat", "Transpose", "Squeeze", "Unsqueeze", "Reshape"}
    for one in free:
        assert max(math.prod(tensor.shape) for tensor in (*one.inputs, one.output)) <= 2 * math.prod(STUDENT_SIZE)
