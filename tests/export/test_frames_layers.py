"""The frames' layers, call by call: what they compute, not how TensorRT computes it.

A network that records what is added to it, and a small interpreter that evaluates it in float32 with numpy, stand in
for TensorRT, whose objects cannot be made without a GPU. So this checks the arithmetic, the rewiring, the types and the
names; that TensorRT takes it, and computes the same, is for the tests marked ``gpu`` (tests/runtime).
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.export.frames_layers import add_frames
from irvis.runtime.frames import join_luminance, split_luminance, to_unit

SIZE = (16, 20)


def members(*names):
    return SimpleNamespace(**{name: name for name in names})


TRT = SimpleNamespace(
    uint8=np.uint8,
    float32=np.float32,
    ElementWiseOperation=members("PROD", "SUM", "SUB", "DIV"),
    ReduceOperation=members("SUM"),
    UnaryOperation=members("FLOOR", "ROUND"),
    ActivationType=members("CLIP"),
)
COMPUTE = {
    "PROD": np.multiply,
    "SUM": np.add,
    "SUB": np.subtract,
    "DIV": np.divide,
    "FLOOR": np.floor,
    "ROUND": np.rint,
}


class Tensor:
    def __init__(self, name, source=None, dtype=np.float32):
        self.name, self.source, self.dtype = name, source, dtype


class Layer:
    """One call: what it computes from the values of its inputs, and the type of its result."""

    def __init__(self, compute, *inputs):
        self.name, self.compute, self.inputs, self.dtype = "", compute, list(inputs), np.float32
        self.num_inputs = len(inputs)
        self.output = Tensor("", self)

    def get_input(self, index):
        return self.inputs[index]

    def set_input(self, index, tensor):
        self.inputs[index] = tensor

    def get_output(self, index):
        assert index == 0
        return self.output

    def set_output_type(self, index, dtype):
        assert index == 0
        self.dtype = self.output.dtype = dtype


class Network:
    """Records what is added, and checks the rules of the documentation: ranks that match, known types."""

    def __init__(self):
        self.layers, self.inputs, self.outputs = [], [], []

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))

    def get_layer(self, index):
        return self.layers[index]

    def get_input(self, index):
        return self.inputs[index]

    def get_output(self, index):
        return self.outputs[index]

    def _add(self, compute, *inputs):
        self.layers.append(Layer(compute, *inputs))
        return self.layers[-1]

    def add_input(self, name, dtype, shape):
        assert name not in [tensor.name for tensor in self.inputs]
        tensor = Tensor(name, dtype=dtype)
        tensor.shape = shape
        self.inputs.append(tensor)
        return tensor

    def remove_tensor(self, tensor):
        assert not any(tensor in layer.inputs for layer in self.layers), "illegal: a layer reads it"
        self.inputs.remove(tensor)

    def mark_output(self, tensor):
        tensor.dtype = np.float32  # as it is said to be
        self.outputs.append(tensor)

    def unmark_output(self, tensor):
        self.outputs.remove(tensor)

    def add_constant(self, shape, weights):
        assert (weights.dtype, weights.shape) == (np.float32, shape)
        return self._add(lambda: weights)

    def add_identity(self, tensor):
        layer = self._add(None, tensor)

        def cast(values):
            if layer.dtype == np.uint8:
                assert values.dtype == np.float32
                assert ((values >= 0) & (values < 256) & (values == np.trunc(values))).all()
            return values.astype(layer.dtype)

        layer.compute = cast
        return layer

    def add_elementwise(self, first, second, operation):
        def combine(one, other):
            assert one.ndim == other.ndim
            return COMPUTE[operation](one, other)

        return self._add(combine, first, second)

    def add_reduce(self, tensor, operation, axes, keep_dims):
        assert operation == "SUM"

        def total(values):
            dims = tuple(axis for axis in range(values.ndim) if axes >> axis & 1)
            return values.sum(axis=dims, keepdims=keep_dims, dtype=np.float32)

        return self._add(total, tensor)

    def add_unary(self, tensor, operation):
        return self._add(COMPUTE[operation], tensor)

    def add_activation(self, tensor, kind):
        assert kind == "CLIP"
        layer = self._add(None, tensor)
        layer.compute = lambda values: np.clip(values, np.float32(layer.alpha), np.float32(layer.beta))
        return layer

    def add_shuffle(self, tensor):
        layer = self._add(None, tensor)
        layer.compute = lambda values: values.reshape(layer.reshape_dims)
        return layer

    def evaluate(self, tensor, feeds):
        if tensor.source is None:
            values = feeds[tensor.name]
            assert (values.dtype, values.shape) == (tensor.dtype, tensor.shape)
            return values
        layer = tensor.source
        values = layer.compute(*(self.evaluate(other, feeds) for other in layer.inputs if other is not None))
        assert values.dtype == layer.dtype, f"{layer.name} computes in {values.dtype}"
        return values


def fuse_planes(infrared, visible):
    """Stand in for the student: uneven, and at times outside of [0, 1]."""
    return (np.float32(1.7) * infrared - np.float32(0.4) * visible * visible).astype(np.float32)


def planes_network(size=SIZE):
    network = Network()
    first, second = (network.add_input(name, np.float32, (1, 1, *size)) for name in ("visible", "infrared"))
    # Two layers read each input, and one has an input that is not given, as a Resize without its sizes.
    scaled = network._add(lambda plane: plane * np.float32(1), first, None)
    fused = network._add(lambda y, again, x: fuse_planes(x, (y + again) / 2), first, scaled.output, second)
    fused.output.name = "fused"
    network.mark_output(fused.output)
    return network


def on_the_host(infrared, visible):
    planes = np.empty((2, *infrared.shape), np.float32)
    luminance = split_luminance(visible)
    to_unit(infrared, planes[0])
    to_unit(luminance.y, planes[1])
    return join_luminance(fuse_planes(*planes), luminance)


@pytest.fixture(scope="module")
def network():
    network = planes_network()
    network.parsed = network.num_layers
    add_frames(TRT, network, SIZE)
    return network


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_the_calls_compute_what_the_host_does_to_the_bit(network, seed):
    source = np.random.default_rng(seed)
    infrared = source.integers(0, 256, SIZE, np.uint8)
    visible = source.integers(0, 256, (*SIZE, 3), np.uint8)
    fused = network.evaluate(network.get_output(0), {"infrared": infrared, "visible": visible})
    assert fused.dtype == np.uint8
    np.testing.assert_array_equal(fused, on_the_host(infrared, visible))


def test_luminance_is_opencvs_for_colours_at_the_edge_of_rounding(network):
    # Of these Y + 1/2 is a whole number, or 2^-14 from one, where a float that is not exact would fall on either side.
    blue, green, red = np.meshgrid(*[np.arange(256)] * 3, indexing="ij")
    rest = (1868 * blue + 9617 * green + 4899 * red + 8192) % 16384
    edge = np.stack([side[np.isin(rest, (0, 1, 16383))] for side in (blue, green, red)], axis=-1).astype(np.uint8)
    edge = edge[: len(edge) // 320 * 320].reshape(-1, *SIZE, 3)
    assert len(edge) > 3
    for visible in edge:
        infrared = np.zeros(SIZE, np.uint8)
        fused = network.evaluate(network.get_output(0), {"infrared": infrared, "visible": visible})
        np.testing.assert_array_equal(fused, on_the_host(infrared, visible))


def test_the_network_takes_and_gives_frames_alone(network):
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in network.inputs] == [
        ("infrared", np.uint8, SIZE),
        ("visible", np.uint8, (*SIZE, 3)),
    ]
    (fused,) = network.outputs
    assert (fused.name, fused.dtype) == ("fused", np.uint8)


def test_the_layers_have_names_for_a_profile(network):
    names = [layer.name for layer in network.layers[network.parsed :] if layer.name]
    assert len(set(names)) == len(names) > 10
    assert all(name.startswith("frames: ") for name in names)


def test_casts_and_reshapes_meet_nothing_that_fp16_would_change(network):
    others = [layer for layer in network.layers if "to uint8" in layer.name or "to float32" in layer.name]
    others += [layer for layer in network.layers if hasattr(layer, "reshape_dims")]
    assert len(others) == 3 + 3
    source = np.random.default_rng(0)
    infrared, visible = source.integers(0, 256, SIZE, np.uint8), source.integers(0, 256, (*SIZE, 3), np.uint8)
    for layer in others:
        values = network.evaluate(layer.get_output(0), {"infrared": infrared, "visible": visible}).astype(np.float32)
        np.testing.assert_array_equal(values.astype(np.float16), values)


def test_versions_with_a_cast_layer_get_one(monkeypatch):
    casts = []

    def add_cast(network, tensor, dtype):
        casts.append(dtype)
        layer = network.add_identity(tensor)
        layer.set_output_type(0, dtype)
        return layer

    monkeypatch.setattr(Network, "add_cast", add_cast, raising=False)
    add_frames(TRT, planes_network(), SIZE)
    assert casts == [np.float32, np.float32, np.uint8]
