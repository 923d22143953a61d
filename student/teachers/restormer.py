"""The Restormer block and its dense variant, as used in CDDFuse, PFCFuse and EMMA.

Attributes are named after the keys of the published state dicts.

Source: Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR 2022.
"""

from typing import Literal, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.network import ChannelLayerNorm

HEADS = 8
PaddingMode = Literal["zeros", "reflect"]


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = ChannelLayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def attend_channels(qkv: Tensor, temperature: Tensor) -> Tensor:
    """softmax(temperature * q k^T / (|q| |k|)) v between channels: (B, 3C, H, W), (heads, 1, 1) -> (B, C, H, W)."""
    batch, channels, height, width = qkv.shape
    q, k, v = qkv.reshape(batch, 3, len(temperature), -1, height * width).unbind(1)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attention = torch.softmax(temperature * (q @ k.transpose(-2, -1)), dim=-1)
    return (attention @ v).reshape(batch, channels // 3, height, width)


class TransposedAttention(nn.Module):
    """Multi-head attention between channels (MDTA): (B, C, H, W) -> same."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.project_out(attend_channels(self.qkv_dwconv(self.qkv(x)), self.temperature))


class GatedFeedForward(nn.Module):
    """Gated feed-forward (GDFN): (B, C, H, W) -> same. Its 3x3 convolution is depthwise unless ``groups`` is given."""

    def __init__(
        self, channels: int, hidden: int, groups: Optional[int] = None, padding_mode: PaddingMode = "zeros"
    ) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        groups, width = groups or 2 * hidden, 2 * hidden
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False, padding_mode=padding_mode)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class TransformerBlock(nn.Module):
    """Restormer block: (B, C, H, W) -> same."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.attn = TransposedAttention(channels, heads)
        self.norm2 = LayerNorm(channels)
        self.ffn = GatedFeedForward(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class DenseAttention(nn.Module):
    """Attention between channels with queries, keys and values from a dense 3x3 convolution: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv1 = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv2 = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, bias=False)
        self.proj = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attend_channels(self.qkv2(self.qkv1(x)), self.scale))


class LiteTransformer(nn.Module):
    """Restormer block with dense attention and a feed-forward of two channels per group: (B, C, H, W) -> same.

    ``padding_mode`` applies only to the feed-forward; the attention pads with zeros.
    """

    def __init__(self, channels: int, padding_mode: PaddingMode = "zeros") -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.attn = DenseAttention(channels)
        self.norm2 = LayerNorm(channels)
        self.mlp = GatedFeedForward(channels, channels, groups=channels, padding_mode=padding_mode)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
