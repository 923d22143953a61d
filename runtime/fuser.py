"""The one object that robot code uses: a pair of frames in, the fused frame out."""

import time
from pathlib import Path
from typing import NoReturn, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from irvis.runtime.backend import Backend, open_backend
from irvis.runtime.buffers import Buffers
from irvis.runtime.detail import Fitted, resize_plane, restore_detail
from irvis.runtime.errors import FrameError, ModelError
from irvis.runtime.exclusive import exclusive
from irvis.runtime.frames import (
    check_kinds,
    check_out,
    check_pair,
    join_luminance,
    recolour,
    split_luminance,
    to_levels,
    to_unit,
)
from irvis.runtime.infrared import InfraredScaler
from irvis.runtime.registration.homography import Registration
from irvis.runtime.registration.warp import Warp
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import format_size
from irvis.runtime.work import StageTimes, Work


class Fuser:
    """Fuses pairs of frames with one model.

        with Fuser("student.engine") as fuser:
            fused = fuser(infrared, visible)

    Args:
        model: a ``.engine`` (TensorRT) or ``.onnx`` (ONNX Runtime), or one that irvis ships: ``"student"``, the
            default, or ``"fast"``. An open Backend is accepted too, and closed with the Fuser.
        registration: a file written by ``irvis calibrate``, or the Registration read from one: brings the infrared into
            the visible's geometry. Where the infrared sees nothing, the visible is kept. None: they are registered.
        crop: with ``registration``, fuse only the rectangle that both cameras see.
        resize: fuse frames of another size than the model's: resize them to it, and restore the detail of both to the
            result (see ``detail.restore_detail``). Otherwise such frames are rejected.
        infrared_percentiles: limits of the scaling of 16-bit infrared, in percent. 8-bit infrared is used as it is.
        infrared_smoothing: how slowly those limits follow the scene, in [0, 1); 0 scales each frame independently.
        providers: execution providers of ONNX Runtime in order of preference; None tries TensorRT, CUDA, CPU.
        threads: CPU threads of ONNX Runtime; None lets it choose.
        engine_cache: a folder: run a ``.onnx`` as a TensorRT FP16 engine from there; if there is none yet, the
            constructor builds it, which takes minutes. With ``providers``, the folder is for ONNX Runtime's engines.
        engine_size: (H, W) of that engine; None: the ONNX's own, or 480x640 if that is dynamic.

    Raises FileError or ModelError, both IrvisError, if the model cannot be opened. One thread at a time may call the
    Fuser, or any one of its stages; a second concurrent call raises ModelError, and the first still returns its result.
    An engine belongs to the thread that opened it.
    """

    def __init__(
        self,
        model: Union[str, Path, Backend, None] = None,
        *,
        registration: Union[str, Path, Registration, None] = None,
        crop: bool = False,
        resize: bool = False,
        infrared_percentiles: Tuple[float, float] = (0.5, 99.5),
        infrared_smoothing: float = 0.9,
        providers: Optional[Sequence[str]] = None,
        threads: Optional[int] = None,
        engine_cache: Union[str, Path, None] = None,
        engine_size: Optional[Tuple[int, int]] = None,
    ) -> None:
        self.resize = resize
        self.warp = _open_warp(registration, crop)
        self.scaler = InfraredScaler(infrared_percentiles, infrared_smoothing)
        self.times: Optional[StageTimes] = None
        self._work = Work()
        self._builds_engine = False
        self._backend: Optional[Backend]
        if model is not None and not isinstance(model, (str, Path)):
            if not hasattr(model, "run"):
                raise ModelError(f"model must be a path, a name or an open Backend. Got {type(model).__name__}")
            self.model, self._backend = Path(model.name), model
            return
        self.model = find_model(model)
        cache = Path(engine_cache) if engine_cache is not None else None
        if engine_size is not None and cache is None:
            raise ModelError("engine_size is for the engine that engine_cache builds: give engine_cache too")
        self._builds_engine = self.model.suffix == ".onnx" and cache is not None and providers is None
        self._backend = open_backend(self.model, providers, threads, cache, engine_size)

    @property
    def backend(self) -> Backend:
        """The open backend. Raises ModelError after ``close``."""
        if self._backend is None:
            raise ModelError(f"the Fuser of {self.model} is closed; open another")
        return self._backend

    @property
    def size(self) -> Optional[Tuple[int, int]]:
        """(H, W) that the model takes, or None if it takes any."""
        return self.backend.size

    @exclusive
    def __call__(self, infrared: np.ndarray, visible: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Fuse one pair, registered or to be registered by ``registration``.

        Args:
            infrared: uint8 or uint16 (H, W).
            visible: uint8, BGR (H, W, 3) or grey (H, W).
            out: where to write the result: ``visible`` itself, or memory apart from it; None allocates it.

        Returns:
            uint8, BGR (H, W, 3), or grey (H, W) if the visible was. The caller owns it.

        Raises FrameError for frames that cannot be fused, ModelError if the backend fails.
        """
        started = time.perf_counter()
        work = self._work
        self.prepare(infrared, visible, work)
        if out is not None:
            check_out(out, work.visible)
        self.infer(work)
        ran = time.perf_counter()
        result = self.finish(work, out)
        ended = time.perf_counter()
        self.times = StageTimes(work.pre_ms, *work.device_ms, (ended - ran) * 1e3, (ended - started) * 1e3)
        return result

    @exclusive
    def prepare(self, infrared: np.ndarray, visible: np.ndarray, work: Work) -> None:
        """First stage of a call: make the model's inputs, in ``work``. May run while another Work is in ``infer``.

        The frames must not change until ``finish``. Raises FrameError, and ModelError after ``close``.
        """
        started = time.perf_counter()
        backend, buffers = self.backend, work.buffers
        if self.warp is None:
            check_pair(infrared, visible)
        else:
            check_kinds(infrared, visible)
            visible = self.warp.crop_visible(visible)
        if infrared.dtype == np.uint16:
            # Scale before warping: OpenCV takes three times as long to warp 16 bits as float32.
            scaled = buffers("scaled", infrared.shape, np.float32)
            self.scaler(infrared, scaled)
            infrared = scaled
        if self.warp is not None:
            infrared = self.warp(infrared, buffers("registered", self.warp.size, infrared.dtype))
        work.infrared, work.visible = infrared, visible
        self._make_inputs(work, self._model_size(infrared.shape, backend), backend.takes_frames)
        work.pre_ms = (time.perf_counter() - started) * 1e3

    @exclusive
    def infer(self, work: Work) -> None:
        """Second stage: run the model, in the thread that opened the Fuser. Raises ModelError."""
        started = time.perf_counter()
        backend = self.backend
        fused = backend.run(*work.inputs)
        if work.keeps:
            kept = work.buffers("fused", fused.shape, fused.dtype)
            np.copyto(kept, fused)
            fused = kept
        work.fused = fused
        work.device_ms = (backend.h2d_ms, backend.compute_ms, backend.d2h_ms)
        work.infer_ms = (time.perf_counter() - started) * 1e3

    def finish(self, work: Work, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Third stage: turn the model's output into a frame, ``out`` or a new one. May run alongside the others.

        Needs no backend: it may be called after ``close``.
        """
        fused, luminance, visible, buffers = work.fused, work.luminance, work.visible, work.buffers
        outside = self.warp.outside if self.warp is not None else None  # where the visible is kept
        if outside is not None and out is not None and np.may_share_memory(out, visible):
            kept = buffers("visible", visible.shape, visible.dtype)
            np.copyto(kept, visible)
            visible = kept
        if luminance is None:
            result = out if out is not None else np.empty_like(fused)
            np.copyto(result, fused)
        else:
            is_frame = fused.ndim == 3
            if is_frame:
                fused = fused[:, :, 0]  # of three equal channels, because the input was grey
            if work.fitted is not None:
                result = recolour(restore_detail(fused, work.fitted, buffers), luminance, out, buffers)
            else:
                result = (recolour if is_frame else join_luminance)(fused, luminance, out, buffers)
        if outside is not None:
            cv2.copyTo(visible, outside, result)
        return result

    def reset(self) -> None:
        """Forget the state from earlier frames (the limits of 16-bit infrared), for example at a cut."""
        self.scaler.reset()

    def close(self) -> None:
        """Release the model, its memory and its device. May be called twice."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Fuser can be neither pickled nor copied: make one in each process, from its model's path")

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

    def _make_inputs(self, work: Work, size: Tuple[int, ...], takes_frames: bool) -> None:
        """Set the model's inputs, of ``size`` (H, W), and the luminance that its output replaces."""
        infrared, visible, buffers = work.infrared, work.visible, work.buffers
        resizes = size != infrared.shape
        work.luminance = work.fitted = None
        if resizes or not takes_frames or visible.ndim == 2:  # otherwise the model itself fuses the luminance
            work.luminance = split_luminance(visible, buffers)
            visible = work.luminance.y
        if resizes:
            small_infrared = resize_plane(infrared, size, buffers("fitted infrared", size, infrared.dtype))
            small_y = resize_plane(visible, size, buffers("fitted", size))
            work.fitted = Fitted(infrared, visible, small_infrared, small_y)
            infrared, visible = small_infrared, small_y
        work.inputs = (_to_frames if takes_frames else _to_planes)(infrared, visible, buffers)


def _to_frames(infrared: np.ndarray, visible: np.ndarray, buffers: Buffers) -> Tuple[np.ndarray, np.ndarray]:
    """Return them as uint8 (H, W) and BGR (H, W, 3); infrared may be float32 in [0, 1], visible grey (H, W)."""
    if infrared.dtype == np.float32:
        infrared = to_levels(infrared, buffers("levels of infrared", infrared.shape), buffers)
    if visible.ndim == 2:
        visible = cv2.cvtColor(visible, cv2.COLOR_GRAY2BGR, buffers("grey frame", (*visible.shape, 3)))
    return infrared, visible


def _to_planes(infrared: np.ndarray, y: np.ndarray, buffers: Buffers) -> Tuple[np.ndarray, np.ndarray]:
    """Return them as float32 (H, W) in [0, 1]; y is uint8, infrared may be."""
    planes = buffers("planes", (2, *y.shape), np.float32)
    to_unit(y, planes[1])
    if infrared.dtype == np.uint8:
        to_unit(infrared, planes[0])
        infrared = planes[0]
    return infrared, planes[1]


def _open_warp(registration: Union[str, Path, Registration, None], crop: bool) -> Optional[Warp]:
    if registration is None:
        if crop:
            raise FrameError("crop needs a registration, to know what both cameras see; make one with irvis calibrate")
        return None
    return Warp(registration if isinstance(registration, Registration) else Registration.load(registration), crop)
