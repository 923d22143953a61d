"""The gate that every built engine must pass: its output on pairs of frames is compared with the ONNX's in FP32.

A pin can be ignored, a kernel can accumulate in FP16, a calibration can come from another scene: none of these fails a
build, but all of them show up here.
"""

import contextlib
import importlib.util
import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np

from irvis.export.sample_frames import Frames, to_planes
from irvis.runtime.backend import Backend
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import ModelError
from irvis.runtime.fuser import Fuser
from irvis.runtime.providers import CPU_ONLY

LEAST_PSNR_DB = {"fp32": 60.0, "fp16": 45.0, "int8": 35.0}  # on the worst pair
PAIRS_AT_MOST = 25
SAME_DB = 200.0  # means no difference at all, since JSON has no infinity

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]  # frames -> uint8 BGR (H, W, 3), or float32 (H, W) in [0, 1]


def measure_error(
    engine: Path,
    onnx: Path,
    frames: bool,
    scenes: Sequence[Callable[[], Frames]],
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> Optional[Dict[str, Any]]:
    """Run pairs through the engine, and the ONNX in FP32 on the CPU; return the differences as ``summarise`` does.

    Args:
        engine: the engine, with its sidecar beside it.
        onnx: the ONNX that it was built from.
        frames: whether the engine takes frames; if so, the outputs of two Fusers are compared, in whole grey levels.
        scenes: each returns frames of the engine's size.
        say: called with each line worth reporting.
        progress: called with "3 of 25" before each pair that the ONNX fuses, the slow part.

    Returns None if ONNX Runtime is missing or cannot run the ONNX. Raises ModelError if the engine fails or returns
    values that are not finite.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        say("not measured: onnxruntime is not installed")
        return None
    pairs, wanted = [scene() for scene in scenes], []
    try:
        with _open_reference(onnx, frames) as run:
            for index, pair in enumerate(pairs):
                progress(f"{index + 1} of {len(pairs)}")
                wanted.append(run(*pair))
    except ModelError as error:
        say(f"not measured: {error}")
        return None
    with _open_engine(engine, frames) as run:
        return summarise([compare(run(*pair), plane) for pair, plane in zip(pairs, wanted)])


def compare(found: np.ndarray, wanted: np.ndarray) -> Tuple[float, float]:
    """Return the PSNR in dB, at most 200, and the largest difference, relative to a range of 1.

    Args:
        found: the engine's output, uint8 in 0..255 or floating-point in [0, 1].
        wanted: the ONNX's output.

    Raises ModelError if their shapes or types differ, or either is not finite.
    """
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise ModelError(f"the engine returns {found.dtype} {found.shape}, the ONNX {wanted.dtype} {wanted.shape}")
    if not np.isfinite(found).all():
        raise ModelError("the engine returns values that are not finite; nothing was written, try --fp32")
    if not np.isfinite(wanted).all():
        raise ModelError("the ONNX itself returns values that are not finite, so no engine can be compared with it")
    peak = 255.0 if found.dtype == np.uint8 else 1.0
    difference = (found.astype(np.float64) - wanted) / peak
    mse = float(np.mean(difference**2))
    return min(-10 * math.log10(max(mse, 1e-300)), SAME_DB), float(np.abs(difference).max())


def summarise(errors: Sequence[Tuple[float, float]]) -> Dict[str, Any]:
    """Return the sidecar's ``measured_error`` of several pairs: the worst and the mean PSNR and the largest error."""
    psnr_db, largest = zip(*errors)
    return {
        "pairs": len(errors),
        "max_abs": max(largest),
        "worst_psnr_db": round(min(psnr_db), 2),
        "mean_psnr_db": round(sum(psnr_db) / len(psnr_db), 2),
    }


def judge(measured: Optional[Dict[str, Any]], precision: str, force: bool = False) -> Optional[bool]:
    """Return whether an engine is close enough to its ONNX; None if that was not measured.

    Raises ModelError if it is not, unless ``force``.
    """
    if measured is None:
        return None
    least_db, found_db = LEAST_PSNR_DB[precision], measured["worst_psnr_db"]
    if found_db >= least_db:
        return True
    if force:
        return False
    instead = {"fp32": "", "fp16": "--fp32, or ", "int8": "--fp16, or "}[precision]
    raise ModelError(
        f"the engine is {found_db:.1f} dB from its ONNX on the worst of {measured['pairs']} pairs, where "
        f"{precision.upper()} must reach {least_db:.0f} dB; nothing was written, "
        f"try {instead}--force to write it anyway"
    )


@contextlib.contextmanager
def _open_reference(onnx: Path, frames: bool) -> Iterator[Run]:
    if frames:
        with Fuser(onnx, providers=CPU_ONLY) as fuser:
            yield fuser
    else:
        with contextlib.closing(OnnxRuntimeBackend(onnx, CPU_ONLY)) as backend:
            yield _on_planes(backend)


@contextlib.contextmanager
def _open_engine(engine: Path, frames: bool) -> Iterator[Run]:
    with Fuser(engine) as fuser:
        yield fuser if frames else _on_planes(fuser.backend)


def _on_planes(backend: Backend) -> Run:
    return lambda infrared, visible: backend.run(*to_planes((infrared, visible))).copy()  # valid until the next run
