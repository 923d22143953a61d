"""The task loss of the student (eq. 17 to 20 of the paper). All images are (B, 1, H, W) in [0, 1]."""

import torch
import torch.nn.functional as F
from torch import Tensor

SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def sobel_magnitude(image: Tensor) -> Tensor:
    """G of eq. 8 and 19 as |gx| + |gy|: (B, 1, H, W) -> same.

    The border is replicated, so that the frame's edge is not taken for an edge in the scene.
    """
    gx = image.new_tensor(SOBEL_X)
    kernels = torch.stack([gx, gx.t()]).unsqueeze(1)
    gradients = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)
    return gradients.abs().sum(dim=1, keepdim=True)


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Eq. 18: mean |max(I_vis, I_ir) - I_f|, a scalar."""
    return F.l1_loss(fused, torch.maximum(visible, infrared))


def gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Eq. 19: mean |max(G(I_vis), G(I_ir)) - G(I_f)|, a scalar."""
    return F.l1_loss(sobel_magnitude(fused), torch.maximum(sobel_magnitude(visible), sobel_magnitude(infrared)))


def task_loss(fused: Tensor, infrared: Tensor, visible: Tensor, beta_grad: float = 10.0) -> Tensor:
    """Eq. 17 and 20: intensity_loss + beta_grad * gradient_loss, a scalar."""
    return intensity_loss(fused, infrared, visible) + beta_grad * gradient_loss(fused, infrared, visible)
