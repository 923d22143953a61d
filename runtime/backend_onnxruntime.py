"""ONNX Runtime: the default on a machine without TensorRT, and the reference that an engine is held against."""

import logging
import time
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from irvis.runtime.errors import ModelError, one_line

PREFERRED_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
FATAL = 4  # of ONNX Runtime's log levels; what fails is raised too, and said once is enough

logger = logging.getLogger("irvis.onnxruntime")


class OnnxRuntimeBackend:
    """Runs an ONNX with inputs ``infrared`` and ``visible`` and output ``fused``, float32 (1, 1, H, W) each.

    Args:
        model: the ``.onnx``.
        providers: names of execution providers in order of preference; None takes TensorRT, CUDA, CPU, as present.
        threads: CPU threads; None lets ONNX Runtime choose.

    Raises ModelError where ONNX Runtime is not installed, the file is no such model, or a provider is not there.
    """

    h2d_ms: Optional[float] = None
    d2h_ms: Optional[float] = None

    def __init__(self, model: Path, providers: Optional[Sequence[str]] = None, threads: Optional[int] = None) -> None:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        if threads is not None:
            if threads < 1:
                raise ModelError(f"threads must be 1 or more. Got {threads}")
            options.intra_op_num_threads = threads
        chosen = _choose_providers(onnxruntime.get_available_providers(), providers)
        try:
            self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=chosen)
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise ModelError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {model}: {one_line(error)}"
            ) from error
        self.size = _check_signature(self._session, model)
        self.name = f"ONNX Runtime {onnxruntime.__version__}, {self._session.get_providers()[0]}"
        self.compute_ms: Optional[float] = None
        logger.info("%s: %s (of %s)", model, self.name, ", ".join(self._session.get_providers()))

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """float32 (H, W) in [0, 1] each -> fused float32 (H, W)."""
        if self._session is None:
            raise ModelError("this backend is closed")
        started = time.perf_counter()
        try:
            (fused,) = self._session.run(["fused"], {"infrared": infrared[None, None], "visible": visible[None, None]})
        except Exception as error:
            raise ModelError(f"ONNX Runtime failed on frames of {infrared.shape} (H, W): {one_line(error)}") from error
        self.compute_ms = (time.perf_counter() - started) * 1e3
        return fused[0, 0]

    def close(self) -> None:
        """Give back the session."""
        self._session = None


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "onnxruntime is not installed: pip install 'irvis[cpu]' (or [gpu]), "
            "or build an engine with build_engine.py and give that"
        ) from error
    return onnxruntime


def _choose_providers(available: Sequence[str], wanted: Optional[Sequence[str]]) -> List[str]:
    if wanted is None:
        return [name for name in PREFERRED_PROVIDERS if name in available]
    missing = [name for name in wanted if name not in available]
    if missing or not wanted:
        raise ModelError(f"ONNX Runtime has no provider {missing or '(none asked for)'}. Found {list(available)}")
    return list(wanted)


def _check_signature(session: Any, model: Path) -> Optional[Tuple[int, int]]:
    """Give (H, W), or None where the sizes are dynamic. Raises ModelError where this is another kind of model."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = [node.name for node in session.get_outputs()]
    shapes = [node.shape for node in inputs.values()]
    if set(inputs) != {"infrared", "visible"} or outputs != ["fused"] or any(len(shape) != 4 for shape in shapes):
        raise ModelError(
            f"{model} is not a fusion model of irvis: its inputs must be infrared and visible, its output fused. "
            f"Got {sorted(inputs)} and {outputs}; make one with irvis export"
        )
    if any(node.type != "tensor(float)" for node in inputs.values()):
        raise ModelError(f"{model} must take float32. Got {sorted(node.type for node in inputs.values())}")
    height, width = inputs["infrared"].shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None
