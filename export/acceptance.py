"""The gate that every built engine passes: what it gives on real pairs is held against the ONNX in FP32.

A pin can be passed over, a kernel can accumulate in FP16, a calibration can be of another scene: none of these fails a
build, and all of them show here.
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

LEAST_PSNR_DB = {"fp32": 60.0, "fp16": 45.0, "int8": 35.0}  # of the worst pair
PAIRS_AT_MOST = 25
SAME_DB = 200.0  # stands for no difference at all: JSON has no infinity

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]  # frames -> uint8 BGR (H, W, 3), or float32 (H, W) in [0, 1]


def measure_error(
    engine: Path,
    onnx: Path,
    frames: bool,
    scenes: Sequence[Callable[[], Frames]],
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> Optional[Dict[str, Any]]:
    """Run pairs through the engine and the ONNX in FP32 on the CPU; give how far they differ, as ``summarise`` does.

    Args:
        engine: the engine, with its sidecar beside it.
        onnx: what it was built from.
        frames: whether the engine takes frames; then what two Fusers give is compared, to whole grey levels.
        scenes: each gives frames of the engine's size.
        say: gets a line for each thing worth telling.
        progress: gets "3 of 25" before each pair that the ONNX fuses, which takes the time.

    None where ONNX Runtime is missing or cannot run the ONNX. Raises ModelError where the engine fails, or gives values
    that are not finite.
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
    """Give the PSNR in dB, 200 at most, and the largest difference, of a range of 1.

    Args:
        found: of the engine, uint8 in 0..255 or floating in [0, 1].
        wanted: of the ONNX, of the same shape and type.

    Raises ModelError where one of them is not finite.
    """
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise ModelError(f"the engine gives {found.dtype} {found.shape}, the ONNX {wanted.dtype} {wanted.shape}")
    if not np.isfinite(found).all():
        raise ModelError("the engine gives values that are not finite; nothing was written, try --fp32")
    if not np.isfinite(wanted).all():
        raise ModelError("the ONNX itself gives values that are not finite, so no engine of it can be held against it")
    peak = 255.0 if found.dtype == np.uint8 else 1.0
    difference = (found.astype(np.float64) - wanted) / peak
    mse = float(np.mean(difference**2))
    return min(-10 * math.log10(max(mse, 1e-300)), SAME_DB), float(np.abs(difference).max())


def summarise(errors: Sequence[Tuple[float, float]]) -> Dict[str, Any]:
    """Give the sidecar's ``measured_error`` of several pairs: the worst and the mean PSNR and the largest error."""
    psnr_db, largest = zip(*errors)
    return {
        "pairs": len(errors),
        "max_abs": max(largest),
        "worst_psnr_db": round(min(psnr_db), 2),
        "mean_psnr_db": round(sum(psnr_db) / len(psnr_db), 2),
    }


def judge(measured: Optional[Dict[str, Any]], precision: str, force: bool = False) -> Optional[bool]:
    """Tell whether an engine is near enough to its ONNX; None where that was not measured.

    Raises ModelError where it is not, unless ``force``.
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
        f"{precision.upper()} must reach {least_db:.0f} dB; nothing was written, try {instead}--force to have it so"
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
