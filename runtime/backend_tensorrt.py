"""TensorRT: runs an engine that build_engine.py made on this very machine. Needs tensorrt and pycuda, and never torch.

Written against the tensor-name API, which is the same from TensorRT 8.5 to 11.
"""

import contextlib
import ctypes
import functools
import importlib
import logging
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from irvis.runtime.errors import FileError, FrameError, ModelError, one_line
from irvis.runtime.sidecar import check_engine_file, check_machine, read_sidecar

INPUTS = ("infrared", "visible")
OUTPUT = "fused"

logger = logging.getLogger("irvis.tensorrt")
logger.addHandler(logging.NullHandler())  # what matters is raised; the rest is for programs that ask for it


def import_tensorrt() -> Any:
    """Give the module ``tensorrt``. Raises ModelError, which says where it comes from, where it is not there."""
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise ModelError(
            f"TensorRT for Python cannot be imported ({one_line(error)}): on a Jetson, `sudo apt install "
            "python3-libnvinfer` and make the virtual environment with --system-site-packages"
        ) from error


def import_pycuda() -> Any:
    """Give the module ``pycuda.driver``. Raises ModelError where it is not there."""
    try:
        return importlib.import_module("pycuda.driver")
    except (ImportError, OSError) as error:
        raise ModelError(f"pycuda cannot be imported ({one_line(error)}): pip install 'irvis[jetson]'") from error


@functools.lru_cache(maxsize=None)
def tensorrt_logger() -> Any:
    """Give the ``trt.ILogger`` that writes to Python's ``irvis.tensorrt``.

    One for the process, for TensorRT keeps the first that it is given, whatever it is given later.
    """
    trt = import_tensorrt()
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.CRITICAL,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.INFO,
        trt.ILogger.Severity.VERBOSE: logging.DEBUG,
    }

    base: Any = trt.ILogger

    class PythonLogger(base):
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            logger.log(levels.get(severity, logging.INFO), "%s", message)

    return PythonLogger()


class TensorRTErrors(logging.Handler):
    """Keeps what TensorRT logs as errors and warnings inside ``with``; its calls themselves only give None or False.

    As a text it is the first error, for the later ones follow from it, or else the last warning: TensorRT only warns
    when it finds no GPU.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: List[str] = []
        self.warnings: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one message."""
        (self.errors if record.levelno >= logging.ERROR else self.warnings).append(one_line(record.getMessage()))

    def __enter__(self) -> "TensorRTErrors":
        self.errors.clear()
        self.warnings.clear()
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logger.removeHandler(self)

    def __str__(self) -> str:
        return (self.errors[:1] or self.warnings[-1:] or ["TensorRT gave no reason"])[0]


class Gpu:
    """GPU 0 through its primary CUDA context, the one that torch, OpenCV and TensorRT itself use too.

    Belongs to the thread that made it. Raises ModelError where pycuda or a GPU is missing.

    Waiting for the GPU spins or blocks as CUDA chooses for the process: pycuda can ask for spinning only in a context
    of its own (``make_context``), for it has no cuDevicePrimaryCtxSetFlags.
    """

    def __init__(self) -> None:
        self._context: Any = None
        self.cuda = import_pycuda()
        with cuda_errors(self.cuda, "cannot use CUDA's GPU 0"):
            self.cuda.init()
            device = self.cuda.Device(0)
            self.name: str = device.name()
            self.compute_capability = "{}.{}".format(*device.compute_capability())
            attribute = self.cuda.device_attribute
            # Where CPU and GPU share their memory, the GPU reads and writes pinned host memory as its own.
            self.shares_memory = bool(
                device.get_attribute(attribute.INTEGRATED) and device.get_attribute(attribute.UNIFIED_ADDRESSING)
            )
            self._context = device.retain_primary_context()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current inside ``with``, and restore the one that was; needed by all that pycuda does."""
        self._context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def release(self) -> None:
        """Give the context back; all that was made in it must be gone. Never inside ``current()``."""
        context, self._context = self._context, None
        if context is not None:
            context.detach()
            # pycuda makes the context current to release it, and leaves it so: other than the contexts that pycuda
            # creates, CUDA does not pop a primary one by itself (seen in the sources of 2022.2 to 2026.1).
            ctypes.CDLL("libcuda.so.1").cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@contextlib.contextmanager
def cuda_errors(cuda: Any, what: str) -> Iterator[None]:
    """Turn pycuda's errors into ModelError: ``what`` failed, and why."""
    try:
        yield
    except cuda.Error as error:
        raise ModelError(f"{what}: {one_line(error)}") from error


