"""Fusion quality on 8-bit luminance: infrared A, visible B, fused F, (H, W) each.

``evaluate_fusion`` takes uint8, and so do the functions that count grey levels (EN, MI). The others take the same
values as float64, 0 to 255.

CC, PSNR, SCD and SSIM follow the published tables, which differ from the textbooks in PSNR's peak and in SSIM's sum
over both inputs. SSIM may be compared only with figures of this code: no definition that was tried reproduces the
published ones. MI, VIF and Qabf follow the field's usual evaluation code, except for MI's unit, bits.
"""

import logging
import math
from typing import Dict, Iterable, Sequence, Tuple

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from irvis.runtime.errors import printable

VIF_SCALES = 4
VIF_SMALLEST = 41  # pixels per side, below which the window of the fourth scale does not fit
VIF_NOISE = 2.0  # variance of the eye's own noise

# Sigmoids of Qabf for the strength and the orientation of an edge, with the constants that fusion papers use.
STRENGTH_GAIN, STRENGTH_SLOPE, STRENGTH_MIDDLE = 0.9994, -15.0, 0.5
ANGLE_GAIN, ANGLE_SLOPE, ANGLE_MIDDLE = 0.9879, -22.0, 0.8

logger = logging.getLogger("irvis.metrics")


def evaluate_fusion(infrared: np.ndarray, visible: np.ndarray, fused: np.ndarray) -> Dict[str, float]:
    """Return every metric of this module by name. Raises ValueError unless all are uint8 (H, W) of one size."""
    planes = (infrared, visible, fused)
    if any(plane.dtype != np.uint8 or plane.ndim != 2 or plane.shape != fused.shape for plane in planes):
        found = ", ".join(f"{plane.dtype} {plane.shape}" for plane in planes)
        raise ValueError(f"metrics take uint8 (H, W) of one size. Got {found}")
    a, b, f = (plane.astype(np.float64) for plane in planes)
    return {
        **published_metrics(a, b, f),
        "EN": entropy(fused),
        "SD": float(f.std()),
        "SF": spatial_frequency(f),
        "AG": average_gradient(f),
        "MI": sum(mutual_information(x, fused) for x in (infrared, visible)),
        "VIF": sum(visual_information_fidelity(x, f) for x in (a, b)),
        "Qabf": edge_preservation(a, b, f),
    }


def means_of(rows: Sequence[Dict[str, float]]) -> Dict[str, float]:
    """Return each metric's mean over the pairs on which it is finite, NaN if it is on none."""
    columns = {name: [row[name] for row in rows if math.isfinite(row[name])] for name in rows[0]}
    return {name: float(np.mean(column)) if column else math.nan for name, column in columns.items()}


def left_out(names: Iterable[str], rows: Sequence[Dict[str, float]]) -> str:
    """Return which metrics ``means_of`` leaves out, on how many of the named pairs, and the first; empty for none.

    Such is the PSNR of a black image.
    """
    names, parts = list(names), []
    for metric in rows[0]:
        found = [name for name, row in zip(names, rows) if not math.isfinite(row[metric])]
        if found:
            parts.append(f"{metric} of {len(found)} of {len(rows)} pairs, the first {printable(found[0])}")
    return "; ".join(parts)


def told_means_of(label: str, names: Iterable[str], rows: Sequence[Dict[str, float]]) -> Dict[str, float]:
    """Return what ``means_of`` does, with a warning, headed by ``label``, that tells what it leaves out."""
    told = left_out(names, rows)
    if told:
        logger.warning("%s: not finite, and left out of the mean: %s", label, told)
    return means_of(rows)


def published_metrics(a: np.ndarray, b: np.ndarray, f: np.ndarray) -> Dict[str, float]:
    """Return CC, PSNR, SCD and SSIM, as in the paper's tables, for float64 (H, W) planes in [0, 255]."""
    return {
        "CC": (correlation(a, f) + correlation(b, f)) / 2,
        "PSNR": peak_signal_to_noise(a, b, f),
        "SCD": correlation(f - b, a) + correlation(f - a, b),
        "SSIM": sum(structural_similarity(x, f, data_range=255) for x in (a, b)),
    }


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation over all pixels; 0 if either is constant, which says nothing about the other."""
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else 0.0


def peak_signal_to_noise(a: np.ndarray, b: np.ndarray, f: np.ndarray) -> float:
    """10 log10(max(F)^2 / ((MSE(A, F) + MSE(B, F)) / 2)) in dB: the peak is the fused image's own maximum."""
    error = (np.mean((a - f) ** 2) + np.mean((b - f) ** 2)) / 2
    peak = float(f.max())
    if peak == 0:
        return float("-inf") if error else float("nan")
    return float(10 * np.log10(peak**2 / error)) if error else float("inf")


def entropy(fused: np.ndarray) -> float:
    """Entropy of the 8-bit histogram in bits: EN."""
    return _entropy(np.bincount(fused.ravel()))


