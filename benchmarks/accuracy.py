"""What a model's speed costs: its error against the FP32 ONNX, and the quality of the frames it fuses."""

import importlib.util
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from irvis.benchmarks.data_sets import data_set_name
from irvis.export.acceptance import PAIRS_AT_MOST, compare, summarise
from irvis.export.sample_frames import resized
from irvis.runtime import Fuser
from irvis.runtime.errors import printable
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair, pairs_of
from irvis.runtime.providers import CPU_ONLY
from irvis.runtime.spread import spread_by_parts

Planes = Tuple[np.ndarray, np.ndarray]  # infrared and luminance, uint8 (H, W)


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of one model on one data set."""

    data_set: str
    pairs: int
    of: int  # pairs in the data set
    reference: Optional[str]  # the ONNX run in FP32 on the CPU; None: no error was measured
    # max_abs (for a range of 1), worst_psnr_db and mean_psnr_db of 8-bit fused frames.
    error: Optional[Dict[str, float]]
    quality: Optional[Dict[str, float]]  # finite means of CC, PSNR, SCD, SSIM; None: scikit-image is not installed


def measure_accuracy(fuser: Fuser, folder: Path, reference: Optional[Path], resize: bool = False) -> Accuracy:
    """Fuse the luminance of a data set's pairs, and compare it with the reference and the inputs.

    The pairs are resized to the model's size, or keep their own if ``fuser``, by ``resize``, fits them itself.

    Raises IrvisError if a file cannot be read, or the reference takes another size than the model.
    """
    pairs = pairs_of(folder)
    chosen = spread_by_parts(pairs, PAIRS_AT_MOST)
    fused = [(planes, fuser(*planes)) for planes in (_read(pair, None if resize else fuser.size) for pair in chosen)]
    errors = []
    if reference is not None:
        with Fuser(reference, providers=CPU_ONLY, resize=resize) as exact:
            for planes, found in tqdm(fused, unit="pair", desc="error", leave=False, disable=None, file=sys.stderr):
                errors.append(compare(found, exact(*planes)))
    return Accuracy(
        data_set=data_set_name(folder),
        pairs=len(chosen),
        of=len(pairs),
        reference=printable(reference.name) if reference is not None else None,
        error={name: value for name, value in summarise(errors).items() if name != "pairs"} if errors else None,
        quality=_quality(chosen, fused),
    )


def _read(pair: Pair, size: Optional[Tuple[int, int]]) -> Planes:
    """Return infrared and luminance, uint8 (H, W), at a size or, for None, their own."""
    return resized(read_luminance(pair), size)


def _quality(pairs: Sequence[Pair], fused: Sequence[Tuple[Planes, np.ndarray]]) -> Optional[Dict[str, float]]:
    if importlib.util.find_spec("skimage") is None:
        return None
    from irvis.benchmarks.metrics import published_metrics, told_means_of

    rows = [published_metrics(*(plane.astype(np.float64) for plane in (*planes, found))) for planes, found in fused]
    means = told_means_of("quality", [pair.name for pair in pairs], rows)
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
