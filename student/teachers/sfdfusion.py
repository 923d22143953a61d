"""SFDFusion: a spatial branch and a branch on amplitude and phase of the Fourier transform."""

from typing import Any, Dict, Tuple

import torch
from torch import Tensor, nn

from irvis.student.teachers.fourier import Spectrum, invert, transform
from irvis.student.teachers.network import FusionNetwork, Output, min_max


class SFDFusion(FusionNetwork):
    """Hu et al., "SFDFusion: An Efficient Spatial-Frequency Domain Fusion Network ...", ECAI 2024.

    Each modality is refined by attention and by its learned gradients, amplitudes and phases are fused and transformed
    back, and five convolutions make the fused plane from all three; it is stretched to [0, 1].
    """

    feature = "input of fus_block.encoder: 24 x H x W"
    repository = "lqz2/SFDFusion"
    paper = (
        'Hu et al., "SFDFusion: An Efficient Spatial-Frequency Domain Fusion Network for Infrared and Visible '
        'Image Fusion", ECAI 2024'
    )
    multiple = 2  # the inverse transform returns an even width
    cast = "floor"

    def __init__(self) -> None:
        super().__init__()
        self.dmrm = Refinement()
        self.ff1 = SpectrumFusion()
        self.ff2 = SpectrumFusion()
        self.ifft = InverseTransform()
        self.fus_block = Decoder()

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        (amplitude_ir, phase_ir), (amplitude_vi, phase_vi) = to_polar(infrared), to_polar(visible)
        amplitude, phase = self.ff1(amplitude_ir, amplitude_vi), self.ff2(phase_ir, phase_vi)
        feature = torch.cat([self.dmrm(infrared, visible), self.ifft(amplitude, phase)], dim=1)
        return feature, min_max(self.fus_block(feature))

    @classmethod
    def unwrap(cls, contents: Dict[str, Any]) -> Dict[str, Any]:
        """Return what is under ``fuse_net``; a flat state dict is returned as it is."""
        return super().unwrap(contents.get("fuse_net", contents))


def to_polar(plane: Tensor) -> Tuple[Tensor, Tensor]:
    """Return amplitude and phase of the spectrum: (B, 1, H, W) -> two of (B, 1, H, W // 2 + 1)."""
    if torch.onnx.is_in_onnx_export():
        exported = transform(plane)
        return exported.amplitude, exported.phase
    spectrum = torch.fft.rfft2(plane)
    return spectrum.abs(), spectrum.angle()


def from_polar(amplitude: Tensor, phase: Tensor) -> Tensor:
    """Invert ``to_polar``: two of (B, 1, H, W / 2 + 1) -> (B, 1, H, W)."""
    real, imaginary = amplitude * torch.cos(phase) + 1e-8, amplitude * torch.sin(phase) + 1e-8
    if torch.onnx.is_in_onnx_export():
        return invert(Spectrum(real, imaginary), 2 * (real.shape[3] - 1))
    return torch.fft.irfft2(torch.complex(real, imaginary))


def _conv3x3(width_in: int, width_out: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width_out, 3, padding=1), activation)


class Refinement(nn.Module):
    """The dual-modality refinement module: two planes of (B, 1, H, W) -> (B, 16, H, W), infrared first."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.ir_embed, self.vi_embed = (_conv3x3(1, width, nn.ReLU()) for _ in range(2))
        self.ir_att1, self.ir_att2, self.vi_att1, self.vi_att2 = (Gate(width) for _ in range(4))
        self.grad_ir, self.grad_vi = Gradient(width), Gradient(width)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        ir, vi = self.ir_embed(infrared), self.vi_embed(visible)
        both = ir + vi
        refined_ir = self.ir_att1(ir) + self.ir_att2(both) + self.grad_ir(ir)
        refined_vi = self.vi_att1(vi) + self.vi_att2(both) + self.grad_vi(vi)
        return torch.cat([refined_ir, refined_vi], dim=1)


class Gate(nn.Module):
    """Scale each value by attention from its surroundings: (B, C, H, W) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.att = _conv3x3(width, width, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.att(x)


class Gradient(nn.Module):
    """|gx| + |gy| of each channel, by learned filters that started as Sobel's: (B, C, H, W) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convx = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.convy = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.convx(x).abs() + self.convy(x).abs()


class SpectrumFusion(nn.Module):
    """Fuse two amplitudes or two phases: (B, 1, H, W/2 + 1) each -> same."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(2, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
        self.conv1 = nn.Sequential(first, nn.LeakyReLU(0.1), second, nn.LeakyReLU(0.1))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        return self.conv1(torch.cat([infrared, visible], dim=1))


class InverseTransform(nn.Module):
    """Inverse transform of amplitude and phase, then two convolutions: (B, 1, H, W/2 + 1) each -> (B, 8, H, W)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        first, second = nn.Conv2d(2, width // 2, 3, padding=1), nn.Conv2d(width // 2, width, 3, padding=1)
        self.conv1 = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, amplitude: Tensor, phase: Tensor) -> Tensor:
        plane = from_polar(amplitude, phase).abs()
        # Maximum and mean over the channels in the published code, but there is only one channel.
        return self.conv1(torch.cat([plane, plane], dim=1))


class Decoder(nn.Module):
    """Five convolutions: (B, 24, H, W) -> (B, 1, H, W) in (-1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _conv3x3(24, 32, nn.ReLU())
        hidden = (_conv3x3(*widths, nn.ReLU()) for widths in ((32, 128), (128, 64), (64, 32)))
        self.down_conv = nn.Sequential(*hidden, _conv3x3(32, 1, nn.Tanh()))

    def forward(self, feature: Tensor) -> Tensor:
        return self.down_conv(self.encoder(feature))
