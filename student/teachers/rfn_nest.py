"""RFN-Nest: an auto-encoder of four scales with a nested decoder, and a residual fusion network between its halves."""

from typing import Any, Dict, List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output, min_max

_CHANNELS = (64, 112, 160, 208)  # of the scales, from full size to 1/8


class RFNNest(FusionNetwork):
    """Li et al. train the auto-encoder (NestFuse) on photographs, then the fusion of its codes (RFN) on image pairs.

    The authors publish two files, which ``torch.save({"nest": torch.load(...), "rfn": torch.load(...)}, path)`` joins;
    ``unwrap`` tells them apart by their keys and returns one flat dict with the prefixes ``nest.`` and ``rfn.``.
    Everything inside is on the scale 0..255. ``fused`` is stretched to [0, 1], as in the authors' loss and test: the
    decoded plane has no scale of its own. They cut images above 512 pixels into four overlapping ones; here none are.
    """

    feature = "output of fusion_block1: 64 x H x W"
    repository = "hli1221/imagefusion-rfn-nest"
    paper = (
        'Li et al., "RFN-Nest: An End-to-End Residual Fusion Network for Infrared and Visible Images", '
        "Information Fusion 2021"
    )
    cast = "floor"

    def __init__(self) -> None:
        super().__init__()
        self.nest = _Nest()
        self.rfn = _ResidualFusion()

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        """Return (B, 64, H, W) and (B, 1, H, W) in [0, 1]; H and W from 16 up."""
        scales = self.rfn(self.nest.encode(infrared * 255), self.nest.encode(visible * 255))
        return scales[0], min_max(self.nest.decode(scales))

    @classmethod
    def unwrap(cls, contents: Dict[str, Any]) -> Dict[str, Any]:
        """Return the flat state dict from a dict of the authors' two, from their merged keys, or from a flat one."""
        flat: Dict[str, Any] = {}
        for name, value in contents.items():
            flat.update(value if isinstance(value, dict) else {name: value})
        return {_prefixed(name): value for name, value in super().unwrap(flat).items()}


def _prefixed(name: str) -> str:
    if name.startswith(("nest.", "rfn.")):
        return name
    return ("rfn." if name.startswith("fusion_block") else "nest.") + name


class _Convolution(nn.Module):
    """Convolution with reflected edges and ReLU, even as the network's last layer."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2d(x))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.denseblock = nn.Sequential(_Convolution(inputs, inputs // 2, 3), _Convolution(inputs // 2, outputs, 1))

    def forward(self, *maps: Tensor) -> Tensor:
        return self.denseblock(torch.cat(maps, dim=1))


class _Nest(nn.Module):
    """The auto-encoder. Block ``DB{i}_{j}`` works at scale i and is the j-th there; j = 0 encodes."""

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = _CHANNELS
        self.conv0 = _Convolution(1, 16, 1)
        self.DB1_0 = _Block(16, c1)
        self.DB2_0 = _Block(c1, c2)
        self.DB3_0 = _Block(c2, c3)
        self.DB4_0 = _Block(c3, c4)
        self.DB1_1 = _Block(c1 + c2, c1)
        self.DB2_1 = _Block(c2 + c3, c2)
        self.DB3_1 = _Block(c3 + c4, c3)
        self.DB1_2 = _Block(2 * c1 + c2, c1)
        self.DB2_2 = _Block(2 * c2 + c3, c2)
        self.DB1_3 = _Block(3 * c1 + c2, c1)
        self.conv_out = _Convolution(c1, 1, 1)
        self.up = nn.Upsample(scale_factor=2)  # a module, so that thop counts it as in the authors' code

    def encode(self, plane: Tensor) -> List[Tensor]:
        """(B, 1, H, W) in 0..255 -> four maps at H, H/2, H/4 and H/8, odd sizes rounded down."""
        scales = [self.DB1_0(self.conv0(plane))]
        for block in (self.DB2_0, self.DB3_0, self.DB4_0):
            scales.append(block(F.max_pool2d(scales[-1], 2)))
        return scales

    def decode(self, scales: List[Tensor]) -> Tensor:
        """Four maps, as from ``encode`` -> (B, 1, H, W)."""
        x1, x2, x3, x4 = scales
        x1_1 = self.DB1_1(x1, self._up(x2, x1))
        x2_1 = self.DB2_1(x2, self._up(x3, x2))
        x3_1 = self.DB3_1(x3, self._up(x4, x3))
        x1_2 = self.DB1_2(x1, x1_1, self._up(x2_1, x1))
        x2_2 = self.DB2_2(x2, x2_1, self._up(x3_1, x2))
        x1_3 = self.DB1_3(x1, x1_1, x1_2, self._up(x2_2, x1))
        return self.conv_out(x1_3)

    def _up(self, x: Tensor, like: Tensor) -> Tensor:
        """Double the size; if pooling dropped a last row or column, reflect one in its place."""
        x = self.up(x)
        missing = (0, like.shape[3] - x.shape[3], 0, like.shape[2] - x.shape[2])
        return F.pad(x, missing, mode="reflect") if any(missing) else x


class _FusionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_fusion = _Convolution(2 * channels, channels, 3)
        self.conv_ir = _Convolution(channels, channels, 3)
        self.conv_vi = _Convolution(channels, channels, 3)
        self.bottelblock = nn.Sequential(
            _Convolution(2 * channels, channels, 1),
            _Convolution(channels, channels, 3),
            _Convolution(channels, channels, 3),
        )

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        residual = self.bottelblock(torch.cat([self.conv_ir(infrared), self.conv_vi(visible)], dim=1))
        return self.conv_fusion(torch.cat([infrared, visible], dim=1)) + residual


class _ResidualFusion(nn.Module):
    """The RFN: one fusion block per scale."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion_block1 = _FusionBlock(_CHANNELS[0])
        self.fusion_block2 = _FusionBlock(_CHANNELS[1])
        self.fusion_block3 = _FusionBlock(_CHANNELS[2])
        self.fusion_block4 = _FusionBlock(_CHANNELS[3])

    def forward(self, infrared: List[Tensor], visible: List[Tensor]) -> List[Tensor]:
        blocks = (self.fusion_block1, self.fusion_block2, self.fusion_block3, self.fusion_block4)
        return [block(*pair) for block, pair in zip(blocks, zip(infrared, visible))]
