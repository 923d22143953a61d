"""SeAFusion: two encoders of gradient residual dense blocks, and a decoder without skip connections."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output


class SeAFusion(FusionNetwork):
    """Tang et al. train fusion together with a segmentation network, so that the fused image serves the latter.

    ``fused`` is tanh / 2 + 0.5. When writing the colour image, the authors stretch it from its own minimum and maximum;
    ``cast`` does the same to the luminance.
    """

    feature = "input of decode4: 96 x H x W"
    repository = "Linfeng-Tang/SeAFusion"
    paper = (
        'Tang et al., "Image Fusion in the Loop of High-Level Vision Tasks: A Semantic-Aware Real-Time Infrared and '
        'Visible Image Fusion Network", Information Fusion 2022'
    )
    licence = "MIT"
    cast = "min-max, floor"

    def __init__(self) -> None:
        super().__init__()
        self.vis_conv = _Convolution(1, 16, 3)
        self.vis_rgbd1 = _GradientResidualDense(16, 32)
        self.vis_rgbd2 = _GradientResidualDense(32, 48)
        self.inf_conv = _Convolution(1, 16, 3)
        self.inf_rgbd1 = _GradientResidualDense(16, 32)
        self.inf_rgbd2 = _GradientResidualDense(32, 48)
        self.decode4 = _UnusedNorm(96, 64, 3)
        self.decode3 = _UnusedNorm(64, 32, 3)
        self.decode2 = _UnusedNorm(32, 16, 3)
        self.decode1 = _UnusedNorm(16, 1, 3)

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        """Return (B, 96, H, W) and (B, 1, H, W) in (0, 1)."""
        visible = self.vis_rgbd2(self.vis_rgbd1(_leaky(self.vis_conv(visible))))
        infrared = self.inf_rgbd2(self.inf_rgbd1(_leaky(self.inf_conv(infrared))))
        feature = torch.cat([visible, infrared], dim=1)
        decoded = feature
        for decode in (self.decode4, self.decode3, self.decode2):
            decoded = _leaky(decode(decoded))
        return feature, torch.tanh(self.decode1(decoded)) / 2 + 0.5


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


class _Convolution(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _UnusedNorm(_Convolution):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel)
        self.bn = nn.BatchNorm2d(outputs)  # in the published file, but never called by the published forward


class _Dense(nn.Module):
    """(B, C, H, W) -> (B, 3C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Convolution(channels, channels, 3)
        self.conv2 = _Convolution(2 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            x = torch.cat([x, _leaky(conv(x))], dim=1)
        return x


class _Gradient(nn.Module):
    """|gx| + |gy| of each channel, by kernels that start as Sobel's and are trained: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        self.convx = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.convy = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.convx.weight.data.copy_(sobel)
        self.convy.weight.data.copy_(sobel.T)

    def forward(self, x: Tensor) -> Tensor:
        return self.convx(x).abs() + self.convy(x).abs()


class _GradientResidualDense(nn.Module):
    """The paper's GRDB: (B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = _Dense(inputs)
        self.convdown = _Convolution(3 * inputs, outputs, 1)
        self.sobelconv = _Gradient(inputs)
        self.convup = _Convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.convdown(self.dense(x)) + self.convup(self.sobelconv(x)), 0.1)
