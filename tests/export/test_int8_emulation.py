"""The emulation of INT8: against PyTorch's convolution of rounded tensors, and ONNX Runtime in FP32."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from onnx import helper, numpy_helper

from irvis.export.int8_emulation import Int8Emulation, round_weight
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import ModelError
from irvis.runtime.shipped import SHIPPED_MODEL

SIZE = (24, 32)


def pairs(size=SIZE, count=3, seed=0):
    return list(np.random.default_rng(seed).random((count, 2, *size), np.float32))


@pytest.fixture(scope="module")
def emulation():
    return Int8Emulation(SHIPPED_MODEL, SIZE, pairs)


def small_onnx(path, weight):
    """Two planes, a convolution of 3x3, the fused plane."""
    shape = [1, 1, *SIZE]
    *inputs, fused = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("infrared", "visible", "fused")
    )
    nodes = [
        helper.make_node("Concat", ["infrared", "visible"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "weight"], ["fused"], "conv", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "small", inputs, [fused], [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), str(path))
    return path


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_a_weight_keeps_255_levels_of_each_output(seed, largest):
    weight = (np.random.default_rng(seed).standard_normal((4, 3, 3, 3)) * largest).astype(np.float32)
    weight[1] = 0
    rounded = round_weight(weight)
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
    assert rounded.dtype == np.float32
    assert (np.abs(rounded - weight) <= 0.501 * step).all()
    levels = rounded / np.where(step > 0, step, 1)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert not rounded[1].any()


def test_a_convolution_sees_rounded_inputs_and_weights(tmp_path):
    weight = np.random.default_rng(1).standard_normal((1, 2, 3, 3)).astype(np.float32)
    seen = pairs()
    emulation = Int8Emulation(small_onnx(tmp_path / "small.onnx", weight), None, lambda size: seen)
    assert emulation.convolutions == ["conv"]
    assert emulation.allowed == []  # it is among the first, and among the last
    step = np.float32(max(float(pair.max()) for pair in seen) / 127)
    for pair in (*seen, 3 * seen[0]):  # the last saturates
        rounded = np.clip(np.rint(pair / step), -128, 127) * step
        wanted = torch.nn.functional.conv2d(
            torch.from_numpy(rounded)[None], torch.from_numpy(round_weight(weight)), padding=1
        )
        np.testing.assert_allclose(emulation.open(["conv"])(pair), wanted[0, 0], atol=2e-6)


def test_with_none_in_int8_it_is_the_onnx(emulation):
    (pair,) = pairs(count=1, seed=2)
    backend = OnnxRuntimeBackend(SHIPPED_MODEL, ("CPUExecutionProvider",))
    np.testing.assert_allclose(emulation.open(())(pair), backend.run(*pair), atol=2e-6)
    backend.close()


def test_what_the_builder_lets_be_int8_of_the_shipped_student(emulation):
    assert (len(emulation.convolutions), len(emulation.allowed)) == (78, 59)
    kept = set(emulation.convolutions) - set(emulation.allowed)
    assert sum("normalise" in name for name in kept) == 8
    assert sum("squeeze" in name or "excite" in name for name in kept) == 6
    assert {name for name in kept if not any(part in name for part in ("normalise", "squeeze", "excite"))} == {
        "/encoders/conv1/Conv",
        "/encoders/conv2/Conv",
        "/fusion/rstb/rstb.1/project_out/Conv",
        "/decoder/conv1/Conv",
        "/decoder/conv2/Conv",
    }


def test_int8_by_the_rule_is_nearer_than_all_in_int8(emulation):
    (pair,) = pairs(count=1, seed=3)
    wanted = emulation.open(())(pair)
    by_rule, everything = (
        float(np.square(emulation.open(chosen)(pair) - wanted).mean())
        for chosen in (emulation.allowed, emulation.convolutions)
    )
    assert 0 < by_rule < everything / 4


def test_another_onnx_is_refused(tmp_path):
    path = small_onnx(tmp_path / "small.onnx", np.ones((1, 2, 3, 3), np.float32))
    model = onnx.load(str(path))
    model.graph.input[0].name = model.graph.node[0].input[0] = "depth"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="must take infrared and visible and give fused"):
        Int8Emulation(path, None, pairs)
