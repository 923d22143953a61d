"""PFCFuse: CDDFuse whose base branch pools instead of attending."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.teachers.cddfuse import CDDFuse
from irvis.student.teachers.restormer import LayerNorm


class MLP(nn.Module):
    """Two 1x1 convolutions: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.fc2 = nn.Conv2d(4 * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PoolFormer(nn.Module):
    """PoolFormer block (Yu et al., CVPR 2022), which mixes pixels by a 3x3 mean: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        # At the border the mean includes the padding's zeros, as in the authors' pooling.
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.norm2 = LayerNorm(channels)
        self.poolmlp = MLP(channels)
        self.layer_scale_1 = nn.Parameter(torch.full((channels,), 1e-5))
        self.layer_scale_2 = nn.Parameter(torch.full((channels,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.norm1(x)
        x = x + self.layer_scale_1[:, None, None] * (self.pool(normalised) - normalised)
        return x + self.layer_scale_2[:, None, None] * self.poolmlp(self.norm2(x))


class PFCFuse(CDDFuse):
    """Hu et al., IEEE TIM 2024: CDDFuse whose base branch is a PoolFormer block, with its own weights."""

    repository = "HXY13/PFCFuse-Image-Fusion"
    paper = (
        'Hu et al., "PFCFuse: A Poolformer and CNN Fusion Network for Infrared-Visible Image Fusion", '
        "IEEE Transactions on Instrumentation and Measurement 2024"
    )
    cast = "floor"
    base_block = PoolFormer
