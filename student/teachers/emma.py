"""EMMA's U-Fuser: two encoders and a decoder in a U of four scales, with attention and convolution side by side."""

from collections import OrderedDict
from typing import List

import torch
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output, min_max
from irvis.student.teachers.restormer import LiteTransformer

WIDTHS = (8, 16, 32, 32)  # of the four scales, each half the size of the one before


class EMMA(FusionNetwork):
    """Zhao et al., "Equivariant Multi-Modality Image Fusion", CVPR 2024: the fusion module.

    The maps of both encoders are fused at every scale, and the decoder goes back up by transposed convolutions. The
    fused plane is stretched to [0, 1].
    """

    feature = "input of de_4: 32 x H/8 x W/8"
    repository = "Zhaozixiang1228/MMIF-EMMA"
    paper = 'Zhao et al., "Equivariant Multi-Modality Image Fusion", CVPR 2024'
    multiple = 8
    cast = "round"  # by scikit-image, to which the authors pass floats in [0, 255]

    def __init__(self) -> None:
        super().__init__()
        for level, width in enumerate(WIDTHS, start=1):
            finer = WIDTHS[level - 2] if level > 1 else 1
            for modality in "VI":
                self.add_module(f"{modality}_en_{level}", Block(finer, width))
                if level < 4:
                    self.add_module(f"{modality}_down{level}", _conv3x3(width, width, stride=2, bias=False))
            self.add_module(f"f_{level}", Block(2 * width, width))
            self.add_module(f"de_{level}", Block(2 * width if level < 4 else width, width))
            if level > 1:
                up = nn.ConvTranspose2d(width, finer, 4, stride=2, padding=1, bias=False)
                self.add_module(f"up{level}", nn.Sequential(up, nn.ReLU()))
        self.last = nn.Sequential(_conv3x3(WIDTHS[0], 1), nn.Sigmoid())

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        infrared_maps, visible_maps = self.encode(infrared, "I"), self.encode(visible, "V")
        scales = [
            self.get_submodule(f"f_{level}")(torch.cat(maps, dim=1))
            for level, maps in enumerate(zip(infrared_maps, visible_maps), start=1)
        ]
        feature = scales[-1]
        x = self.get_submodule("de_4")(feature)
        for level in (3, 2, 1):
            up = self.get_submodule(f"up{level + 1}")(x)
            x = self.get_submodule(f"de_{level}")(torch.cat([up, scales[level - 1]], dim=1))
        return feature, min_max(self.last(x))

    def encode(self, plane: Tensor, modality: str) -> List[Tensor]:
        """Return the four maps of one modality, "I" or "V", finest first."""
        maps = [self.get_submodule(f"{modality}_en_1")(plane)]
        for level in (2, 3, 4):
            down = self.get_submodule(f"{modality}_down{level - 1}")
            maps.append(self.get_submodule(f"{modality}_en_{level}")(down(maps[-1])))
        return maps


def _conv3x3(width_in: int, width_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=bias, padding_mode="reflect")


class Block(nn.Module):
    """Attention beside two residual blocks, between two convolutions: (B, width_in, H, W) -> (B, width, H, W)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.embed = _conv3x3(width_in, width, bias=False)
        self.GlobalFeature = LiteTransformer(width, padding_mode="reflect")
        residual_blocks = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.LocalFeature = nn.Sequential(OrderedDict(Extraction=residual_blocks))
        self.FFN = _conv3x3(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.FFN(torch.cat([self.GlobalFeature(x), self.LocalFeature(x)], dim=1))


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))): (B, C, H, W) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv3x3(width, width), nn.ReLU(), _conv3x3(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)
