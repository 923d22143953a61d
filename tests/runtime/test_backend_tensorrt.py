"""The TensorRT backend: without a GPU its errors; with one (``-m gpu``) the shipped student against ONNX Runtime."""

import contextlib
import ctypes
import dataclasses
import hashlib
import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List, Tuple

import numpy as np
import pytest

from irvis.export.build_options import BuildOptions
from irvis.export.engine import build_engine
from irvis.runtime import backend_tensorrt
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.backend_tensorrt import TensorRTBackend
from irvis.runtime.errors import FileError, FrameError, IrvisError, ModelError
from irvis.runtime.frames import recolour, split_luminance, to_unit
from irvis.runtime.fuser import Fuser
from irvis.runtime.gpu import first_gpu
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL
from irvis.runtime.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar
from irvis.runtime.work import Work

SIZE = (48, 64)
# Not these, so that the tests need neither cuBLAS nor cuDNN, each larger than all the rest.
SOURCES = ("-CUBLAS", "-CUBLAS_LT", "-CUDNN")
PLANE = {"shape": [1, 1, *SIZE], "dtype": "float32"}


def describe(content: bytes) -> Sidecar:
    return Sidecar(
        engine_sha256=hashlib.sha256(content).hexdigest(),
        onnx_sha256="0" * 64,
        onnx_name="student.onnx",
        tensorrt_version="8.5.2.2",
        gpu_name="Xavier",
        compute_capability="7.2",
        precision="fp16",
        inputs={"infrared": PLANE, "visible": PLANE},
        outputs={"fused": PLANE},
        size=SIZE,
        build_options={},
        build_seconds=1.0,
        measured_error=None,
        irvis_version="0.1.0",
    )


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A file with a valid sidecar; what it holds is nothing that TensorRT would load."""
    path = tmp_path / "student.engine"
    path.write_bytes(b"engine")
    write_sidecar(path, describe(b"engine"))
    return path


def error_of(path: Path) -> IrvisError:
    with pytest.raises(IrvisError) as caught:
        TensorRTBackend(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_missing_engine(tmp_path: Path) -> None:
    error = error_of(tmp_path / "student.engine")
    assert isinstance(error, FileError)
    assert "engine not found" in str(error)


def test_missing_sidecar(fake: Path) -> None:
    sidecar_path(fake).unlink()
    error = error_of(fake)
    assert isinstance(error, FileError)
    assert "sidecar not found" in str(error)
    assert "build_engine.py" in str(error)


def test_corrupt_engine_is_found_before_tensorrt_is_asked(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    fake.write_bytes(b"engin")
    error = error_of(fake)
    assert isinstance(error, ModelError)
    assert "engine is corrupt or was replaced" in str(error)


def test_without_tensorrt(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # Python's own way of saying that an import fails
    error = error_of(fake)
    assert isinstance(error, ModelError)
    assert "sudo apt install python3-libnvinfer" in str(error)
    assert "--system-site-packages" in str(error)


def test_without_pycuda(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT is asked for first, and is not installed")
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert "irvis[jetson]" in str(error_of(fake))


class StandInGpu:
    """What a Xavier would say of itself."""

    name, compute_capability = "Xavier", "7.2"

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        yield

    def release(self) -> None:
        pass


@pytest.fixture
def loads(fake: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same on a Xavier on which it loads, as far as the file and its sidecar are concerned."""

    def load(backend: TensorRTBackend, *_: object) -> None:
        backend.size = SIZE

    monkeypatch.setattr(backend_tensorrt, "import_tensorrt", lambda: SimpleNamespace(__version__="8.5.2.2"))
    monkeypatch.setattr(backend_tensorrt, "Gpu", StandInGpu)
    monkeypatch.setattr(TensorRTBackend, "_load", load)
    return fake


def test_an_engine_that_was_not_accepted_is_one_warning(loads: Path, caplog: pytest.LogCaptureFixture) -> None:
    for accepted in (None, True):
        write_sidecar(loads, dataclasses.replace(describe(b"engine"), accepted=accepted))
        with TensorRTBackend(loads) as backend:
            assert backend.name == "TensorRT 8.5.2.2, FP16, Xavier"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    error = {"worst_psnr_db": 38.24}
    write_sidecar(loads, dataclasses.replace(describe(b"engine"), accepted=False, measured_error=error))
    with TensorRTBackend(loads) as backend:
        assert backend.name == "TensorRT 8.5.2.2, FP16 and not accepted, Xavier"
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert record.getMessage() == (
        f"{loads} is 38.2 dB from its ONNX at worst, too inexact for FP16: built with --force"
    )


