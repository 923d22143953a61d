"""Fusion quality on 8-bit luminance: infrared A, visible B, fused F, each uint8 (H, W).

CC, PSNR, SCD and SSIM are defined as the published tables have them, which differs from the textbooks in PSNR's peak
and in SSIM's sum over both inputs. SSIM may be compared only with figures of this code: no definition that was tried
reproduces the published ones.
"""

from typing import Dict

import numpy as np
from skimage.metrics import structural_similarity


def evaluate_fusion(infrared: np.ndarray, visible: np.ndarray, fused: np.ndarray) -> Dict[str, float]:
    """Give every metric of this module by name. Raises ValueError unless all are uint8 (H, W) of one size."""
    planes = (infrared, visible, fused)
    if any(plane.dtype != np.uint8 or plane.ndim != 2 or plane.shape != fused.shape for plane in planes):
        found = ", ".join(f"{plane.dtype} {plane.shape}" for plane in planes)
        raise ValueError(f"metrics take uint8 (H, W) of one size. Got {found}")
    a, b, f = (plane.astype(np.float64) for plane in planes)
    return {
        "CC": (correlation(a, f) + correlation(b, f)) / 2,
        "PSNR": peak_signal_to_noise(a, b, f),
        "SCD": correlation(f - b, a) + correlation(f - a, b),
        "SSIM": sum(structural_similarity(x, f, data_range=255) for x in (a, b)),
        "EN": entropy(fused),
        "SD": float(f.std()),
        "SF": spatial_frequency(f),
        "AG": average_gradient(f),
    }


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation over all pixels; 0 where either is constant, since it then tells nothing of the other."""
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
    share = np.bincount(fused.ravel(), minlength=256) / fused.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def spatial_frequency(f: np.ndarray) -> float:
    """Root of the mean squared differences along rows plus that along columns: SF."""
    return float(np.sqrt(np.mean(np.diff(f, axis=1) ** 2) + np.mean(np.diff(f, axis=0) ** 2)))


def average_gradient(f: np.ndarray) -> float:
    """Mean of sqrt((dx^2 + dy^2) / 2) over forward differences: AG."""
    dx, dy = np.diff(f, axis=1)[:-1], np.diff(f, axis=0)[:, :-1]
    return float(np.mean(np.sqrt((dx * dx + dy * dy) / 2)))
