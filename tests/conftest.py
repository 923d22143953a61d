"""What several tests share. Imports on Python 3.8 without torch."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings

# No test says how long an example may take: a busy machine takes ten times as long.
settings.register_profile("irvis", deadline=None)
settings.load_profile("irvis")

# The tests' tensors are small: PyTorch's threads would wait for each other far longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what it puts in the background with SIGINT ignored, which every program started from here would
# inherit: tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _threads_of_torch():
    """Return back the number of threads: commands that time set it, and resumed runs equal others to the bit by one."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def heeds_hang_ups():
    """As from a terminal: under nohup this process, and each that it starts, ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def wait_for():
    """A function that waits until a condition is true, far longer than a loaded machine takes."""

    def wait(condition, limit_s=60):
        end_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end_s, f"waited {limit_s} s in vain"
            time.sleep(0.002)

    return wait


def shared(variable, name, missing):
    """Return the folder that a variable names, else the one beside the checkout; skip the test where there is none."""
    folder = Path(os.environ.get(variable) or Path(__file__).parents[2] / "shared" / name)
    if not folder.is_dir():
        pytest.skip(f"no {missing} at {folder}; set {variable} to their folder")
    return folder


@pytest.fixture(scope="session")
def data():
    """The folder with the real data sets: IRVIS_DATA, else the one beside the checkout."""
    return shared("IRVIS_DATA", "data", "real data set such as TNO/")


@pytest.fixture(scope="session")
def published():
    """The folder with published weights and their check files: IRVIS_TEACHERS, else the one beside the checkout."""
    return shared("IRVIS_TEACHERS", "teachers", "published weights such as SHIP.safetensors")


@pytest.fixture(scope="session")
def gpu(tmp_path_factory):
    """The timing cache that builds share; the test is skipped unless TensorRT, pycuda and a GPU are there."""
    from irvis.runtime.errors import ModelError
    from irvis.runtime.gpu import first_gpu, import_pycuda
    from irvis.runtime.tensorrt_messages import import_tensorrt

    try:
        import_tensorrt()
        first_gpu(import_pycuda())
    except ModelError as error:
        pytest.skip(str(error))
    return tmp_path_factory.mktemp("gpu") / "timing.cache"


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory):
    """An ONNX of planes of any size with two convolutions, which TensorRT builds in seconds, the student in minutes."""
    onnx = pytest.importorskip("onnx")
    import numpy as np

    source = np.random.default_rng(0)
    weights = {"a": source.normal(0, 0.3, (8, 2, 3, 3)), "b": source.normal(0, 0.3, (1, 8, 1, 1))}
    nodes = [
        onnx.helper.make_node("Concat", ["infrared", "visible"], ["both"], axis=1),
        onnx.helper.make_node("Conv", ["both", "a"], ["deep"], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["deep"], ["positive"]),
        onnx.helper.make_node("Conv", ["positive", "b"], ["detail"]),
        onnx.helper.make_node("Add", ["detail", "visible"], ["sum"]),
        onnx.helper.make_node("Sigmoid", ["sum"], ["fused"]),
    ]
    planes = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, "height", "width"])
        for name in ("infrared", "visible", "fused")
    }
    tensors = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "small", [planes["infrared"], planes["visible"]], [planes["fused"]], tensors)
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """A folder of small generated pairs, 96x128, in ir/ and vi/."""
    from irvis.runtime.samples import write_samples

    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, 96, 128)
    return folder


@pytest.fixture
def cut_samples(samples, tmp_path):
    """A copy of ``samples`` whose last infrared image is cut off."""
    folder = shutil.copytree(samples, tmp_path / "cut")
    last = max((folder / "ir").iterdir())
    last.write_bytes(last.read_bytes()[:999])
    return folder


@pytest.fixture(scope="session")
def graphs(tmp_path_factory):
    """A random student's plain and deploy ONNX of any size."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    import numpy as np

    from irvis.export.to_onnx import export
    from irvis.student.network import Student

    torch.manual_seed(0)
    student, folder = Student().eval(), tmp_path_factory.mktemp("graphs")
    planes = tuple(np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8))
    paths = folder / "plain.onnx", folder / "deploy.onnx"
    for path in paths:
        export(student, path, None, plain=path.stem == "plain", pairs=[planes])
    return paths


@pytest.fixture
def mount(tmp_path):
    """A function that mounts a small disk, with what it is filled with, and remounts it with options."""
    place = tmp_path / "disk"
    place.mkdir()

    def run(options):
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
        if made.returncode:
            pytest.skip("only root may mount a disk")
        return place

    yield run
    subprocess.run(["umount", "-l", place], capture_output=True)
