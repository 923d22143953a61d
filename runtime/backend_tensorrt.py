"""TensorRT: runs an engine that build_engine.py built on this very machine. Needs tensorrt and pycuda, but not torch.

Written against the tensor-name API, which is the same from TensorRT 8.5 to 11.
"""

import contextlib
import logging
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from irvis.runtime.engine_tensors import INPUTS, OUTPUT, Signature, check_tensors
from irvis.runtime.errors import FileError, FrameError, ModelError
from irvis.runtime.exclusive import Birthplace
from irvis.runtime.gpu import Gpu, cuda_errors
from irvis.runtime.sidecar import check_machine, read_engine, read_sidecar
from irvis.runtime.tensorrt_messages import TensorRTErrors, import_tensorrt, tensorrt_logger

logger = logging.getLogger("irvis.engine")


class TensorRTBackend:
    """Runs an engine with inputs ``infrared`` and ``visible`` and output ``fused``, frames or planes.

    Frames are uint8 (H, W), (H, W, 3) and (H, W, 3), and go straight into the memory that the GPU reads; planes are
    float32 (1, 1, H, W) each.

    Belongs to the thread and the process that created it; using it in a fork raises ModelError. Raises FileError or
    ModelError if the engine or its sidecar is missing, corrupt, or from another machine.
    """

    _gpu: Optional[Gpu] = None  # for __del__, should __init__ fail early

    def __init__(self, path: Path) -> None:
        self.size: Optional[Tuple[int, int]] = None
        self.takes_frames = False
        self.h2d_ms: Optional[float] = None  # also None if memory is shared and nothing is copied
        self.compute_ms: Optional[float] = None
        self.d2h_ms: Optional[float] = None
        self._thread = threading.get_ident()
        self._birthplace = Birthplace()
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
        content = read_engine(path, sidecar)
        trt = import_tensorrt()
        try:
            self._gpu = Gpu()
            check_machine(sidecar, trt.__version__, self._gpu.name, self._gpu.compute_capability)
            self._load(trt, path, content)
        except BaseException:
            self._free()
            raise
        warning = sidecar.warning
        precision = sidecar.precision.upper() + (" and not accepted" if warning else "")
        self.name = f"TensorRT {trt.__version__}, {precision}, {self._gpu.name}"
        self._sidecar = sidecar
        logger.info("%s: %s", path, self.name)
        if warning:
            logger.warning("%s %s", path, warning)

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse one pair: uint8 (H, W), (H, W, 3) -> (H, W, 3), or planes, float32 (H, W) each, in [0, 1].

        The result is valid until the next run or ``close``.
        """
        gpu = self._open_gpu()
        for name, frame in zip(INPUTS, (infrared, visible)):
            buffer = self._host[name]
            if frame.shape != buffer.shape or frame.dtype != buffer.dtype:
                raise FrameError(f"{name} must be {buffer.dtype} {buffer.shape}. Got {frame.dtype} {frame.shape}")
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

    def rebuild_command(self, size: Tuple[int, int]) -> str:
        """Return the command that builds this engine for frames of another size (H, W)."""
        return self._sidecar.rebuild_command(size)

    def close(self) -> None:
        """Release the engine, its memory and the context. May be called twice."""
        if self._gpu is not None:
            self._open_gpu()
            self._free()

    def __enter__(self) -> "TensorRTBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # nothing can be freed from another thread; the end of the process does it
            self.close()

    def _open_gpu(self) -> Gpu:
        if self._gpu is None:
            raise ModelError("this engine is closed; open it again")
        self._birthplace.check("this engine")
        if threading.get_ident() != self._thread:
            raise ModelError("an engine belongs to the thread that opened it; open another in this thread")
        return self._gpu

    def _load(self, trt: Any, path: Path, content: bytes) -> None:
        gpu = self._open_gpu()
        with self._errors:
            try:
                # Created while our context is not current, so that TensorRT's own CUDA runtime retains the primary
                # context: releasing our reference must never destroy it.
                self._runtime = trt.Runtime(tensorrt_logger())
            except Exception as error:  # pybind11 raises TypeError for the null pointer that TensorRT returned
                raise ModelError(f"TensorRT {trt.__version__} does not start: {self._errors}") from error
            with gpu.current(), cuda_errors(gpu.cuda, f"cannot load {path}"):
                self._engine = self._runtime.deserialize_cuda_engine(content)
                if self._engine is None:
                    raise ModelError(f"TensorRT {trt.__version__} cannot load {path}: {self._errors}")
                signature = check_tensors(trt, self._engine, path)
                self.size, self.takes_frames = signature.size, signature.takes_frames
                self._context = self._engine.create_execution_context()
                if self._context is None:
                    raise ModelError(f"not enough GPU memory to run {path}: {self._errors}")
                self._allocate(gpu, signature)
                self._stream = gpu.cuda.Stream()
                self._marks = [gpu.cuda.Event() for _ in range(4)]

    def _allocate(self, gpu: Gpu, signature: Signature) -> None:
        """Allocate all buffers once, and pass their addresses to TensorRT."""
        cuda = gpu.cuda
        flags = cuda.host_alloc_flags.DEVICEMAP if gpu.shares_memory else 0
        for name, shape in signature.shapes.items():
            pinned: Any = cuda.pagelocked_empty(shape, signature.dtype, mem_flags=flags)
            self._host[name] = pinned
            if gpu.shares_memory:
                address = int(pinned.base.get_device_pointer())
            else:
                self._device[name] = cuda.mem_alloc(pinned.nbytes)
                address = int(self._device[name])
            if not self._context.set_tensor_address(name, address):
                raise ModelError(f"TensorRT refuses the buffer of {name}")

    def _free(self) -> None:
        """Free whatever was allocated; TensorRT and pycuda free an object with its last reference."""
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            with gpu.current():
                if self._stream is not None:
                    with contextlib.suppress(gpu.cuda.Error):  # after a failed run it repeats that run's error
                        self._stream.synchronize()
                self._context = self._engine = self._runtime = None
                self._host, self._device, self._marks, self._stream = {}, {}, [], None
            gpu.release()