def test_an_engine_of_another_gpu_is_refused_before_it_is_loaded(loads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRTBackend, "_load", lambda *_: pytest.fail("it was loaded"))
    write_sidecar(loads, dataclasses.replace(describe(b"engine"), gpu_name="Orin"))
    assert "the engine was built with TensorRT 8.5.2.2 on Orin" in str(error_of(loads))


def test_a_fork_is_refused_the_engine(loads: Path, in_a_fork: Callable[[Callable[[], object]], str]) -> None:
    backend = TensorRTBackend(loads)
    for use in (lambda: backend.run(np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)), backend.close):
        assert "this engine was opened in process" in in_a_fork(use)
    assert "CUDA does not survive a fork" in in_a_fork(lambda: Fuser(backend).infer(Work()))
    backend.close()  # here it is as it was


def test_a_fork_of_a_process_that_used_cuda_is_refused_it(in_a_fork: Callable[[Callable[[], object]], str]) -> None:
    cuda = SimpleNamespace(init=lambda: None, Device=lambda number: number, Error=RuntimeError)
    assert first_gpu(cuda) == 0
    assert "CUDA was opened in process" in in_a_fork(lambda: first_gpu(cuda))


def test_frames_of_another_size_say_how_this_engine_is_rebuilt(loads: Path) -> None:
    options = {"arguments": ["--int8", "--calibrate", "my pairs"]}
    write_sidecar(loads, dataclasses.replace(describe(b"engine"), build_options=options))
    with Fuser(loads) as fuser, pytest.raises(FrameError, match=r"are 60x80, student\.engine takes 48x64") as caught:
        fuser(*make_scene("street", 60, 80))
    assert "`build_engine.py student.onnx --int8 --calibrate 'my pairs' --size 60x80`" in str(caught.value)


# What follows needs a GPU.


def build(folder: Path, precision: str, timings: Path, frames: bool = False) -> Path:
    path = folder / f"{precision}.engine"
    build_engine(SHIPPED_MODEL, path, BuildOptions(precision, SIZE, 512, timings, SOURCES, frames))
    return path


@pytest.fixture(scope="module")
def engine(gpu: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped student in FP32 at a small size, taking planes."""
    return build(tmp_path_factory.mktemp("fp32"), "fp32", gpu)


@pytest.fixture(scope="module")
def frames_engine(gpu: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, taking frames."""
    return build(tmp_path_factory.mktemp("frames"), "fp32", gpu, frames=True)


@pytest.fixture
def planes() -> Tuple[np.ndarray, np.ndarray]:
    infrared, visible = make_scene("street", *SIZE)
    both = np.empty((2, *SIZE), np.float32)
    to_unit(infrared, both[0])
    to_unit(split_luminance(visible).y, both[1])
    return both[0], both[1]


@pytest.fixture
def expected(planes: Tuple[np.ndarray, np.ndarray]) -> Iterator[np.ndarray]:
    backend = OnnxRuntimeBackend(SHIPPED_MODEL, ("CPUExecutionProvider",))
    yield backend.run(*planes)
    backend.close()


Planes = Tuple[np.ndarray, np.ndarray]


@pytest.mark.gpu
def test_fp32_engine_equals_onnx_runtime(engine: Path, planes: Planes, expected: np.ndarray) -> None:
    with TensorRTBackend(engine) as backend:
        assert backend.size == SIZE
        assert "FP32" in backend.name
        fused = backend.run(*planes)
        assert fused.shape == SIZE
        assert fused.dtype == np.float32
        np.testing.assert_allclose(fused, expected, atol=1e-4)


@pytest.mark.gpu
def test_the_build_leaves_an_engine_and_its_sidecar(engine: Path) -> None:
    assert sorted(path.name for path in engine.parent.iterdir()) == ["fp32.engine", "fp32.engine.json"]
    sidecar = read_sidecar(engine)
    assert sidecar.size == SIZE
    assert sidecar.inputs == {"infrared": PLANE, "visible": PLANE}
    assert sidecar.outputs == {"fused": PLANE}
    assert sidecar.onnx_name == SHIPPED_MODEL.stem
    assert sidecar.build_options["workspace_mib"] == 512
    assert not set(sidecar.build_options["tactic_sources"]) & {"CUBLAS", "CUBLAS_LT", "CUDNN"}
    assert sidecar.measured_error is not None
    assert sidecar.measured_error["max_abs"] < 1e-4


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_a_timing_cache_is_kept_and_used_again(small_onnx: Path, tmp_path: Path) -> None:
    said: List[str] = []
    cache = tmp_path / "timing.cache"
    options = BuildOptions("fp32", (16, 16), 512, cache, SOURCES)
    build_engine(small_onnx, tmp_path / "a.engine", options, said.append)
    assert cache.stat().st_size > 0
    build_engine(small_onnx, tmp_path / "a.engine", options, said.append)
    assert not [line for line in said if "timing cache" in line]
    cache.write_bytes(b"rubbish")
    build_engine(small_onnx, tmp_path / "a.engine", options, said.append)
    assert [line for line in said if "timing cache" in line]
    assert cache.read_bytes() != b"rubbish"


@pytest.mark.gpu
def test_opened_closed_and_opened_again(engine: Path, planes: Planes, expected: np.ndarray) -> None:
    for _ in range(3):
        backend = TensorRTBackend(engine)
        np.testing.assert_allclose(backend.run(*planes), expected, atol=1e-4)
        backend.close()
        backend.close()
        with pytest.raises(ModelError, match="closed"):
            backend.run(*planes)


def current_context() -> Any:
    context = ctypes.c_void_p()
    assert ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(context)) == 0
    return context.value


