"""The one object that robot code uses: a pair of frames in, the fused frame out."""

import time
from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from irvis.runtime.backend import Backend, open_backend
from irvis.runtime.errors import FrameError, ModelError
from irvis.runtime.frames import (
    Luminance,
    check_out,
    check_pair,
    join_luminance,
    recolour,
    split_luminance,
    to_levels,
    to_unit,
)
from irvis.runtime.infrared import InfraredScaler
from irvis.runtime.sizes import format_size

SHIPPED_MODEL = Path(__file__).resolve().parent / "models" / "student.onnx"


class StageTimes(NamedTuple):
    """Where the latest call spent its time, in milliseconds; None where the backend cannot tell it apart."""

    pre_ms: float  # checks, luminance, scaling; a model that takes frames leaves little but the checks
    h2d_ms: Optional[float]  # host to device
    compute_ms: Optional[float]
    d2h_ms: Optional[float]  # device to host
    post_ms: float  # rounding, colour; the copy of the frame where the model gives one
    total_ms: float  # the whole call as its caller sees it


class Fuser:
    """Fuses pairs of frames with one model.

        with Fuser("student.engine") as fuser:
            fused = fuser(infrared, visible)

    Args:
        model: a ``.engine`` (TensorRT) or ``.onnx`` (ONNX Runtime); None is the student that irvis ships.
        resize: fuse frames of another size than the model's by resizing them there and the fused luminance back, which
            recolours the visible frame at its full size; otherwise such frames are refused.
        infrared_percentiles: limits of the scaling of 16-bit infrared, in percent. 8-bit infrared is taken as it is.
        infrared_smoothing: how slowly those limits follow the scene, in [0, 1); 0 scales each frame by itself.
        providers: execution providers of ONNX Runtime in order of preference; None takes TensorRT, CUDA, CPU.
        threads: CPU threads of ONNX Runtime; None lets it choose.
        engine_cache: a folder; runs a ``.onnx`` by its TensorRT FP16 engine from there, and builds that where there is
            none, which takes minutes, before the Fuser is there. With ``providers``, ONNX Runtime's engines go there.
        engine_size: (H, W) of that engine; None: the ONNX's own, or 480x640 where that is dynamic.

    Raises FileError and ModelError, both IrvisError, where the model cannot be opened. Use it from one thread.
    """

    def __init__(
        self,
        model: Union[str, Path, None] = None,
        *,
        resize: bool = False,
        infrared_percentiles: Tuple[float, float] = (0.5, 99.5),
        infrared_smoothing: float = 0.9,
        providers: Optional[Sequence[str]] = None,
        threads: Optional[int] = None,
        engine_cache: Union[str, Path, None] = None,
        engine_size: Optional[Tuple[int, int]] = None,
    ) -> None:
        self.model = Path(model) if model is not None else SHIPPED_MODEL
        self.resize = resize
        self.scaler = InfraredScaler(infrared_percentiles, infrared_smoothing)
        self.times: Optional[StageTimes] = None
        self._planes = np.empty((2, 0, 0), np.float32)
        cache = Path(engine_cache) if engine_cache is not None else None
        self._builds_engine = self.model.suffix == ".onnx" and cache is not None and providers is None
        self._backend: Optional[Backend] = open_backend(self.model, providers, threads, cache, engine_size)

    @property
    def backend(self) -> Backend:
        """The open backend. Raises ModelError after ``close``."""
        if self._backend is None:
            raise ModelError(f"the Fuser of {self.model} is closed; open another")
        return self._backend

    @property
    def size(self) -> Optional[Tuple[int, int]]:
        """(H, W) that the model takes, or None where it takes any."""
        return self.backend.size

    def __call__(self, infrared: np.ndarray, visible: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Fuse one registered pair.

        Args:
            infrared: uint8 or uint16 (H, W).
            visible: uint8, BGR (H, W, 3) or grey (H, W).
            out: where to write the result; None allocates it.

        Returns:
            uint8, BGR (H, W, 3), or grey (H, W) where the visible was. It is the caller's.

        Raises FrameError for frames that cannot be fused, ModelError where the backend fails.
        """
        started = time.perf_counter()
        backend = self.backend
        check_pair(infrared, visible)
        if out is not None:
            check_out(out, visible.shape)
        frame_size = infrared.shape
        size = self._model_size(frame_size, backend)
        inputs, luminance = self._prepare(infrared, visible, size)
        prepared = time.perf_counter()
        fused = backend.run(*inputs)
        ran = time.perf_counter()
        result = self._finish(fused, luminance, frame_size, out)
        ended = time.perf_counter()
        self.times = StageTimes(
            (prepared - started) * 1e3,
            backend.h2d_ms,
            backend.compute_ms,
            backend.d2h_ms,
            (ended - ran) * 1e3,
            (ended - started) * 1e3,
        )
        return result

    def reset(self) -> None:
        """Forget what was learnt from earlier frames (the limits of 16-bit infrared), as at a cut."""
        self.scaler.reset()

    def close(self) -> None:
        """Give back the model, its memory and its device. May be called twice."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> "Fuser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _model_size(self, frame_size: Tuple[int, ...], backend: Backend) -> Tuple[int, ...]:
        if backend.size is None or backend.size == frame_size:
            return frame_size
        if self.resize:
            return backend.size
        height, width = frame_size
        frame = format_size(frame_size)
        if self._builds_engine:
            rebuild = f"engine_size={(height, width)} (--engine-size {frame}) from an ONNX of that or of dynamic size"
        else:
            rebuild = f"`{backend.rebuild_command((height, width))}`"
        raise FrameError(
            f"frames are {frame}, {self.model.name} takes {format_size(backend.size)} (HEIGHTxWIDTH); "
            f"rebuild it with {rebuild}, or pass resize=True (--resize)"
        )

    def _prepare(
        self, infrared: np.ndarray, visible: np.ndarray, size: Tuple[int, ...]
    ) -> Tuple[Tuple[np.ndarray, np.ndarray], Optional[Luminance]]:
        """Give the model's inputs, and what its output recolours; None where the model gives the frame itself."""
        resizes = size != infrared.shape
        if resizes:
            infrared = _resized(infrared, size)
        takes_frames = self.backend.takes_frames
        if takes_frames and not resizes and visible.ndim == 3:
            return (self._levels(infrared), visible), None
        luminance = split_luminance(visible)
        y = _resized(luminance.y, size) if resizes else luminance.y
        if takes_frames:
            return (self._levels(infrared), cv2.cvtColor(y, cv2.COLOR_GRAY2BGR)), luminance
        return self._unit_planes(infrared, y), luminance

    def _finish(
        self, fused: np.ndarray, luminance: Optional[Luminance], size: Tuple[int, ...], out: Optional[np.ndarray]
    ) -> np.ndarray:
        """Make the caller's frame of what the model gave."""
        if luminance is None:
            if out is None:
                return fused.copy()
            np.copyto(out, fused)
            return out
        takes_frames = self.backend.takes_frames
        if takes_frames:
            fused = fused[:, :, 0]  # of three equal channels, for grey went in
        if fused.shape != size:
            fused = _resized(fused, size)
        return recolour(fused, luminance, out) if takes_frames else join_luminance(fused, luminance, out)

    def _unit_planes(self, infrared: np.ndarray, y: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Infrared and luminance as float32 (H, W) in [0, 1], in buffers that the next call overwrites."""
        if self._planes.shape[1:] != y.shape:
            self._planes = np.empty((2, *y.shape), np.float32)
        first, second = self._planes
        if infrared.dtype == np.uint16:
            self.scaler(infrared, first)
        else:
            to_unit(infrared, first)
        to_unit(y, second)
        return first, second

    def _levels(self, infrared: np.ndarray) -> np.ndarray:
        """Infrared as uint8 (H, W): itself, or 16 bits scaled and rounded."""
        if infrared.dtype == np.uint8:
            return infrared
        plane = np.empty(infrared.shape, np.float32)
        self.scaler(infrared, plane)
        return to_levels(plane)


def _resized(plane: np.ndarray, size: Tuple[int, ...]) -> np.ndarray:
    """Resize (H, W) to ``size``: averaging on the way down, so that small hot targets do not vanish."""
    shrinks = size[0] < plane.shape[0] or size[1] < plane.shape[1]
    return cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
