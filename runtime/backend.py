"""The protocol of the backends that run a model, and the choice of one by the model's file suffix."""

import os
from pathlib import Path
from typing import Optional, Protocol, Sequence, Tuple

import numpy as np

from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import ENGINE_SUFFIXES
from irvis.runtime.shipped import NAMES


class Backend(Protocol):
    """Runs one fusion model. Used from one thread; owns its session, context and buffers until ``close``."""

    name: str  # the library, its version, and what it runs on
    size: Optional[Tuple[int, int]]  # (H, W) of the frames that it takes; None: any size
    takes_frames: bool  # inputs and output are uint8 frames rather than float32 planes
    h2d_ms: Optional[float]  # of the latest run; None: cannot be measured separately from compute
    compute_ms: Optional[float]
    d2h_ms: Optional[float]

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse one pair; the result is valid until the next run.

        Planes: float32 (H, W) in [0, 1] each -> fused float32 (H, W) in [0, 1].
        Frames: uint8 (H, W) and uint8 BGR (H, W, 3) -> fused uint8 BGR (H, W, 3).
        """

    def rebuild_command(self, size: Tuple[int, int]) -> str:
        """Return the command that makes this model for frames of ``size`` (H, W)."""

    def close(self) -> None:
        """Release all resources. May be called twice."""


def open_backend(
    model: Path,
    providers: Optional[Sequence[str]] = None,
    threads: Optional[int] = None,
    engine_cache: Optional[Path] = None,
    engine_size: Optional[Tuple[int, int]] = None,
) -> Backend:
    """Open a ``.onnx`` with ONNX Runtime or a ``.engine`` with TensorRT. Raises FileError, ModelError.

    A ``.onnx`` with an ``engine_cache`` and no ``providers`` is opened with TensorRT, as its engine of ``engine_size``
    (H, W) from that folder. ``providers`` and ``threads`` apply to ONNX Runtime only.
    """
    if not os.path.isfile(model):  # not model.is_file: that raises if a name is too long
        raise FileError(
            f"model not found: {model}; give a .onnx, a .engine, or one that irvis ships: {', '.join(NAMES)}"
        )
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
        f"unknown kind of model: {model}; pass a .onnx or a .engine "
        "(irvis export makes a .onnx from a checkpoint, build_engine.py a .engine from a .onnx)"
    )