@pytest.mark.gpu
def test_the_threads_cuda_context_is_left_as_it_was(engine: Path, planes: Planes) -> None:
    before = current_context()
    backend = TensorRTBackend(engine)
    after_opening = current_context()
    backend.run(*planes)
    after_run = current_context()
    backend.close()
    assert after_run == after_opening
    # TensorRT's own CUDA runtime may have made the primary context current; nothing of ours may come on top of it.
    assert current_context() in (before, after_opening)


@pytest.mark.gpu
def test_two_at_once(engine: Path, planes: Planes, expected: np.ndarray) -> None:
    infrared, visible = planes
    with TensorRTBackend(engine) as one, TensorRTBackend(engine) as other:
        swapped = other.run(visible, infrared).copy()
        np.testing.assert_allclose(one.run(infrared, visible), expected, atol=1e-4)
        np.testing.assert_allclose(other.run(visible, infrared), swapped, atol=1e-6)
        assert np.abs(swapped - expected).max() > 1e-3
        one.close()
        np.testing.assert_allclose(other.run(infrared, visible), expected, atol=1e-4)


@pytest.mark.gpu
def test_times(engine: Path, planes: Planes) -> None:
    with TensorRTBackend(engine) as backend:
        assert (backend.h2d_ms, backend.compute_ms, backend.d2h_ms) == (None, None, None)
        backend.run(*planes)
        assert backend.compute_ms is not None
        assert 0 < backend.compute_ms < 1000
        assert (backend.h2d_ms is None) == (backend.d2h_ms is None)
        assert backend.h2d_ms is None or backend.h2d_ms >= 0


@pytest.mark.gpu
def test_frames_of_another_shape_or_type(engine: Path, planes: Planes) -> None:
    infrared, visible = planes
    with TensorRTBackend(engine) as backend:
        with pytest.raises(FrameError, match="visible must be float32"):
            backend.run(infrared, visible[:-1])
        with pytest.raises(FrameError, match="infrared must be float32"):
            backend.run(infrared.astype(np.float64), visible)


@pytest.mark.gpu
def test_another_thread_is_refused(engine: Path, planes: Planes) -> None:
    with TensorRTBackend(engine) as backend:
        errors: List[BaseException] = []

        def use() -> None:
            for call in (lambda: backend.run(*planes), backend.close):
                try:
                    call()
                except ModelError as error:
                    errors.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert ["thread" in str(error) for error in errors] == [True, True]
        assert backend.run(*planes).shape == SIZE


