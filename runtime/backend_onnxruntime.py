"""ONNX Runtime: the default on a machine without TensorRT, and the reference that engines are compared with."""

import logging
import os
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.errors import ModelError, one_line
from irvis.runtime.exclusive import Birthplace
from irvis.runtime.files import read_bytes
from irvis.runtime.providers import CPU, FATAL, open_session
from irvis.runtime.sizes import format_size

# Type and rank of infrared and visible; fused has the same type.
PLANES = [("tensor(float)", 4), ("tensor(float)", 4)]
FRAMES = [("tensor(uint8)", 2), ("tensor(uint8)", 3)]
CORES = Path("/sys/devices/system/cpu")  # one folder per core, online or offline

logger = logging.getLogger("irvis.onnxruntime")


class OnnxRuntimeBackend:
    """Runs an ONNX with inputs ``infrared`` and ``visible`` and output ``fused``, planes or frames.

    Planes are float32 (1, 1, H, W) each; frames are uint8 (H, W), (H, W, 3) and (H, W, 3).

    On a CPU, an ONNX of dynamic size is reopened for a fixed size whenever the frame size changes: that takes a tenth
    of a second, after which a frame of 480x640 takes about .8 of the time. A frame's result depends on no other frame.

    The CPU provider is the exact reference: ``OnnxRuntimeBackend(model, CPU_ONLY)``. The TensorRT provider runs in
    FP16, and the CUDA provider, from Ampere on, rounds the factors of FP32 products to ten bits (TF32): both differ
    from the reference. The TensorRT provider builds an engine, which takes minutes, and caches it.

    Args:
        model: the ``.onnx``.
        providers: names of execution providers in order of preference, all of which must load; None tries TensorRT,
            CUDA and CPU, and warns about any that this ONNX Runtime includes but that does not load.
        threads: CPU threads; None lets ONNX Runtime choose, unless cores are offline.
        engine_cache: folder for the TensorRT provider's engines; None: ``$XDG_CACHE_HOME/irvis/onnxruntime``, else
            below ``~/.cache``.

    Raises ModelError if ONNX Runtime is not installed, the file is not such a model, or a provider is missing;
    FileError if ``engine_cache`` cannot be written.
    """

    h2d_ms: Optional[float] = None
    d2h_ms: Optional[float] = None

    def __init__(
        self,
        model: Path,
        providers: Optional[Sequence[str]] = None,
        threads: Optional[int] = None,
        engine_cache: Optional[Path] = None,
    ) -> None:
        onnxruntime = _import_onnxruntime()
        if threads is not None and threads < 1:
            raise ModelError(f"threads must be 1 or more. Got {threads}")
        self._threads = threads
        content = read_bytes(model, "model")
        opened: Any = open_session(onnxruntime, model, content, self._options(onnxruntime), providers, engine_cache)
        try:
            self.size, self.takes_frames = _check_signature(opened, model)
        except UnicodeDecodeError as error:
            raise ModelError(f"{model} is not a fusion model of irvis: it has names that are not text") from error
        on_cpu = opened.get_providers()[0] == CPU
        self.name = f"ONNX Runtime {onnxruntime.__version__}, {opened.get_providers()[0]}"
        self.compute_ms: Optional[float] = None
        # The CPU provider keeps working in a fork: seen with 1.19.2 and 1.32.0, with one thread and with two.
        self._birthplace = None if on_cpu else Birthplace()
        self._buffers = Buffers()
        # For frames of another size: by then the file may have been replaced or deleted.
        self._content = content if on_cpu and self.size is None else None
        self._opened: Any = opened
        self._session: Any
        self._binding: Any
        self._sizes: Dict[str, int]  # requested for the free dimensions
        self._use(opened, {})
        logger.info("%s: %s (of %s)", model, self.name, ", ".join(opened.get_providers()))

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fuse one pair: float32 (H, W) each -> float32 (H, W), or uint8 (H, W), (H, W, 3) -> (H, W, 3).

        The result is valid until the next run.
        """
        if self._session is None:
            raise ModelError("this backend is closed")
        if self._birthplace is not None:
            self._birthplace.check(f"this session of {self.name}")
        feeds = {"infrared": infrared, "visible": visible}
        if not self.takes_frames:
            feeds = {name: plane[None, None] for name, plane in feeds.items()}
        self._suit(feeds)
        fused = self._buffers("fused", feeds["visible"].shape, visible.dtype)
        started = time.perf_counter()
        try:
            # Bound rather than passed: session.run would allocate a new output for each frame.
            for name, frame in feeds.items():
                self._binding.bind_cpu_input(name, np.ascontiguousarray(frame))
            self._binding.bind_output("fused", "cpu", 0, fused.dtype, fused.shape, fused.ctypes.data)
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise ModelError(f"ONNX Runtime failed on frames of {infrared.shape} (H, W): {one_line(error)}") from error
        self.compute_ms = (time.perf_counter() - started) * 1e3
        return fused if self.takes_frames else fused[0, 0]

    def rebuild_command(self, size: Tuple[int, int]) -> str:
        """Return the command that makes such an ONNX for frames of ``size`` (H, W)."""
        return f"irvis export CHECKPOINT --size {format_size(size)}" + (" --frames" if self.takes_frames else "")

    def close(self) -> None:
        """Release the session."""
        self._opened = self._session = self._binding = None

    def _options(self, onnxruntime: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL  # errors are raised too, and reporting them once is enough
        threads = self._threads or _cores_left()
        if threads is not None:
            options.intra_op_num_threads = threads
        return options

    def _suit(self, feeds: Dict[str, np.ndarray]) -> None:
        """Switch to a session specialised for the size of these frames, if one can be made."""
        if self._content is None:
            return
        sizes = _free_dimensions(self._opened, feeds)
        if sizes == self._sizes:
            return
        # Free the previous session first: its tensors take as much memory as those of the next.
        self._use(self._opened, sizes)
        if not sizes:
            return
        onnxruntime = _import_onnxruntime()
        options = self._options(onnxruntime)
        for name, length in sizes.items():
            options.add_free_dimension_override_by_name(name, length)
        try:
            self._use(onnxruntime.InferenceSession(self._content, options, providers=[CPU]), sizes)
        except Exception as error:  # the run reports frames that do not fit; all others still work
            logger.debug("no session of its own for %s: %s", sizes, one_line(error))

    def _use(self, session: Any, sizes: Dict[str, int]) -> None:
        self._session, self._binding, self._sizes = session, session.io_binding(), sizes


def _cores_left() -> Optional[int]:
    """Return the number of cores that this process may use if some cores are offline; None if all are online.

    Most power modes of a Jetson switch cores off. ONNX Runtime starts threads for those too, and prints an error for
    each (https://github.com/fabio-sim/LightGlue-ONNX/issues/50).
    """
    present = len(list(CORES.glob("cpu[0-9]*")))
    return len(os.sched_getaffinity(0)) if (os.cpu_count() or present) < present else None


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        found = "is not installed" if is_missing else f"cannot be imported ({one_line(error)})"
        raise ModelError(
            f"onnxruntime {found}: pip install 'irvis[cpu]' (or [gpu]), "
            "or build an engine with build_engine.py and use that"
        ) from error
    return onnxruntime


def _free_dimensions(session: Any, feeds: Dict[str, np.ndarray]) -> Dict[str, int]:
    """Return the length of each named dimension, by name; empty if one name has two lengths."""
    sizes: Dict[str, int] = {}
    for node in session.get_inputs():
        for name, length in zip(node.shape, feeds[node.name].shape):
            if isinstance(name, str) and sizes.setdefault(name, length) != length:
                return {}
    return sizes


def _check_signature(session: Any, model: Path) -> Tuple[Optional[Tuple[int, int]], bool]:
    """Return (H, W), or None if the sizes are dynamic, and whether the model takes frames.

    Raises ModelError for any other kind of model.
    """
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    if set(inputs) != {"infrared", "visible"} or set(outputs) != {"fused"}:
        raise ModelError(
            f"{model} is not a fusion model of irvis: its inputs must be infrared and visible, its output fused. "
            f"Got {sorted(inputs)} and {sorted(outputs)}; make one with irvis export"
        )
    infrared, visible, fused = inputs["infrared"], inputs["visible"], outputs["fused"]
    found = [(node.type, len(node.shape)) for node in (infrared, visible)]
    takes_frames = found == FRAMES
    if found not in (PLANES, FRAMES) or fused.type != visible.type or (takes_frames and visible.shape[2] != 3):
        shown = ", ".join(f"{node.name} {node.type} {node.shape}" for node in (infrared, visible, fused))
        raise ModelError(
            f"{model} must take and return either planes, float32 (1, 1, H, W), or frames, uint8 (H, W) infrared and "
            f"(H, W, 3) visible. Got {shown}; make one with irvis export"
        )
    height, width = infrared.shape[-2:]
    return ((height, width) if isinstance(height, int) and isinstance(width, int) else None), takes_frames
