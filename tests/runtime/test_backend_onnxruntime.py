import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper

from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import ModelError
from irvis.runtime.exclusive import Birthplace

UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT


def model(path, infrared, visible, fused=None):
    """Write an ONNX that gives its visible: types and shapes of the inputs, and of the output where it differs."""
    inputs = [helper.make_tensor_value_info(*spec) for spec in (("infrared", *infrared), ("visible", *visible))]
    kind = fused or visible[0]
    node = helper.make_node("Cast", ["visible"], ["fused"], to=kind)
    output = helper.make_tensor_value_info("fused", kind, visible[1])
    graph = helper.make_graph([node], "graph", inputs, [output])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("infrared", "visible", "size", "takes_frames"),
    [
        ((UINT8, [16, 20]), (UINT8, [16, 20, 3]), (16, 20), True),
        ((UINT8, ["h", "w"]), (UINT8, ["h", "w", 3]), None, True),
        ((FLOAT, [1, 1, 16, 20]), (FLOAT, [1, 1, 16, 20]), (16, 20), False),
        ((FLOAT, [1, 1, "h", "w"]), (FLOAT, [1, 1, "h", "w"]), None, False),
    ],
    ids=["frames", "frames of any size", "planes", "planes of any size"],
)
def test_the_model_tells_what_it_takes(tmp_path, infrared, visible, size, takes_frames):
    backend = OnnxRuntimeBackend(model(tmp_path / "m.onnx", infrared, visible), ("CPUExecutionProvider",), 1)
    assert (backend.size, backend.takes_frames) == (size, takes_frames)
    dtype, shape = (np.uint8, (16, 20, 3)) if takes_frames else (np.float32, (16, 20))
    given = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    fused = backend.run(np.zeros((16, 20), dtype), given)
    assert fused.dtype == dtype
    np.testing.assert_array_equal(fused, given)
    backend.close()


@pytest.mark.parametrize(
    ("infrared", "visible", "fused"),
    [
        ((UINT8, [16, 20]), (UINT8, [16, 20]), UINT8),
        ((UINT8, [16, 20]), (UINT8, [16, 20, 4]), UINT8),
        ((UINT8, [16, 20]), (UINT8, [16, 20, 3]), FLOAT),
        ((FLOAT, [16, 20]), (FLOAT, [16, 20, 3]), FLOAT),
        ((UINT8, [1, 1, 16, 20]), (UINT8, [1, 1, 16, 20]), UINT8),
        ((FLOAT, [1, 1, 16, 20]), (FLOAT, [1, 1, 16, 20]), TensorProto.FLOAT16),
        ((FLOAT, [1, 1, 16, 20]), (UINT8, [16, 20, 3]), UINT8),
    ],
)
def test_other_signatures_are_refused_with_what_came(tmp_path, infrared, visible, fused):
    path = model(tmp_path / "m.onnx", infrared, visible, fused)
    with pytest.raises(ModelError, match=r"m\.onnx must take and give either planes.*Got infrared tensor") as caught:
        OnnxRuntimeBackend(path, ("CPUExecutionProvider",))
    assert "\n" not in str(caught.value)


def test_other_names_are_refused(tmp_path):
    value = helper.make_tensor_value_info("x", FLOAT, [1]), helper.make_tensor_value_info("y", FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [value[0]], [value[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"not a fusion model of irvis.*Got \['x'\] and \['y'\]"):
        OnnxRuntimeBackend(tmp_path / "m.onnx")


@pytest.mark.parametrize("threads", [1, 2])
def test_in_a_fork_the_cpu_goes_on_and_a_gpu_is_refused(tmp_path, in_a_fork, threads):
    plane = (FLOAT, [1, 1, 16, 20])
    backend = OnnxRuntimeBackend(model(tmp_path / "m.onnx", plane, plane), ("CPUExecutionProvider",), threads)
    planes = np.zeros((16, 20), np.float32), np.random.default_rng(0).random((16, 20), np.float32)
    backend.run(*planes)

    def run():
        np.testing.assert_array_equal(backend.run(*planes), planes[1])

    assert in_a_fork(run) == "nothing"
    backend._birthplace = Birthplace()  # as a GPU's provider has it
    assert "this session of ONNX Runtime" in in_a_fork(run)
    run()
