"""The student: a CNN-Transformer of 77,713 parameters that fuses one infrared and one visible plane.

Source: Zhang et al., "Infrared-Visible Image Fusion via Heterogeneous Multi-Level Distillation", Acta Electronica
Sinica 53(12), 2025, section 3.3. Equation numbers below are that paper's. Module names are its terms.
"""

from dataclasses import dataclass
from typing import Callable, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.runtime.sizes import MINIMUM

STRIDES = (1, 2, 4, 8)  # so that 2x2 pixels are left of the smallest frame


@dataclass(frozen=True)
class StudentConfig:
    """Shape of the student. The defaults are the paper's."""

    channels: int = 32  # C of eq. 9
    heads: int = 4  # of the transposed attention
    global_blocks: int = 3  # RSTBs in series, eq. 10; 0 leaves the global branch out
    local_blocks: int = 3  # DACBs in series, eq. 11; 0 leaves the local branch out
    expansion: int = 2  # hidden width of the feed-forward and of the DACB, in units of C
    reduction: int = 2  # of the squeeze-excite, eq. 12
    # Not in the paper: the RSTBs of the global branch, and that of the fusion, run at 1/stride of the frame's sides.
    global_stride: int = 1
    fusion_stride: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name.endswith("_blocks") else 1
            # Bounded, since a checkpoint's config is used before its tensors are checked.
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 1024:
                raise ValueError(f"StudentConfig.{name} must be an integer from {least} to 1024. Got {value!r}")
        for name, divisor in (("heads", self.heads), ("reduction", self.reduction), ("2 encoders", 2)):
            if self.channels % divisor:
                raise ValueError(
                    f"StudentConfig.channels must be divisible by {name}. Got {self.channels} and {divisor}"
                )
        for name in ("global_stride", "fusion_stride"):
            if getattr(self, name) not in STRIDES:
                strides = ", ".join(map(str, STRIDES))
                raise ValueError(f"StudentConfig.{name} must be one of {strides}. Got {getattr(self, name)}")


