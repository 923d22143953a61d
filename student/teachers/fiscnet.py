"""FISCNet: the visible spectrum's magnitude with both phases, then spatial compensation from the two planes.

Module names are those of the published state dict; the blocks it shares with SHIP are in ``zheng_blocks``.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.teachers.fourier import Spectrum, invert, transform
from irvis.student.teachers.network import FusionNetwork, Output
from irvis.student.teachers.zheng_blocks import (
    DenseBlock,
    EdgeBlock,
    InvertibleBlock,
    Reconstruction,
    convolve_twice,
    variance_and_mean,
)


def join_phases(base: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """Return |inverse FFT(|FFT(base)| (e^(i phase(visible)) + e^(i phase(infrared))))|; three (B, C, H, W) -> one."""
    if torch.onnx.is_in_onnx_export():
        magnitude = transform(base).amplitude
        a, b = (transform(x).direction for x in (visible, infrared))
        both = Spectrum(magnitude * (a.real + b.real), magnitude * (a.imaginary + b.imaginary))
        return invert(both, base.shape[3]).abs()
    magnitude = torch.fft.rfft2(base.float()).abs()
    # Kept as angles, so that a coefficient of 0 has the phase 0, as in the published code.
    phases = [torch.fft.rfft2(x.float()).angle() for x in (visible, infrared)]
    spectrum = torch.polar(magnitude, phases[0]) + torch.polar(magnitude, phases[1])
    joined = torch.fft.irfft2(spectrum, s=base.shape[2:]).abs()
    return joined.contiguous(memory_format=torch.channels_last)


class MultiScaleBlock(nn.Module):
    """One dense block at full, half and quarter size, its three results weighted by channel and joined."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.ops = DenseBlock(c_in, c_out)
        self.fusepool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c_out, c_out, 1), nn.LeakyReLU(0.1))
        self.fc1, self.fc2, self.fc3 = (nn.Sequential(nn.Conv2d(c_out, c_out, 1), nn.LeakyReLU(0.1)) for _ in range(3))
        self.fuse = nn.Conv2d(3 * c_out, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H, W)."""
        scales = [self.ops(x)]
        for factor in (0.5, 0.25):
            y = self.ops(F.interpolate(x, scale_factor=factor, mode="bilinear"))
            scales.append(F.interpolate(y, size=x.shape[2:], mode="bilinear"))
        pooled = self.fusepool(scales[0] + scales[1] + scales[2])
        weights = (self.fc1(pooled), self.fc2(pooled), self.fc3(pooled))
        return self.fuse(torch.cat([y * weight for y, weight in zip(scales, weights)], dim=1))


class Interaction(nn.Module):
    """Compensate the fused feature with what each plane has beyond it: spatial attention, then channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        for plane in ("vis", "inf"):
            self.add_module(f"spa_att_{plane}", convolve_twice(c, c // 2, c, 3, nn.LeakyReLU(0.1)))
            self.add_module(f"cha_att_{plane}", convolve_twice(2 * c, c // 2, 2 * c, 1, nn.LeakyReLU(0.1)))
            self.add_module(f"post_{plane}", nn.Conv2d(2 * c, c, 3, padding=1))
        self.fused = InvertibleBlock(2 * c, MultiScaleBlock)
        self.post = nn.Conv2d(2 * c, c, 3, padding=1)

    def forward(self, fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
        """Three of (B, C, H, W) -> fused, the same."""
        both = [self.compensate("vis", fused, visible), self.compensate("inf", fused, infrared)]
        return self.post(self.fused(torch.cat(both, dim=1)))

    def compensate(self, plane: str, fused: Tensor, feature: Tensor) -> Tensor:
        """Two of (B, C, H, W) -> fused, the same."""
        attention = torch.sigmoid(self.get_submodule(f"spa_att_{plane}")(feature - fused))
        both = torch.cat([attention * fused + fused, fused], dim=1)
        variance, mean = variance_and_mean(both)
        attention = torch.sigmoid(self.get_submodule(f"cha_att_{plane}")(variance.sqrt() + mean))
        return self.get_submodule(f"post_{plane}")(attention * both) + fused


class Calibration(nn.Module):
    """Edge blocks for the fused, the visible and the infrared feature, then the interaction of the three."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.vis, self.inf, self.fused = (EdgeBlock(c_in, c_out) for _ in range(3))
        self.interaction = Interaction(c_out)

    def forward(self, fused: Tensor, visible: Tensor, infrared: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Three of (B, c_in, H, W) -> fused, visible and infrared of (B, c_out, H, W)."""
        fused, visible, infrared = self.fused(fused), self.vis(visible), self.inf(infrared)
        return self.interaction(join_phases(fused, visible, infrared), visible, infrared), visible, infrared


class FirstCalibration(Calibration):
    """The calibration of the planes themselves, whose phases are joined already."""

    def forward(self, fused: Tensor, visible: Tensor, infrared: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Three of (B, 1, H, W) -> fused, visible and infrared of (B, c_out, H, W)."""
        # As in the published code, one edge block serves all three; vis and inf are in the file but never run.
        fused, visible, infrared = self.fused(fused), self.fused(visible), self.fused(infrared)
        return self.interaction(fused, visible, infrared), visible, infrared


class FISCNet(FusionNetwork):
    """Zheng et al., "Frequency Integration and Spatial Compensation Network", Information Fusion, 2024.

    The visible plane's magnitude with the sum of both phases is a first fused plane; three calibrations in series
    refine its feature with those of the two planes, and the decoder makes the fused plane from it, clipped to [0, 1].
    """

    feature = "input of reconstruction: 16 x H x W"
    repository = "zheng980629/FISCNet"
    paper = (
        'Zheng et al., "Frequency Integration and Spatial Compensation Network for Infrared and Visible Image Fusion", '
        "Information Fusion 2024"
    )
    channels = 16

    def __init__(self) -> None:
        super().__init__()
        c = self.channels
        self.correction1 = FirstCalibration(1, c)
        self.correction2, self.correction3 = Calibration(c, c), Calibration(c, c)
        self.reconstruction = Reconstruction(c)

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        """Two of (B, 1, H, W) in [0, 1] -> (B, 16, H, W) and (B, 1, H, W) in [0, 1]."""
        feature = join_phases(visible, visible, infrared)
        for calibration in (self.correction1, self.correction2, self.correction3):
            feature, visible, infrared = calibration(feature, visible, infrared)
        return feature, self.reconstruction(feature).clamp(0, 1)