class TensorRTBackend:
    """Runs an engine with inputs ``infrared`` and ``visible`` and output ``fused``, float32 (1, 1, H, W) each.

    Belongs to the thread that made it. Raises FileError and ModelError where the engine or its sidecar is missing,
    corrupt, or of another machine.
    """

    _gpu: Optional[Gpu] = None  # for __del__, should __init__ fail early

    def __init__(self, path: Path) -> None:
        self.size: Optional[Tuple[int, int]] = None
        self.h2d_ms: Optional[float] = None  # None too where memory is shared and nothing is copied
        self.compute_ms: Optional[float] = None
        self.d2h_ms: Optional[float] = None
        self._thread = threading.get_ident()
        self._host: Dict[str, np.ndarray] = {}
        self._device: Dict[str, Any] = {}
        self._marks: List[Any] = []
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._stream: Any = None
        self._errors = TensorRTErrors()

        if not path.is_file():
            raise FileError(f"engine not found: {path}")
        sidecar = read_sidecar(path)
        check_engine_file(path, sidecar)
        trt = import_tensorrt()
        try:
            self._gpu = Gpu()
            check_machine(sidecar, trt.__version__, self._gpu.name, self._gpu.compute_capability)
            self._load(trt, path)
        except BaseException:
            self._free()
            raise
        self.name = f"TensorRT {trt.__version__}, {sidecar.precision.upper()}, {self._gpu.name}"
        logger.info("%s: %s", path, self.name)

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """float32 (H, W) in [0, 1] each -> fused float32 (H, W), valid until the next run or ``close``."""
        gpu = self._open_gpu()
        for name, frame in zip(INPUTS, (infrared, visible)):
            if frame.shape != self.size or frame.dtype != np.float32:
                raise FrameError(f"{name} must be float32 {self.size}. Got {frame.dtype} {frame.shape}")
        started, uploaded, computed, downloaded = self._marks
        with gpu.current(), cuda_errors(gpu.cuda, "the GPU failed"), self._errors:
            np.copyto(self._host["infrared"], infrared)
            np.copyto(self._host["visible"], visible)
            started.record(self._stream)
            for name in () if gpu.shares_memory else INPUTS:
                gpu.cuda.memcpy_htod_async(self._device[name], self._host[name], self._stream)
            uploaded.record(self._stream)
            enqueued = self._context.execute_async_v3(self._stream.handle)
            computed.record(self._stream)
            if not gpu.shares_memory:
                gpu.cuda.memcpy_dtoh_async(self._host[OUTPUT], self._device[OUTPUT], self._stream)
            downloaded.record(self._stream)
            self._stream.synchronize()
            if not enqueued:
                raise ModelError(f"TensorRT cannot run the engine: {self._errors}")
            self.compute_ms = computed.time_since(uploaded)
            if not gpu.shares_memory:
                self.h2d_ms = uploaded.time_since(started)
                self.d2h_ms = downloaded.time_since(computed)
        return self._host[OUTPUT]

    def close(self) -> None:
        """Give back the engine, its memory and the context. May be called twice."""
        if self._gpu is not None:
            self._open_gpu()
            self._free()

    def __enter__(self) -> "TensorRTBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # from another thread nothing can be freed; the process's end does it
            self.close()

    def _open_gpu(self) -> Gpu:
        if self._gpu is None:
            raise ModelError("this engine is closed; open it again")
        if threading.get_ident() != self._thread:
            raise ModelError("an engine belongs to the thread that opened it; open another in this thread")
        return self._gpu

    def _load(self, trt: Any, path: Path) -> None:
        gpu = self._open_gpu()
        with self._errors:
            try:
                # With no context of ours current, so that TensorRT's own CUDA runtime takes a hold on the primary
                # context: releasing ours must never be what destroys it.
                self._runtime = trt.Runtime(tensorrt_logger())
            except Exception as error:  # pybind11 raises TypeError for the null pointer that TensorRT returned
                raise ModelError(f"TensorRT {trt.__version__} does not start: {self._errors}") from error
            with gpu.current(), cuda_errors(gpu.cuda, f"cannot load {path}"):
                self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
                if self._engine is None:
                    raise ModelError(f"TensorRT {trt.__version__} cannot load {path}: {self._errors}")
                self.size = _check_tensors(trt, self._engine, path)
                self._context = self._engine.create_execution_context()
                if self._context is None:
                    raise ModelError(f"no GPU memory to run {path} in: {self._errors}")
                self._allocate(gpu, self.size)
                self._stream = gpu.cuda.Stream()
                self._marks = [gpu.cuda.Event() for _ in range(4)]

    def _allocate(self, gpu: Gpu, size: Tuple[int, int]) -> None:
        """Allocate every buffer, once, and tell TensorRT where they are."""
        cuda = gpu.cuda
        flags = cuda.host_alloc_flags.DEVICEMAP if gpu.shares_memory else 0
        for name in (*INPUTS, OUTPUT):
            pinned: Any = cuda.pagelocked_empty(size, np.float32, mem_flags=flags)
            self._host[name] = pinned
            if gpu.shares_memory:
                address = int(pinned.base.get_device_pointer())
            else:
                self._device[name] = cuda.mem_alloc(pinned.nbytes)
                address = int(self._device[name])
            if not self._context.set_tensor_address(name, address):
                raise ModelError(f"TensorRT refuses the buffer of {name}")

    def _free(self) -> None:
        """Free all that was taken, as far as it was; TensorRT and pycuda free an object with its last reference."""
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            with gpu.current():
                if self._stream is not None:
                    with contextlib.suppress(gpu.cuda.Error):  # after a failed run it repeats that run's error
                        self._stream.synchronize()
                self._context = self._engine = self._runtime = None
                self._host, self._device, self._marks, self._stream = {}, {}, [], None
            gpu.release()


