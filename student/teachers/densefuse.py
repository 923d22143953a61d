"""DenseFuse, the grey network of the authors' PyTorch version: one dense encoder for both images, mean, decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output


class DenseFuse(FusionNetwork):
    """Li and Wu train an auto-encoder on photographs, and fuse by the mean of both images' codes ("addition").

    Everything inside is on the scale 0..255, including the feature. ``fused`` is clipped to 0..255 and divided by 255.
    """

    feature = "input of conv2: 64 x H x W"
    repository = "hli1221/densefuse-pytorch"
    paper = (
        'Li and Wu, "DenseFuse: A Fusion Approach to Infrared and Visible Images", '
        "IEEE Transactions on Image Processing 2019"
    )
    cast = "floor"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _Convolution(1, 16)
        self.DB1 = _DenseBlock(16)
        self.conv2 = _Convolution(64, 64)
        self.conv3 = _Convolution(64, 32)
        self.conv4 = _Convolution(32, 16)
        self.conv5 = _Convolution(16, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        """Return (B, 64, H, W) and (B, 1, H, W) in [0, 1]."""
        feature = (self._encode(infrared) + self._encode(visible)) / 2
        decoded = self.conv5(self.conv4(self.conv3(self.conv2(feature))))
        return feature, decoded.clamp(0, 255) / 255

    def _encode(self, plane: Tensor) -> Tensor:
        return self.DB1(self.conv1(plane * 255))


class _Convolution(nn.Module):
    """3 x 3 convolution with reflected edges and ReLU, even as the network's last layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2d(x))


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense_conv = _Convolution(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.dense_conv(x)], dim=1)


class _DenseBlock(nn.Module):
    """(B, C, H, W) -> (B, 4C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.denseblock = nn.Sequential(*(_Dense(count * channels, channels) for count in (1, 2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.denseblock(x)
