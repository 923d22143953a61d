"""SHIP, the paper's teacher: high-order spatial and channel interaction of infrared and visible features.

Module names are those of the published state dict.
"""

import torch
from torch import Tensor, nn

from irvis.student.teachers.fourier import Spectrum, invert, transform
from irvis.student.teachers.network import FusionNetwork, Output
from irvis.student.teachers.zheng_blocks import EdgeBlock, InvertibleBlock, Reconstruction, convolve_twice, plane_mean


def convolve_circularly(x: Tensor, y: Tensor) -> Tensor:
    """Two of (B, C, H, W) -> the same."""
    if not torch.onnx.is_in_onnx_export():
        return torch.fft.irfft2(torch.fft.rfft2(x.float()) * torch.fft.rfft2(y.float()), s=x.shape[2:])
    # Without the means, whose product is the greater part of the result and would cost the rest its last digits.
    mean_x, mean_y = plane_mean(x), plane_mean(y)
    a, b = transform(x - mean_x), transform(y - mean_y)
    real = a.real * b.real - a.imaginary * b.imaginary
    product = Spectrum(real, a.real * b.imaginary + a.imaginary * b.real)
    return invert(product, x.shape[3]) + mean_x * mean_y * (x.shape[2] * x.shape[3])


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SpatialInteraction(nn.Module):
    """Products of the two features up to the fourth order; the first is their circular convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for order in (1, 2, 3):
            for name in ("reflashFused", "reflashInfrared"):
                pair = convolve_twice(channels, channels, channels, 3, nn.ReLU(inplace=True))
                self.add_module(f"{name}{order}", pair)
            self.add_module(f"norm{order + 1}", PixelNorm(channels))
        self.norm1 = PixelNorm(channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Output:
        """Two of (B, C, H, W) -> visible and infrared, the same."""
        fused = self.norm1(convolve_circularly(visible, infrared)) * infrared
        for order in (1, 2, 3):
            fused = self.get_submodule(f"norm{order + 1}")(self.get_submodule(f"reflashFused{order}")(fused))
            infrared = self.get_submodule(f"reflashInfrared{order}")(infrared)
            fused = fused * infrared
        return fused + visible, infrared


class ChannelInteraction(nn.Module):
    """Repeated channel attention, up to the fourth order."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        both = 2 * channels
        self.chaAtten = convolve_twice(both, channels, both, 1, nn.ReLU(inplace=True))
        for order in (1, 2, 3):
            attention = convolve_twice(both, channels, both, 1, nn.ReLU(inplace=True))
            self.add_module(f"reflashChaAtten{order}", attention)
            self.add_module(f"reflashFused{order}", convolve_twice(both, both, both, 3, nn.ReLU(inplace=True)))
        self.postprocess = nn.Sequential(InvertibleBlock(both), nn.Conv2d(both, channels, 1))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Two of (B, C, H, W) -> visible, the same."""
        both = torch.cat([visible, infrared], dim=1)
        attention = self.chaAtten(plane_mean(both)).softmax(dim=1)
        fused = both * attention
        for order in (1, 2, 3):
            attention = self.get_submodule(f"reflashChaAtten{order}")(attention).softmax(dim=1)
            fused = self.get_submodule(f"reflashFused{order}")(fused) * attention
        return self.postprocess(fused) + visible


class Interaction(nn.Module):
    """The spatial interaction, then the channel interaction."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = SpatialInteraction(channels)
        self.channel = ChannelInteraction(channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Output:
        """Two of (B, C, H, W) -> visible and infrared, the same."""
        visible, infrared = self.spatial(visible, infrared)
        return self.channel(visible, infrared), infrared


class Encoder(nn.Module):
    """A 1x1 convolution and two edge blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 1)
        self.block1 = EdgeBlock(channels, channels)
        self.block2 = EdgeBlock(channels, channels)

    def forward(self, plane: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, C, H, W)."""
        return self.block2(self.block1(self.conv(plane)))


class SHIP(FusionNetwork):
    """Zheng et al., "Probing Synergistic High-Order Interaction in Infrared and Visible Image Fusion", CVPR 2024.

    Three interactions in series turn the two encoded planes into three visible features; an invertible block joins
    them, and the decoder makes the fused plane from that, clipped to [0, 1].
    """

    feature = "input of reconstruction: 16 x H x W"
    repository = "zheng980629/SHIP"
    paper = 'Zheng et al., "Probing Synergistic High-Order Interaction in Infrared and Visible Image Fusion", CVPR 2024'
    channels = 16

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        self.vis, self.inf = Encoder(c), Encoder(c)
        self.interaction1, self.interaction2, self.interaction3 = (Interaction(c) for _ in range(3))
        self.postprocess = nn.Sequential(InvertibleBlock(3 * c), nn.Conv2d(3 * c, c, 1))
        self.reconstruction = Reconstruction(c)

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        """Two of (B, 1, H, W) in [0, 1] -> (B, 16, H, W) and (B, 1, H, W) in [0, 1]."""
        visible, infrared = self.vis(visible), self.inf(infrared)
        stages = []
        for interaction in (self.interaction1, self.interaction2, self.interaction3):
            visible, infrared = interaction(visible, infrared)
            stages.append(visible)
        feature = self.postprocess(torch.cat(stages, dim=1))
        return feature, self.reconstruction(feature).clamp(0, 1)
