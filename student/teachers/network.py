"""The base class of the published fusion networks here: (infrared, visible) -> (feature, fused)."""

from typing import Any, ClassVar, Dict, Tuple

import numpy as np
from torch import Tensor, nn

Output = Tuple[Tensor, Tensor]


class FusionNetwork(nn.Module):
    """A published fusion network, reimplemented so that its authors' state dict loads with ``strict=True``.

    ``forward(infrared, visible)`` takes luminance of (B, 1, H, W) in [0, 1], H and W multiples of ``multiple``, and
    returns the feature that is distilled, (B, C, h, w), and the fused luminance, (B, 1, H, W), as in the authors' code
    before the conversion to 8 bits. Operations on a whole image (a min-max) treat each image of the batch separately.
    """

    feature: ClassVar[str]  # where the distilled feature is, in the authors' names, and its shape
    repository: ClassVar[str]  # owner/name, where the authors publish the weights
    paper: ClassVar[str]  # authors, title, venue, as it is cited
    licence: ClassVar[str] = "none stated"  # of the published code and weights
    multiple: ClassVar[int] = 1
    cast: ClassVar[str] = "round"  # a key of CASTS: how the authors turn the fused plane into 8 bits

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        raise NotImplementedError

    @classmethod
    def unwrap(cls, contents: Dict[str, Any]) -> Dict[str, Any]:
        """Return the flat state dict in the contents of the authors' file; flat ones are returned as they are."""
        for key in ("params", "state_dict", "model"):
            if isinstance(contents.get(key), dict):
                contents = contents[key]
        return {name[7:] if name.startswith("module.") else name: value for name, value in contents.items()}


def min_max(fused: Tensor) -> Tensor:
    """Stretch each image of (B, 1, H, W) to [0, 1]; a constant image becomes 0."""
    low, high = fused.amin(dim=(1, 2, 3), keepdim=True), fused.amax(dim=(1, 2, 3), keepdim=True)
    return (fused - low) / (high - low).clamp_min(1e-12)


def _round(fused: np.ndarray) -> np.ndarray:
    return np.rint(fused.clip(0, 1) * 255).astype(np.uint8)


def _floor(fused: np.ndarray) -> np.ndarray:
    return (fused.clip(0, 1) * 255).astype(np.uint8)


def _stretch(fused: np.ndarray) -> np.ndarray:
    low, high = fused.min(), fused.max()
    return (fused - low) / max(high - low, np.float32(1e-12)) * 255


def _min_max_floor(fused: np.ndarray) -> np.ndarray:
    return _stretch(fused).astype(np.uint8)


def _min_max_round(fused: np.ndarray) -> np.ndarray:
    return (_stretch(fused) + np.float32(0.5)).astype(np.uint8)


def _wrap(fused: np.ndarray) -> np.ndarray:
    return (fused * 255).astype(np.int32).astype(np.uint8)


# float (H, W) -> uint8 (H, W). "wrap" is a defect of its authors' code, kept since their results contain it.
CASTS = {
    "round": _round,
    "floor": _floor,
    "min-max, floor": _min_max_floor,
    "min-max, round": _min_max_round,
    "wrap": _wrap,
}