def mutual_information(x: np.ndarray, y: np.ndarray) -> float:
    """H(X) + H(Y) - H(X, Y) in bits over the 256x256 joint histogram of two uint8 planes; MI is its sum over A and B.

    CDDFuse's evaluation code, and papers that follow it, use nats: ln 2 times this.
    """
    joint = np.bincount(x.ravel().astype(np.intp) * 256 + y.ravel(), minlength=256 * 256).reshape(256, 256)
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def spatial_frequency(f: np.ndarray) -> float:
    """Root of the mean squared differences along rows plus that along columns: SF."""
    return float(np.sqrt(np.mean(np.diff(f, axis=1) ** 2) + np.mean(np.diff(f, axis=0) ** 2)))


def average_gradient(f: np.ndarray) -> float:
    """Mean of sqrt((dx^2 + dy^2) / 2) over forward differences: AG."""
    dx, dy = np.diff(f, axis=1)[:-1], np.diff(f, axis=0)[:, :-1]
    return float(np.mean(np.sqrt((dx * dx + dy * dy) / 2)))


def visual_information_fidelity(reference: np.ndarray, fused: np.ndarray) -> float:
    """Pixel-domain VIF (Sheikh and Bovik, 2006) of float64 planes in [0, 255]; the metric VIF is its sum over A and B.

    The sum over scales and pixels of log(1 + g^2 var(R) / (var(F) - g cov(R, F) + 2)) over that of log(1 + var(R) / 2),
    where g = cov(R, F) / var(R), or 0 if that is negative. At scales 1 to 4 the moments are computed with a Gaussian
    window of 17, 9, 5 and 3 pixels and a sigma of a fifth of that, wherever it fits inside; from the second scale on,
    both planes are first filtered with that scale's window, and every second row and column is kept.

    1 for the reference itself, over 1 if contrast is raised, 0 for a constant reference, which has nothing to keep,
    and NaN below 41x41 pixels.
    """
    if min(reference.shape) < VIF_SMALLEST:
        return float("nan")
    kept = present = 0.0
    for scale in range(VIF_SCALES):
        window = 2 ** (VIF_SCALES - scale) + 1
        if scale:
            reference, fused = (_gaussian(plane, window)[::2, ::2] for plane in (reference, fused))
        mean_r, mean_f = _gaussian(reference, window), _gaussian(fused, window)
        variance_r = _gaussian(reference * reference, window) - mean_r * mean_r
        variance_f = _gaussian(fused * fused, window) - mean_f * mean_f
        covariance = _gaussian(reference * fused, window) - mean_r * mean_f
        # A variance below 1e-10 is the rounding error of a constant.
        related = (variance_r > 1e-10) & (variance_f > 1e-10) & (covariance > 0)
        gain = np.divide(covariance, variance_r, out=np.zeros_like(covariance), where=related)
        noise = variance_f - gain * covariance
        kept += np.log1p(gain * gain * variance_r / (noise + VIF_NOISE)).sum()
        present += np.log1p(variance_r / VIF_NOISE).sum()
    return float(kept / present) if present > 0 else 0.0


def _gaussian(plane: np.ndarray, window: int) -> np.ndarray:
    """Filter with a Gaussian of sigma window / 5; return the pixels whose window lies inside."""
    half = window // 2
    return cv2.GaussianBlur(plane, (window, window), window / 5)[half:-half, half:-half]


def edge_preservation(a: np.ndarray, b: np.ndarray, f: np.ndarray) -> float:
    """Qabf of Xydeas and Petrovic (2000): the share of the inputs' edges that F keeps, 0 to 0.975.

    sum(Q_AF g_A + Q_BF g_B) / sum(g_A + g_B), g being the strength of Sobel's gradient with zeros beyond the border,
    and 0 if no input has an edge. Q_XF = 0.9994 / (1 + exp(-15 (G - 0.5))) * 0.9879 / (1 + exp(-22 (A - 0.8))),
    where G is the smaller over the greater of g_X and g_F, and A = 1 - |angle_X - angle_F| / (pi / 2).
    """
    strength_f, angle_f = _edges(f)
    kept = present = 0.0
    for plane in (a, b):
        strength, angle = _edges(plane)
        greater = np.maximum(strength, strength_f)
        ratio = np.divide(np.minimum(strength, strength_f), greater, out=np.zeros_like(greater), where=greater > 0)
        agreement = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        strength_kept = STRENGTH_GAIN / (1 + np.exp(STRENGTH_SLOPE * (ratio - STRENGTH_MIDDLE)))
        angle_kept = ANGLE_GAIN / (1 + np.exp(ANGLE_SLOPE * (agreement - ANGLE_MIDDLE)))
        kept += (strength_kept * angle_kept * strength).sum()
        present += strength.sum()
    return float(kept / present) if present > 0 else 0.0


def _edges(plane: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return strength and orientation of Sobel's gradient; the latter is in (-pi/2, pi/2], with y pointing up."""
    dx = cv2.Sobel(plane, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_CONSTANT)
    dy = -cv2.Sobel(plane, cv2.CV_64F, 0, 1, ksize=3, borderType=cv2.BORDER_CONSTANT)
    slope = np.divide(dy, dx, out=np.full_like(dx, np.inf), where=dx != 0)
    return np.hypot(dx, dy), np.arctan(slope)
