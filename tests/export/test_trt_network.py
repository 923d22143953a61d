"""The size and the interface of a network: real ONNX, and stand-ins for TensorRT's tensors, which need a GPU."""

from types import SimpleNamespace
from typing import Any, Sequence

import pytest

from irvis.export.onnx_wire import input_shape
from irvis.export.trt_network import check_planes, fix_size, tensor_specs
from irvis.runtime.errors import ModelError
from irvis.runtime.shipped import SHIPPED_MODEL

SHIPPED = SHIPPED_MODEL.read_bytes()

FLOAT, UINT8 = SimpleNamespace(name="FLOAT"), SimpleNamespace(name="UINT8")
TRT = SimpleNamespace(DataType=SimpleNamespace(FLOAT=FLOAT))


class Network:
    def __init__(
        self, shape: Sequence[int], dtype: Any = FLOAT, names: Sequence[str] = ("infrared", "visible")
    ) -> None:
        self.inputs = [SimpleNamespace(name=name, shape=list(shape), dtype=dtype) for name in names]
        self.outputs = [SimpleNamespace(name="fused", shape=list(shape), dtype=FLOAT)]
        self.num_inputs, self.num_outputs = len(self.inputs), 1
        self.get_input, self.get_output = self.inputs.__getitem__, self.outputs.__getitem__


def test_a_dynamic_onnx_takes_any_size() -> None:
    for wanted, size in ((None, (480, 640)), ((64, 80), (64, 80))):
        found, model = fix_size(SHIPPED, wanted)
        assert found == size
        assert [input_shape(model, name) for name in ("infrared", "visible")] == [[1, 1, *size]] * 2


def test_a_fixed_onnx_has_its_own() -> None:
    fixed = fix_size(SHIPPED, (48, 64))[1]
    for wanted, size in ((None, (48, 64)), ((48, 64), (48, 64)), ((64, 80), (64, 80))):
        assert fix_size(fixed, wanted) == (size, fixed)
    network = Network((1, 1, 48, 64))
    check_planes(TRT, network, "a.onnx", (48, 64))
    with pytest.raises(ModelError, match="only takes infrared of 48x64, not of 64x80: make one with"):
        check_planes(TRT, network, "a.onnx", (64, 80))


def test_what_is_cut_off_is_left_to_the_parser() -> None:
    assert fix_size(SHIPPED[:-100], (48, 64)) == ((48, 64), SHIPPED[:-100])


@pytest.mark.parametrize(
    "network",
    [
        Network((1, 3, 48, 64)),
        Network((2, 1, 48, 64)),
        Network((48, 64), UINT8),
        Network((1, 1, 48, 64), UINT8),
        Network((1, 1, 48, 64), names=("infrared", "image")),
        Network((1, 1, 48, 64), names=("infrared",)),
    ],
)
def test_another_kind_of_model(network: Network) -> None:
    with pytest.raises(ModelError, match=r"a\.onnx must take infrared and visible and give fused.*`irvis export`"):
        check_planes(TRT, network, "a.onnx", (48, 64))


def test_the_output_has_the_size_of_the_frames_or_one_that_is_known_once_built() -> None:
    network = Network((1, 1, 48, 64))
    for shape in ((1, 1, 48, 64), (1, 1, -1, -1)):
        network.outputs[0].shape = shape
        check_planes(TRT, network, "a.onnx", (48, 64))
    network.outputs[0].shape = (1, 1, 24, 32)
    with pytest.raises(ModelError, match=r"a\.onnx returns \(1, 1, 24, 32\) for frames of 48x64, not their size"):
        check_planes(TRT, network, "a.onnx", (48, 64))
    network.outputs[0].name = "features"
    with pytest.raises(ModelError, match=r"must take infrared and visible and give fused"):
        check_planes(TRT, network, "a.onnx", (48, 64))
    onnx = pytest.importorskip("onnx")
    described = onnx.load_from_string(fix_size(SHIPPED, (48, 64))[1]).graph.output[0].type.tensor_type.shape
    assert [each.dim_value for each in described.dim] == [1, 1, 48, 64]


def test_the_sidecars_specs() -> None:
    inputs, outputs = tensor_specs((48, 64), frames=True)
    assert inputs == {
        "infrared": {"shape": [48, 64], "dtype": "uint8"},
        "visible": {"shape": [48, 64, 3], "dtype": "uint8"},
    }
    assert outputs == {"fused": {"shape": [48, 64, 3], "dtype": "uint8"}}
    inputs, outputs = tensor_specs((48, 64), frames=False)
    plane = {"shape": [1, 1, 48, 64], "dtype": "float32"}
    assert (inputs, outputs) == ({"infrared": plane, "visible": plane}, {"fused": plane})
