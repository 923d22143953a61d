"""CDDFuse, and what its family has in common. Attributes are named after the keys of the published state dict."""

from typing import Any, ClassVar, Dict, Tuple, Type

import torch
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output, min_max
from irvis.student.teachers.restormer import HEADS, LiteTransformer, TransformerBlock

CHANNELS = 64
# part of the flat state dict -> key of its state dict in the authors' file
PARTS = {"E": "DIDF_Encoder", "D": "DIDF_Decoder", "B": "BaseFuseLayer", "T": "DetailFuseLayer"}


class InvertedResidual(nn.Module):
    """Bottleneck of the detail branch, without a residual despite its name: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.bottleneckBlock = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU6(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(hidden, hidden, 3, groups=hidden, bias=False),
            nn.ReLU6(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.bottleneckBlock(x)


class AffineCoupling(nn.Module):
    """Invertible coupling of the two halves of the channels: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta_phi = InvertedResidual(channels // 2)
        self.theta_rho = InvertedResidual(channels // 2)
        self.theta_eta = InvertedResidual(channels // 2)
        self.shffleconv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.shffleconv(x).chunk(2, dim=1)
        second = second + self.theta_phi(first)
        first = first * torch.exp(self.theta_rho(second)) + self.theta_eta(second)
        return torch.cat([first, second], dim=1)


class DetailBranch(nn.Module):
    """Couplings in series, the detail (high-frequency) branch: (B, C, H, W) -> same."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*(AffineCoupling(channels) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class PatchEmbedding(nn.Module):
    """3x3 convolution: (B, 1, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, channels, 3, padding=1, bias=False)

    def forward(self, plane: Tensor) -> Tensor:
        return self.proj(plane)


class Encoder(nn.Module):
    """(B, 1, H, W) -> base and detail of (B, C, H, W) each; one encoder serves both infrared and visible."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(CHANNELS)
        self.encoder_level1 = nn.Sequential(*(TransformerBlock(CHANNELS, HEADS) for _ in range(4)))
        self.baseFeature = base
        self.detailFeature = DetailBranch(CHANNELS, layers=3)

    def forward(self, plane: Tensor) -> Tuple[Tensor, Tensor]:
        x = self.encoder_level1(self.patch_embed(plane))
        return self.baseFeature(x), self.detailFeature(x)


class Decoder(nn.Module):
    """Visible (B, 1, H, W), base and detail (B, C, H, W) -> feature (B, C, H, W), fused (B, 1, H, W) in (0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce_channel = nn.Conv2d(2 * CHANNELS, CHANNELS, 1, bias=False)
        self.encoder_level2 = nn.Sequential(*(TransformerBlock(CHANNELS, HEADS) for _ in range(4)))
        self.output = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS // 2, 3, padding=1, bias=False),
            nn.LeakyReLU(),
            nn.Conv2d(CHANNELS // 2, 1, 3, padding=1, bias=False),
        )

    def forward(self, visible: Tensor, base: Tensor, detail: Tensor) -> Output:
        feature = self.reduce_channel(torch.cat([base, detail], dim=1))
        return feature, torch.sigmoid(self.output(self.encoder_level2(feature)) + visible)


class CDDFuse(FusionNetwork):
    """Zhao et al., CVPR 2023: a shared encoder splits each plane into base and detail, which are fused separately.

    The base branch is a transformer, the detail branch is invertible. The sum of both planes' bases and the sum of
    their details each pass one more block of their branch; the decoder adds the result to the visible plane.
    """

    feature = "input of D.encoder_level2: 64 x H x W"
    repository = "Zhaozixiang1228/MMIF-CDDFuse"
    paper = (
        'Zhao et al., "CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition for Multi-Modality Image Fusion", '
        "CVPR 2023"
    )
    cast = "round"  # done by imageio, to which the authors pass floats of 0 to 255
    base_block: ClassVar[Type[nn.Module]] = LiteTransformer  # (channels), of the base branch

    def __init__(self) -> None:
        super().__init__()
        self.E = Encoder(self.base_block(CHANNELS))
        self.D = Decoder()
        self.B = self.base_block(CHANNELS)
        self.T = DetailBranch(CHANNELS, layers=1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        infrared_base, infrared_detail = self.E(infrared)
        visible_base, visible_detail = self.E(visible)
        base, detail = self.B(visible_base + infrared_base), self.T(visible_detail + infrared_detail)
        feature, fused = self.D(visible, base, detail)
        return feature, min_max(fused)

    @classmethod
    def unwrap(cls, contents: Dict[str, Any]) -> Dict[str, Any]:
        """Join the four state dicts of the authors' file; flat ones are returned as they are."""
        if not contents.keys() >= set(PARTS.values()):
            return super().unwrap(contents)
        flat = {part: super(CDDFuse, cls).unwrap(contents[name]) for part, name in PARTS.items()}
        return {f"{part}.{key}": value for part, state in flat.items() for key, value in state.items()}