def _check_tensors(trt: Any, engine: Any, path: Path) -> Tuple[int, int]:
    """Give (H, W) of the frames. Raises ModelError where the engine takes or gives anything else than three planes."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
    fits = (
        sorted(inputs) == sorted(INPUTS)
        and sorted(names) == sorted((*INPUTS, OUTPUT))
        and all(engine.get_tensor_dtype(name) == trt.DataType.FLOAT for name in names)
        and len(set(shapes.values())) == 1
    )
    shape = shapes.get(OUTPUT, ())
    if not fits or len(shape) != 4 or shape[:2] != (1, 1) or min(shape) < 1:
        found = ", ".join(
            f"{name} ({'in' if name in inputs else 'out'}) {dtype_name(engine.get_tensor_dtype(name))} {shapes[name]}"
            for name in names
        )
        raise ModelError(
            f"{path} must take infrared and visible and give fused, each float32 (1, 1, H, W). Got {found}; "
            "build it with build_engine.py from an ONNX that `irvis export` made"
        )
    return shape[2], shape[3]


def dtype_name(dtype: Any) -> str:
    """``trt.DataType.FLOAT`` -> ``"float32"``, as numpy has it."""
    name = dtype.name.lower()
    return {"float": "float32", "half": "float16"}.get(name, name)
