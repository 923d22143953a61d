"""Heat maps of a feature: the attention map of eq. 1 over the image (figures 8 and 9 of the paper).

The map is the signed mean over the channels, not the mean of absolute values: that is what eq. 1 distils, so a network
whose feature falls at a target shows it dark. Features of different networks have different units; eq. 1 divides each
map by its L2 norm. Here the divisor is that norm over the root of the map's size, the root mean square, so that values
do not depend on the size: maps then compare as in eq. 2.
"""

from typing import Callable, Sequence, Tuple

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from irvis.student.datasets import unit_planes
from irvis.student.losses import SHORTEST, attention_map, attention_map_loss
from irvis.student.teachers.load import repeatable_output
from irvis.student.teachers.network import Output

# (infrared, visible) of (B, 1, H, W) in [0, 1] -> (feature, fused), as every Teacher returns them
Network = Callable[[Tensor, Tensor], Output]

PERCENTILES = (1, 99)  # of the values, the ends of a colour scale: a few hot pixels would darken all others
COLOURS = "inferno"
PERIOD = 16  # pixels; shorter periods count as detail
SHARE = 0.8  # weight of the colours where they lie over the image


def attention(network: Network, infrared: np.ndarray, luminance: np.ndarray) -> Tensor:
    """Return a network's attention map for two uint8 (H, W) planes: float32 (1, 1, h, w), on CPU. Raises ModelError."""
    feature, _ = repeatable_output(network, *unit_planes(infrared, luminance))
    return attention_map(feature).cpu()


def similarity(teacher: Tensor, student: Tensor) -> float:
    """Return the cosine similarity of two attention maps, (1, 1, h, w) each: 1 - L_att of eq. 2."""
    return 1 - float(attention_map_loss(teacher, student))


def heat_map(attended: Tensor, size: Tuple[int, int]) -> np.ndarray:
    """Turn an attention map, (1, 1, h, w), into heat over an image of ``size`` (H, W): float32, in units of its RMS.

    If the frame was padded to fit the network, the heat is squeezed by that padding.
    """
    unit = attended / attended.square().mean().sqrt().clamp_min(SHORTEST)
    return F.interpolate(unit, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()


def detail_share(heat: np.ndarray) -> float:
    """Return the share of a heat map's variance at periods below PERIOD pixels; the rest is global structure.

    It uses an orthonormal cosine transform, whose squares sum to those of the map and which does not wrap at the edges.
    """
    from scipy.fft import dctn  # imported here, since the pictures need no SciPy

    energy = dctn(heat.astype(np.float64), norm="ortho") ** 2
    energy[0, 0] = 0  # the mean
    # Coefficient k along n pixels has k / 2n periods per pixel.
    down, along = (np.arange(size) / (2 * size) for size in heat.shape)
    total = energy.sum()
    return float(energy[np.hypot(down[:, None], along) > 1 / PERIOD].sum() / total) if total > 0 else 0.0


def span(maps: Sequence[np.ndarray]) -> Tuple[float, float]:
    """Return the lowest and the highest value of one colour scale for all these heat maps."""
    low, high = np.percentile(np.concatenate([one.ravel() for one in maps]), PERCENTILES)
    return float(low), float(high)


def over_image(heat: np.ndarray, luminance: np.ndarray, limits: Tuple[float, float]) -> np.ndarray:
    """Lay heat, float32 (H, W), in perceptually uniform colours over a grey image, uint8 (H, W): BGR (H, W, 3)."""
    from matplotlib import colormaps

    low, high = limits
    unit = (heat - low) / max(high - low, SHORTEST)
    colours = np.ascontiguousarray(colormaps[COLOURS](unit.clip(0, 1), bytes=True)[:, :, 2::-1])
    return cv2.addWeighted(colours, SHARE, cv2.cvtColor(luminance, cv2.COLOR_GRAY2BGR), 1 - SHARE, 0)
