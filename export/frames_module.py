"""Wraps a network of planes as one of frames: the runtime's pre- and post-processing, as ONNX operators."""

from typing import Any, List, Optional, Tuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from irvis.export.sample_frames import Frames, resized, to_planes
from irvis.runtime.frames import join_luminance, split_luminance


class FramesModule(nn.Module):
    """Wraps a network of planes, float32 (1, 1, H, W) in [0, 1] each, to take and return frames, uint8.

    Y = floor((1868 B + 9617 G + 4899 R) / 16384 + 1/2), OpenCV's luminance (BT.601), is exact: all its terms are whole
    multiples of 2^-14 below 2^8. It is a product and a sum, since a GPU may round a matrix product to TF32.
    """

    weights: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("weights", torch.tensor([1868.0, 9617.0, 4899.0]) / 16384, persistent=False)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """uint8 infrared (H, W) and visible BGR (H, W, 3) -> fused uint8 BGR (H, W, 3)."""
        colour = visible.float()
        y = torch.floor((colour * self.weights).sum(-1) + 0.5)
        fused = self.network(infrared.float()[None, None] / 255, y[None, None] / 255)
        # Flattened, not squeezed: a squeeze is exported as a branch where the exporter lost track of the batch.
        y_fused = torch.round(fused.flatten(0, 2) * 255).clamp(0, 255)  # half to even, as OpenCV rounds
        return (colour + (y_fused - y).unsqueeze(-1)).clamp(0, 255).to(torch.uint8)


def largest_level_difference(
    network: nn.Module, session: Any, pairs: List[Frames], size: Optional[Tuple[int, int]]
) -> int:
    """Return the largest difference, in grey levels, between an ONNX of frames and the runtime around ``network``.

    Args:
        network: a network of planes, on the CPU.
        session: the ONNX, an ``onnxruntime.InferenceSession``.
        pairs: the frames to compare on, resized if ``size`` is fixed.
        size: (H, W) that the ONNX takes; None for any.

    Returns:
        0 to 255; 256 if the network returns values that are not finite.
    """
    worst = 0
    for pair in pairs:
        infrared, visible = resized(pair, size)
        (found,) = session.run(["fused"], {"infrared": infrared, "visible": visible})
        planes = torch.from_numpy(to_planes((infrared, visible)))
        with torch.inference_mode():
            fused = network(*planes[:, None, None])[0, 0].numpy()
        if not np.isfinite(fused).all():
            return 256
        wanted = join_luminance(fused, split_luminance(visible))
        worst = max(worst, int(cv2.absdiff(found, wanted).max()))
    return worst
