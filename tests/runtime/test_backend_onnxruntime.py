import os
import shutil
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper

from irvis.runtime import backend_onnxruntime
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import ModelError
from irvis.runtime.exclusive import Birthplace
from irvis.runtime.providers import CPU
from irvis.runtime.shipped import NAMES, find_model

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
    with pytest.raises(ModelError, match=r"m\.onnx must take and return either planes.*Got infrared tensor") as caught:
        OnnxRuntimeBackend(path, ("CPUExecutionProvider",))
    assert "\n" not in str(caught.value)


def test_other_names_are_refused(tmp_path):
    value = helper.make_tensor_value_info("x", FLOAT, [1]), helper.make_tensor_value_info("y", FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [value[0]], [value[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"not a fusion model of irvis.*Got \['x'\] and \['y'\]"):
        OnnxRuntimeBackend(tmp_path / "m.onnx")


def planes_of(height, width):
    rng = np.random.default_rng(height)
    return rng.random((height, width), np.float32), rng.random((height, width), np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_any_size_is_opened_for_the_size_that_comes(name):
    backend = OnnxRuntimeBackend(find_model(name), (CPU,), 1)
    assert backend.size is None
    fused = {}
    for size in ((48, 64), (31, 17), (48, 64), (48, 64)):
        plane = backend.run(*planes_of(*size)).copy()
        assert [node.shape for node in backend._session.get_inputs()] == [[1, 1, *size]] * 2
        # Whatever came before: to the bit.
        np.testing.assert_array_equal(plane, fused.setdefault(size, plane))
        session = backend._session
        backend.run(*planes_of(*size))
        assert backend._session is session
    assert backend.size is None
    for size, plane in fused.items():
        feeds = {name: given[None, None] for name, given in zip(("infrared", "visible"), planes_of(*size))}
        np.testing.assert_allclose(plane, backend._opened.run(None, feeds)[0][0, 0], rtol=0, atol=1e-6)


def test_the_bytes_that_were_checked_are_the_ones_that_run(tmp_path, monkeypatch):
    path = shutil.copy(find_model("fast"), tmp_path / "m.onnx")
    read = Path.read_bytes

    def read_and_replace(file):
        content = read(file)
        file.write_bytes(b"another model")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    backend = OnnxRuntimeBackend(path, (CPU,), 1)
    for size in ((24, 32), (32, 24)):
        assert backend.run(*planes_of(*size)).shape == size
        assert backend._session is not backend._opened  # one for this size, made of the same bytes


def test_a_size_that_comes_after_the_file_has_gone_is_served(tmp_path):
    path = shutil.copy(find_model("fast"), tmp_path / "m.onnx")
    backend = OnnxRuntimeBackend(path, (CPU,), 1)
    path.unlink()
    for size in ((24, 32), (32, 24)):
        assert backend.run(*planes_of(*size)).shape == size


@pytest.mark.parametrize("dimensions", [("side", "side"), (None, None), ("", "w")])
def test_dimensions_that_cannot_be_told_by_name_stay_free(tmp_path, dimensions):
    plane = (FLOAT, [1, 1, *dimensions])
    backend = OnnxRuntimeBackend(model(tmp_path / "m.onnx", plane, plane), (CPU,), 1)
    for size in ((16, 20), (20, 16)):
        given = planes_of(*size)
        np.testing.assert_array_equal(backend.run(*given), given[1])


def test_one_name_for_both_sides_is_fixed_where_they_are_equal(tmp_path):
    plane = (FLOAT, [1, 1, "side", "side"])
    backend = OnnxRuntimeBackend(model(tmp_path / "m.onnx", plane, plane), (CPU,), 1)
    for size, shape in (((16, 16), [1, 1, 16, 16]), ((16, 20), [1, 1, "side", "side"])):
        given = planes_of(*size)
        np.testing.assert_array_equal(backend.run(*given), given[1])
        assert backend._session.get_inputs()[0].shape == shape


def test_a_model_that_does_not_open_for_a_size_still_runs(tmp_path):
    plane = (FLOAT, [1, 1, "h", "w"])
    backend = OnnxRuntimeBackend(model(tmp_path / "m.onnx", plane, plane), (CPU,), 1)
    backend._content = b"no model"
    given = planes_of(16, 20)
    np.testing.assert_array_equal(backend.run(*given), given[1])
    backend.close()
    with pytest.raises(ModelError, match="closed"):
        backend.run(*given)


@pytest.mark.parametrize(("present", "threads"), [(8, 3), (4, 0)])  # 0: as ONNX Runtime chooses
def test_cores_that_are_off_get_no_threads(tmp_path, monkeypatch, present, threads):
    for core in range(present):
        (tmp_path / f"cpu{core}").mkdir()
    (tmp_path / "cpufreq").mkdir()
    monkeypatch.setattr(backend_onnxruntime, "CORES", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    plane = (FLOAT, [1, 1, 16, 20])
    backend = OnnxRuntimeBackend(model(tmp_path / "m.onnx", plane, plane), (CPU,))
    assert backend._options(onnxruntime).intra_op_num_threads == threads


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