class Encoder(nn.Module):
    """E_ir or E_vis of eq. 9: (B, 1, H, W) -> (B, C/2, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, plane: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(plane))))


class ChannelLayerNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with weight and bias: (B, C, H, W) -> same."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        normalised = centred / torch.sqrt(variance + self.eps)
        return normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class TransposedAttention(nn.Module):
    """Multi-head attention between channels (Restormer's MDTA): (B, C, H, W) -> same.

    softmax(temperature * q k^T / (|q| |k|)) v with q, k, v of C/heads x HW each, so its cost is linear in H * W.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_depthwise = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv_depthwise(self.qkv(x)).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        q, k, v = qkv[:, 0], qkv[:, 1], qkv[:, 2]
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = torch.softmax(self.temperature * (q @ k.transpose(-2, -1)), dim=-1)
        return self.project_out((attention @ v).reshape(batch, channels, height, width))


class GatedFeedForward(nn.Module):
    """Gated depthwise-convolution feed-forward (Restormer's GDFN): (B, C, H, W) -> same."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.project_out.in_channels
        gate, value = torch.split(self.depthwise(self.project_in(x)), [hidden, hidden], dim=1)
        return self.project_out(F.gelu(gate) * value)


class RSTB(nn.Module):
    """Restormer block (Zamir et al., CVPR 2022): (B, C, H, W) -> same."""

    def __init__(self, channels: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(channels)
        self.attention = TransposedAttention(channels, heads)
        self.norm2 = ChannelLayerNorm(channels)
        self.feed_forward = GatedFeedForward(channels, expansion * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class ChannelAttention(nn.Module):
    """Squeeze-excite, eq. 12: (B, C, H, W) -> same, each channel scaled by a factor in (0, 1)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction, bias=False)
        self.excite = nn.Linear(channels // reduction, channels, bias=False)

    def scale(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1) in (0, 1)."""
        # A mean rather than nn.AdaptiveAvgPool2d, which thop would add to the multiply-adds that the paper counts.
        factors = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))))
        return factors[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x)


class DACB(nn.Module):
    """Detail-aware convolution block: (B, C, H, W) -> same."""

    def __init__(self, channels: int, expansion: int, reduction: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.pointwise1 = nn.Conv2d(channels, expansion * channels, 1)
        self.pointwise2 = nn.Conv2d(expansion * channels, channels, 1)
        self.channel_attention = ChannelAttention(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        detail = self.pointwise2(F.relu(self.pointwise1(self.depthwise(x))))
        return x + self.channel_attention(detail)


def at_stride(blocks: Callable[[Tensor], Tensor], x: Tensor, stride: int) -> Tensor:
    """Return x + up(blocks(down(x)) - down(x)), (B, C, H, W): the change by ``blocks``, at 1/stride of the sides.

    ``down`` halves the sides, rounding up, log2(``stride``) times; ``up`` goes back in one step. Both are bilinear (so
    halving even sides averages four pixels) and commute with a 1x1 convolution, since they treat all channels alike and
    keep constants.
    """
    if stride == 1:
        return blocks(x)
    small = shrink(x, stride)
    return x + grow(blocks(small) - small, x)


def shrink(x: Tensor, stride: int) -> Tensor:
    """Apply ``down`` of ``at_stride``."""
    while stride > 1:
        sides = [(side + 1) // 2 for side in x.shape[2:]]
        x = F.interpolate(x, size=sides, mode="bilinear", align_corners=False)
        stride //= 2
    return x


def grow(small: Tensor, like: Tensor) -> Tensor:
    """Apply ``up`` of ``at_stride``, to the height and width of ``like``."""
    return F.interpolate(small, size=like.shape[2:], mode="bilinear", align_corners=False)


class Fusion(nn.Module):
    """Eq. 13 and 14: F_g and F_l of (B, C, H, W) each -> F_f of (B, C, H, W), the feature that is distilled.

    If there is only one feature, the 1x1 convolution has only the half of its weights for that feature.
    """

    def __init__(self, channels: int, heads: int, expansion: int, features: int = 2, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(features * channels, channels, 1)
        self.rstb = RSTB(channels, heads, expansion)

    def forward(self, *features: Tensor) -> Tensor:
        return at_stride(self.rstb, self.conv(torch.cat(features, dim=1)), self.stride)


class Decoder(nn.Module):
    """Eq. 15: (B, C, H, W) -> (B, 1, H, W) in (0, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(channels // 2, 1, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        return torch.sigmoid(self.conv2(F.leaky_relu(self.conv1(feature))))


class Student(nn.Module):
    """The fusion network of section 3.3.

    ``forward(infrared, visible)`` takes two luminance planes of (B, 1, H, W) in [0, 1], any H and W from 16 up, and
    returns the fused plane I_f of (B, 1, H, W) in (0, 1); with ``return_feature=True`` also F_f of (B, C, H, W).
    A branch without blocks is left out; without both branches, F_0 itself is fused.
    Raises ValueError if the two planes differ in shape, are not (B, 1, H, W), or are smaller than 16 x 16.
    """

    def __init__(self, config: StudentConfig = StudentConfig()) -> None:
        super().__init__()
        self.config = config
        c, heads, expansion = config.channels, config.heads, config.expansion
        self.encoder_ir = Encoder(c // 2)
        self.encoder_vis = Encoder(c // 2)
        self.global_branch = nn.Sequential(*(RSTB(c, heads, expansion) for _ in range(config.global_blocks)))
        self.local_branch = nn.Sequential(*(DACB(c, expansion, config.reduction) for _ in range(config.local_blocks)))
        branches = bool(config.global_blocks) + bool(config.local_blocks)
        self.fusion = Fusion(c, heads, expansion, max(1, branches), config.fusion_stride)
        self.decoder = Decoder(c)

    def forward(
        self, infrared: Tensor, visible: Tensor, return_feature: bool = False
    ) -> Union[Tensor, Tuple[Tensor, Tensor]]:
        check_planes(infrared, visible)
        feature_0 = torch.cat([self.encoder_ir(infrared), self.encoder_vis(visible)], dim=1)
        features = []
        if len(self.global_branch):
            features.append(at_stride(self.global_branch, feature_0, self.config.global_stride))
        if len(self.local_branch):
            features.append(self.local_branch(feature_0))
        feature_f = self.fusion(*features or [feature_0])
        fused = self.decoder(feature_f)
        return (fused, feature_f) if return_feature else fused


def check_planes(infrared: Tensor, visible: Tensor) -> None:
    """Raise ValueError unless both are (B, 1, H, W), equal in shape, and at least 16 x 16."""
    if infrared.ndim != 4 or infrared.shape[1] != 1 or infrared.shape != visible.shape:
        raise ValueError(
            "infrared and visible must both be (B, 1, H, W), equal in size. "
            f"Got {tuple(infrared.shape)} and {tuple(visible.shape)}"
        )
    if min(infrared.shape[2:]) < MINIMUM:
        raise ValueError(f"frames must be at least {MINIMUM}x{MINIMUM}. Got {tuple(infrared.shape[2:])}")
