"""DATFuse: residual attention modules around two transformer blocks whose window is a single pixel."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output

CHANNELS = 16
HEADS = 8


class DATFuse(FusionNetwork):
    """Tang et al., "DATFuse: Infrared and Visible Image Fusion via Dual Attention Transformer", IEEE TCSVT 33(7), 2023.

    A 5x5 convolution, a module of channel and spatial attention, two transformer blocks, the same module again with the
    same weights, and a 1x1 convolution. The fused plane is in (-1, 1).
    """

    feature = "input of convolutional_out: 16 x H x W"
    repository = "tthinking/DATFuse"
    paper = (
        'Tang et al., "DATFuse: Infrared and Visible Image Fusion via Dual Attention Transformer", '
        "IEEE Transactions on Circuits and Systems for Video Technology 2023"
    )
    cast = "wrap"

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(2, CHANNELS, 5, padding=2, padding_mode="replicate")
        self.convolutional = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(CHANNELS), relu=nn.ReLU()))
        conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, padding_mode="replicate")
        self.fem = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(CHANNELS)))
        self.cam = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), fc=_squeeze_excite(), gate=nn.Sigmoid()))
        self.sam = nn.Sequential(OrderedDict(body=_spatial_attention()))
        # Never called: in the state dict only.
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(96)))
        blocks = nn.Sequential(Block(), Block())
        self.basicLayer = nn.Sequential(OrderedDict(blocks=blocks))
        self.convolutional_out = nn.Sequential(OrderedDict(conv=nn.Conv2d(CHANNELS, 1, 1), tanh=nn.Tanh()))

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        shallow = self.convolutional(torch.cat([infrared, visible], dim=1))
        extracted, attended = self.attend(shallow)
        encoded = torch.relu(attended + shallow)
        batch, channels, height, width = encoded.shape
        # The published code views (B, C, H, W) as (B, H, W, C) without moving the axes, so that a token is 16 values
        # along the rows of one channel. The weights were trained that way.
        tokens = self.basicLayer(encoded.reshape(batch, height, width, channels))
        extracted, attended = self.attend(tokens.reshape(batch, channels, height, width))
        feature = attended + extracted
        return feature, self.convolutional_out(feature)

    def attend(self, x: Tensor) -> Output:
        """Return the extracted features, then weighted by channel and by place: (B, 16, H, W) -> two of the same."""
        extracted = self.fem(torch.relu(self.fem(x)))
        return extracted, extracted * self.cam(extracted) + extracted * self.sam(extracted)


def _squeeze_excite() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS // 4, 1), nn.ReLU(), nn.Conv2d(CHANNELS // 4, CHANNELS, 1))


def _spatial_attention() -> nn.Sequential:
    hidden = CHANNELS // 4
    squeeze, score = nn.Conv2d(CHANNELS, hidden, 3, padding=1), nn.Conv2d(hidden, 1, 3, padding=1)
    return nn.Sequential(squeeze, nn.BatchNorm2d(hidden), nn.ReLU(), score, nn.BatchNorm2d(1), nn.Sigmoid())


class Block(nn.Module):
    """Transformer block: (B, H, W, 16) -> same."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.attn = PixelAttention()
        self.norm2 = nn.LayerNorm(CHANNELS)
        fc1, fc2 = nn.Linear(CHANNELS, 4 * CHANNELS), nn.Linear(4 * CHANNELS, CHANNELS)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, gelu=nn.GELU(), fc2=fc2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PixelAttention(nn.Module):
    """Window attention with a window of one token: (B, H, W, 16) -> same.

    The softmax is over a single value, so it is 1 whatever the query, key and position bias are. It is computed anyway,
    so that time and multiply-adds are those of the published network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(1, HEADS))
        self.register_buffer("relative_position_index", torch.zeros(1, 1, dtype=torch.long))
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.softmax = nn.Softmax(dim=-1)
        self.proj = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(*x.shape[:3], 3, HEADS, CHANNELS // HEADS).unbind(3)
        score = (q * k).sum(-1, keepdim=True) * (CHANNELS // HEADS) ** -0.5
        score = score + self.relative_position_bias_table.reshape(HEADS, 1)
        return self.proj((self.softmax(score) * v).flatten(3))
