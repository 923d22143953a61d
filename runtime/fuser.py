"""The one object that robot code uses: a pair of frames in, the fused frame out."""

import time
from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from irvis.runtime.backend import Backend, open_backend
from irvis.runtime.errors import FrameError, ModelError
from irvis.runtime.frames import check_out, check_pair, join_luminance, split_luminance, to_unit
from irvis.runtime.infrared import InfraredScaler

SHIPPED_MODEL = Path(__file__).resolve().parent / "models" / "student.onnx"


class StageTimes(NamedTuple):
    """Where the latest call spent its time, in milliseconds; None where the backend cannot tell it apart."""

    pre_ms: float  # checks, luminance, scaling
    h2d_ms: Optional[float]  # host to device
    compute_ms: Optional[float]
    d2h_ms: Optional[float]  # device to host
    post_ms: float  # rounding, colour
    total_ms: float  # the whole call as its caller sees it


class Fuser:
    """Fuses pairs of frames with one model.

        with Fuser("student.engine") as fuser:
            fused = fuser(infrared, visible)

    Args:
        model: a ``.engine`` (TensorRT) or ``.onnx`` (ONNX Runtime); None is the student that irvis ships.
        resize: fuse frames of another size than the model's by resizing them there and the fused luminance back;
            otherwise such frames are refused.
        infrared_percentiles: limits of the scaling of 16-bit infrared, in percent. 8-bit infrared is taken as it is.
        infrared_smoothing: how slowly those limits follow the scene, in [0, 1); 0 scales each frame by itself.
        providers: execution providers of ONNX Runtime in order of preference; None takes TensorRT, CUDA, CPU.
        threads: CPU threads of ONNX Runtime; None lets it choose.

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
    ) -> None:
        self.model = Path(model) if model is not None else SHIPPED_MODEL
        self.resize = resize
        self.scaler = InfraredScaler(infrared_percentiles, infrared_smoothing)
        self.times: Optional[StageTimes] = None
        self._planes = np.empty((2, 0, 0), np.float32)
        self._backend: Optional[Backend] = open_backend(self.model, providers, threads)

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
        y, colour = split_luminance(visible)
        if size != frame_size:
            infrared, y = _resized(infrared, size), _resized(y, size)
        planes = self._buffers(size)
        if infrared.dtype == np.uint16:
            self.scaler(infrared, planes[0])
        else:
            to_unit(infrared, planes[0])
        to_unit(y, planes[1])
        prepared = time.perf_counter()
        fused = backend.run(planes[0], planes[1])
        ran = time.perf_counter()
        if size != frame_size:
            fused = _resized(fused, frame_size)
        result = join_luminance(fused, colour, out)
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
        frame, model = ("x".join(map(str, size)) for size in (frame_size, backend.size))
        rebuild = (
            f"irvis export CHECKPOINT --size {frame}"
            if self.model.suffix == ".onnx"
            else f"build_engine.py ONNX --size {frame}"
        )
        raise FrameError(
            f"frames are {frame}, {self.model.name} takes {model} (HEIGHTxWIDTH); "
            f"rebuild it with {rebuild}, or pass resize=True (--resize)"
        )

    def _buffers(self, size: Tuple[int, ...]) -> np.ndarray:
        if self._planes.shape[1:] != size:
            self._planes = np.empty((2, *size), np.float32)
        return self._planes


def _resized(plane: np.ndarray, size: Tuple[int, ...]) -> np.ndarray:
    """Resize (H, W) to ``size``: averaging on the way down, so that small hot targets do not vanish."""
    shrinks = size[0] < plane.shape[0] or size[1] < plane.shape[1]
    return cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
