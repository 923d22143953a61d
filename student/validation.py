"""Validation of a student during training: the metrics on some pairs, and a picture of them."""

from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from irvis.runtime.frames import join_luminance
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair
from irvis.runtime.panels import side_by_side, stack_rows
from irvis.student.datasets import to_unit, unit_planes
from irvis.student.losses import correlation
from irvis.student.network import Student

PICTURES = 3  # rows of the picture
CROPS = 64  # that a student is judged by


def fuse_planes(student: Student, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Fuse two uint8 (H, W) planes on the student's device, in FP32, into uint8 (H, W), rounded as in the runtime."""
    device = next(student.parameters()).device
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        fused = student(*(plane.to(device) for plane in unit_planes(infrared, visible)))
    return join_luminance(fused[0, 0].float().cpu().numpy(), None)


def validate(student: Student, pairs: Sequence[Pair]) -> Tuple[Dict[str, float], np.ndarray]:
    """Return each metric's mean over the pairs, and the first few side by side, BGR (H, W, 3)."""
    from irvis.benchmarks.metrics import evaluate_fusion  # imported here: training without validation needs no SciPy

    training = student.training
    student.eval()
    values: List[Dict[str, float]] = []
    rows: List[np.ndarray] = []
    # Takes seconds per pair on a CPU, while the progress bar of the training stands still.
    for pair in tqdm(pairs, desc="validation", unit="pair", leave=False, disable=None):
        infrared, visible = read_luminance(pair)
        fused = fuse_planes(student, infrared, visible)
        values.append(evaluate_fusion(infrared, visible, fused))
        if len(rows) < PICTURES:
            rows.append(side_by_side([infrared, visible, fused]))
    student.train(training)
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}, stack_rows(rows)


def why_not_to_use(student: Student, crops: Tensor) -> str:
    """Return what is wrong if the student makes negatives of its inputs, "" if it does not.

    The paper's gradient losses compare magnitudes, which a negative has right, so training can settle there.

    Args:
        student: on the device of ``crops``.
        crops: those it was trained on, uint8 (N, 2, H, W).
    """
    with torch.no_grad():
        infrared, visible = to_unit(crops[:CROPS])
        found = correlation(student(infrared, visible), torch.maximum(infrared, visible)).item()
    if found >= 0:
        return ""
    return (
        f"the student makes negatives: its images correlate by {found:.2f} with the brighter input; train anew with "
        "another --seed, or with --warmup"
    )