@pytest.mark.gpu
def test_an_engine_of_another_machine(engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.engine"
    path.write_bytes(engine.read_bytes())
    own = read_sidecar(engine)
    write_sidecar(path, dataclasses.replace(own, gpu_name="a GPU of old", tensorrt_version="7.1"))
    message = str(error_of(path))
    assert all(side in message for side in ("a GPU of old", "7.1", own.gpu_name, own.tensorrt_version))


@pytest.mark.gpu
def test_what_tensorrt_refuses_frees_all(engine: Path, tmp_path: Path, planes: Planes) -> None:
    path = tmp_path / "student.engine"
    path.write_bytes(b"engine" * 1000)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_sidecar(path, dataclasses.replace(read_sidecar(engine), engine_sha256=digest))
    for _ in range(3):
        assert "cannot load" in str(error_of(path))
    with TensorRTBackend(engine) as backend:
        assert backend.run(*planes).shape == SIZE


# Engines that take frames.


@pytest.fixture(scope="module")
def host() -> Iterator[Fuser]:
    """The ONNX of planes with pre- and post-processing on the host: what a frames engine is compared with."""
    with Fuser(SHIPPED_MODEL, providers=["CPUExecutionProvider"], infrared_smoothing=0) as fuser:
        yield fuser


def random_frames(seed: int, size: Tuple[int, int] = SIZE) -> Planes:
    source = np.random.default_rng(seed)
    return source.integers(0, 256, size, np.uint8), source.integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.gpu
def test_a_frames_engine_equals_the_host_within_a_grey_level(frames_engine: Path, host: Fuser) -> None:
    with TensorRTBackend(frames_engine) as backend:
        assert (backend.size, backend.takes_frames) == (SIZE, True)
        for infrared, visible in (make_scene("street", *SIZE), make_scene("smoke", *SIZE), random_frames(0)):
            fused = backend.run(infrared, visible)
            assert (fused.dtype, fused.shape) == (np.uint8, visible.shape)
            difference = np.abs(fused.astype(int) - host(infrared, visible))
            assert difference.max() <= 1
            assert (difference == 0).mean() > 0.99


@pytest.mark.gpu
def test_an_fp16_frames_engine_has_exact_colours(gpu: Path, tmp_path: Path, host: Fuser) -> None:
    infrared, visible = random_frames(1)
    luminance = split_luminance(visible)
    with TensorRTBackend(build(tmp_path, "fp16", gpu, frames=True)) as backend:
        # The network sees the same planes both times, if and only if the engine's Y is exact in spite of FP16.
        y_fused = backend.run(infrared, np.dstack([luminance.y] * 3))[:, :, 0].copy()
        fused = backend.run(infrared, visible)
        np.testing.assert_array_equal(fused, recolour(y_fused, luminance))
    assert np.abs(fused.astype(int) - host(infrared, visible)).mean() < 1


@pytest.mark.gpu
def test_the_fuser_with_a_frames_engine(frames_engine: Path, host: Fuser) -> None:
    infrared, visible = make_scene("street", *SIZE)
    grey = np.ascontiguousarray(visible[:, :, 1])
    counts = 7000 + 3 * infrared.astype(np.uint16)
    larger = make_scene("street", 2 * SIZE[0], 2 * SIZE[1])
    with Fuser(frames_engine, resize=True, infrared_smoothing=0) as fuser:
        for frames, levels in (((infrared, visible), 1), ((infrared, grey), 1), ((counts, visible), 2)):
            fused = fuser(*frames)
            assert fused.shape == frames[1].shape
            assert np.abs(fused.astype(int) - host(*frames)).max() <= levels
        assert fuser(*larger).shape == larger[1].shape
        first = fuser(infrared, visible)
        kept = first.copy()
        fuser(255 - infrared, visible)
        np.testing.assert_array_equal(first, kept)  # it is the caller's, not the engine's buffer


@pytest.mark.gpu
def test_a_frames_engine_takes_no_other_frames(frames_engine: Path, planes: Planes) -> None:
    infrared, visible = make_scene("street", *SIZE)
    with TensorRTBackend(frames_engine) as backend:
        with pytest.raises(FrameError, match=r"visible must be uint8 \(48, 64, 3\). Got uint8 \(48, 64\)"):
            backend.run(infrared, visible[:, :, 0])
        with pytest.raises(FrameError, match="infrared must be uint8"):
            backend.run(planes[0], visible)
