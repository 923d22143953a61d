"""What runs a model: one small protocol, and the choice of a backend by the file's kind."""

import os
from pathlib import Path
from typing import Optional, Protocol, Sequence, Tuple

import numpy as np

from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import ENGINE_SUFFIXES


class Backend(Protocol):
    """Runs one fusion model. Used from one thread; owns its session, context and buffers until ``close``."""

    name: str  # the library, its version, and what it runs on
    size: Optional[Tuple[int, int]]  # (H, W) of the frames that it takes; None: any
    takes_frames: bool  # frames, uint8, go in and come out, rather than planes, float32
    h2d_ms: Optional[float]  # of the latest run; None: cannot be told apart from compute
    compute_ms: Optional[float]
    d2h_ms: Optional[float]

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse one pair; what comes out is valid until the next run.

        Planes: float32 (H, W) in [0, 1] each -> fused float32 (H, W) in [0, 1].
        Frames: uint8 (H, W) and uint8 BGR (H, W, 3) -> fused uint8 BGR (H, W, 3).
        """

    def rebuild_command(self, size: Tuple[int, int]) -> str:
        """Give the command that makes this model for frames of ``size`` (H, W)."""

    def close(self) -> None:
        """Give back all that is held. May be called twice."""


def open_backend(
    model: Path,
    providers: Optional[Sequence[str]] = None,
    threads: Optional[int] = None,
    engine_cache: Optional[Path] = None,
    engine_size: Optional[Tuple[int, int]] = None,
) -> Backend:
    """Open a ``.onnx`` with ONNX Runtime, a ``.engine`` with TensorRT. Raises FileError, ModelError.

    A ``.onnx`` with an ``engine_cache`` and no ``providers`` is opened with TensorRT, by its engine of ``engine_size``
    (H, W) from that folder. ``providers`` and ``threads`` concern ONNX Runtime alone.
    """
    if not os.path.isfile(model):  # not model.is_file: that raises where a name is too long
        raise FileError(f"model not found: {model}")
    if model.suffix == ".onnx" and engine_cache is not None and providers is None:
        from irvis.runtime.engine_cache import cached_engine

        model = cached_engine(model, engine_cache, engine_size)
    if model.suffix == ".onnx":
        from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(model, providers, threads, engine_cache)
    if model.suffix in ENGINE_SUFFIXES:
        from irvis.runtime.backend_tensorrt import TensorRTBackend

        return TensorRTBackend(model)
    raise ModelError(
        f"cannot tell what kind of model this is: {model}; give a .onnx or a .engine "
        "(irvis export makes the first from a checkpoint, build_engine.py the second from that)"
    )
