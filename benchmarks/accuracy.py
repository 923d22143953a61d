"""What a model's speed is paid with: its error against the FP32 ONNX, and the quality of what it fuses."""

import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from irvis.runtime import Fuser
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair, pairs_of
from irvis.runtime.providers import CPU

PAIRS_AT_MOST = 25  # evenly spread over the data set; irvis evaluate measures all of one
SAME_DB = 200.0  # stands for no difference at all: JSON has no infinity


@dataclass(frozen=True)
class Accuracy:
    """Of one model on one data set."""

    data_set: str
    pairs: int
    of: int  # pairs that the data set has
    reference: Optional[str]  # the ONNX that was run in FP32 on the CPU; None: no error was measured
    # max_abs (of a range of 1), worst_psnr_db and mean_psnr_db, of fused frames of 8 bits.
    error: Optional[Dict[str, float]]
    quality: Optional[Dict[str, float]]  # means of CC, PSNR, SCD and SSIM; None: scikit-image is not installed


def measure_accuracy(fuser: Fuser, folder: Path, reference: Optional[Path]) -> Accuracy:
    """Fuse pairs of a data set, by luminance and in the model's size, and hold them against reference and inputs.

    Raises IrvisError where a file cannot be read, or the reference takes another size than the model.
    """
    pairs = pairs_of(folder)
    chosen = spread(pairs)
    fused = [(planes, fuser(*planes)) for planes in (_read(pair, fuser) for pair in chosen)]
    errors, qualities = [], []
    evaluate = _find_metrics()
    if reference is not None:
        with Fuser(reference, providers=(CPU,)) as exact:
            for planes, found in tqdm(fused, unit="pair", desc="error", leave=False, disable=None, file=sys.stderr):
                errors.append(compare_levels(found, exact(*planes)))
    if evaluate is not None:
        qualities = [evaluate(*(plane.astype(np.float64) for plane in (*planes, found))) for planes, found in fused]
    return Accuracy(
        data_set="/".join(folder.resolve().parts[-2:]),
        pairs=len(chosen),
        of=len(pairs),
        reference=reference.name if reference is not None else None,
        error=_worst(errors) if errors else None,
        quality={name: float(np.mean([row[name] for row in qualities])) for name in qualities[0]}
        if qualities
        else None,
    )


def spread(pairs: List[Pair]) -> List[Pair]:
    """Give 25 of the pairs at most, evenly spread, in their order."""
    count = min(PAIRS_AT_MOST, len(pairs))
    return [pairs[index * len(pairs) // count] for index in range(count)]


def compare_levels(found: np.ndarray, wanted: np.ndarray) -> Dict[str, float]:
    """Give the PSNR in dB, 200 at most, and the largest difference, of a range of 1, of two uint8 frames."""
    difference = (found.astype(np.float64) - wanted) / 255
    mse = float(np.mean(difference**2))
    psnr_db = min(-10 * math.log10(mse), SAME_DB) if mse else SAME_DB
    return {"max_abs": float(np.abs(difference).max()), "psnr_db": psnr_db}


def _worst(errors: List[Dict[str, float]]) -> Dict[str, float]:
    psnrs_db = [error["psnr_db"] for error in errors]
    return {
        "max_abs": max(error["max_abs"] for error in errors),
        "worst_psnr_db": round(min(psnrs_db), 2),
        "mean_psnr_db": round(sum(psnrs_db) / len(psnrs_db), 2),
    }


def _read(pair: Pair, fuser: Fuser) -> Tuple[np.ndarray, np.ndarray]:
    """Give infrared and luminance, uint8 (H, W), in the size that the model takes."""
    planes = read_luminance(pair)
    if fuser.size is None or planes[0].shape == fuser.size:
        return planes
    infrared, luminance = (cv2.resize(plane, fuser.size[::-1], interpolation=cv2.INTER_AREA) for plane in planes)
    return infrared, luminance


def _find_metrics() -> Optional[Callable[..., Dict[str, Any]]]:
    if importlib.util.find_spec("skimage") is None:
        return None
    from irvis.benchmarks.metrics import published_metrics

    return published_metrics
