"""The 8 symmetries of a square (D4, the dihedral group of order 8); one is applied to each image of a batch.

They commute with everything that the losses compute from an image or a feature: the mean over the channels, the Sobel
magnitude, and the bilinear samples. So a teacher's outputs for a crop, computed once, can be turned with the crop.
"""

from functools import lru_cache
from typing import List, Sequence

import numpy as np
import torch
from torch import Tensor

SYMMETRIES = 8


def dihedral(images: Tensor, code: int) -> Tensor:
    """Turn (..., H, W) by 90 degrees ``code`` % 4 times, from the first axis to the second, then mirror left to right.

    Mirror only if ``code`` is 4 or more. An odd code returns (..., W, H). Raises ValueError unless it is 0 to 7.
    """
    if not 0 <= code < SYMMETRIES:
        raise ValueError(f"code must be 0 to {SYMMETRIES - 1}. Got {code}")
    turned = torch.rot90(images, code % 4, (-2, -1))
    return turned.flip(-1) if code >= 4 else turned


def augment(tensors: Sequence[Tensor], codes: Tensor) -> List[Tensor]:
    """Apply ``codes[i]``, int64 (B,), to row i of every tensor, (B, C, s, s) -> same; s may differ between tensors.

    Raises ValueError if a tensor has another shape or another number of rows than there are codes.
    """
    for tensor in tensors:
        if tensor.ndim != 4 or len(tensor) != len(codes) or tensor.shape[2] != tensor.shape[3]:
            raise ValueError(f"tensors must be ({len(codes)}, C, s, s), one row per code. Got {tuple(tensor.shape)}")
    turned = []
    for tensor in tensors:
        origins = _origins(tensor.shape[-1], tensor.device).index_select(0, codes).unsqueeze(1)
        turned.append(tensor.flatten(2).gather(2, origins.expand(-1, tensor.shape[1], -1)).view(tensor.shape))
    return turned


@lru_cache(maxsize=None)
def _origins(side: int, device: torch.device) -> Tensor:
    """Return, for each code, the index in the square that each pixel comes from: int64 (8, side * side)."""
    square = torch.arange(side * side).view(side, side)
    return torch.stack([dihedral(square, code).flatten() for code in range(SYMMETRIES)]).to(device)


def codes_of(seed: int, steps: int, batch: int) -> Tensor:
    """Draw one code for each image of each step's batch: int64 (steps, batch).

    A step's codes depend only on seed, step and batch, however many steps there are.
    """
    # The third word of the seed makes this draw differ from those of the crops and their order.
    return torch.from_numpy(np.random.default_rng([seed, 0, 1]).integers(SYMMETRIES, size=(steps, batch)))
