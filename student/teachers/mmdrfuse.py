"""MMDRFuse: its teacher, a U-shaped network of 13 convolutions, and the student of 113 parameters taught by it."""

import torch
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output

_REPOSITORY = "yanglinDeng/MMDRFuse"
_PAPER = (
    'Deng et al., "MMDRFuse: Distilled Mini-Model with Dynamic Refresh for Multi-Modality Image Fusion", '
    "ACM Multimedia 2024"
)


class MMDRFuseTeacher(FusionNetwork):
    """The teacher: six convolutions in, seven out, the deeper four of each at half size. ``fused`` is a tanh."""

    feature = "input of conv66: 64 x H/2 x W/2"
    repository = _REPOSITORY
    paper = _PAPER
    multiple = 2
    # The authors write by scipy.misc.imsave, which stretches and then rounds.
    cast = "min-max, round"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(2, 32)
        self.conv2 = _convolution(32, 32)
        self.conv3 = _convolution(64, 64, stride=2)
        self.conv4 = _convolution(64, 64)
        self.conv5 = _convolution(128, 64)
        self.conv6 = _convolution(192, 64)
        self.conv66 = _convolution(64, 64)
        self.conv55 = _convolution(128, 64)
        self.conv44 = _convolution(128, 64)
        self.conv33 = _convolution(128, 64)
        self.conv22 = _convolution(96, 32)
        self.conv11 = _convolution(64, 4)
        self.conv00 = _convolution(4, 1, activation=nn.Tanh)
        self.up = nn.Upsample(scale_factor=2, mode="bicubic")

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        """Return (B, 64, H/2, W/2) and (B, 1, H, W) in (-1, 1)."""
        full1 = self.conv1(torch.cat([infrared, visible], dim=1))
        full2 = self.conv2(full1)
        half3 = self.conv3(torch.cat([full1, full2], dim=1))
        half4 = self.conv4(half3)
        half5 = self.conv5(torch.cat([half3, half4], dim=1))
        feature = self.conv6(torch.cat([half3, half4, half5], dim=1))
        decoded = self.conv66(feature)
        decoded = self.conv55(torch.cat([half5, decoded], dim=1))
        decoded = self.conv44(torch.cat([half4, decoded], dim=1))
        decoded = self.conv33(torch.cat([half3, decoded], dim=1))
        decoded = self.conv22(torch.cat([full2, self.up(decoded)], dim=1))
        decoded = self.conv11(torch.cat([full1, decoded], dim=1))
        return feature, self.conv00(decoded)


class MMDRFuseStudent(FusionNetwork):
    """The student: two convolutions. ``fused`` is a tanh."""

    feature = "input of conv2: 4 x H x W"
    repository = _REPOSITORY
    paper = _PAPER
    # The authors write by scipy.misc.imsave, which stretches and then rounds.
    cast = "min-max, round"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(2, 4)
        self.conv2 = _convolution(4, 1, activation=nn.Tanh)

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        """Return (B, 4, H, W) and (B, 1, H, W) in (-1, 1)."""
        feature = self.conv1(torch.cat([infrared, visible], dim=1))
        return feature, self.conv2(feature)


def _convolution(inputs: int, outputs: int, stride: int = 1, activation: type = nn.ReLU) -> nn.Sequential:
    # Reflection as a separate module, since the convolution is the second in the published keys.
    return nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3, stride), activation())
