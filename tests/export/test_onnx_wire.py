from pathlib import Path

import pytest

from irvis.export.onnx_wire import input_shape
from irvis.runtime.fuser import SHIPPED_MODEL

SHIPPED = SHIPPED_MODEL.read_bytes()


@pytest.mark.parametrize("name", ["infrared", "visible"])
def test_what_is_dynamic_is_none(name: str) -> None:
    assert input_shape(SHIPPED, name) == [1, 1, None, None]


def test_an_input_that_is_not_there() -> None:
    assert input_shape(SHIPPED, "depth") is None


@pytest.mark.parametrize("size", [(48, 64), (480, 640)])
def test_shapes_are_those_that_onnx_reads(tmp_path: Path, size: "tuple[int, int]") -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(SHIPPED)
    for tensor in model.graph.input:
        for dimension, value in zip(tensor.type.tensor_type.shape.dim[2:], size):
            dimension.dim_value = value
    assert input_shape(model.SerializeToString(), "infrared") == [1, 1, *size]


def test_what_is_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off"):
        input_shape(SHIPPED[:-100], "infrared")
