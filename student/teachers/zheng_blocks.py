"""Blocks that SHIP and FISCNet, both by Zheng et al., share. Module names are those of the published state dicts."""

from typing import Callable, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolve_twice(c_in: int, hidden: int, c_out: int, kernel: int, activation: nn.Module) -> nn.Sequential:
    """Convolution, activation, convolution, each padded to keep the size."""
    first = nn.Conv2d(c_in, hidden, kernel, padding=kernel // 2)
    return nn.Sequential(first, activation, nn.Conv2d(hidden, c_out, kernel, padding=kernel // 2))


def plane_mean(x: Tensor) -> Tensor:
    """Return the mean of each channel: (B, C, H, W) -> (B, C, 1, 1)."""
    if torch.onnx.is_in_onnx_export():
        # PyTorch sums in parts, ONNX Runtime in one go: float32 then loses digits, which a softmax may amplify.
        return x.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
    return x.mean(dim=(2, 3), keepdim=True)


def variance_and_mean(x: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the variance and the mean of each channel: (B, C, H, W) -> two of (B, C, 1, 1)."""
    # torch.var_mean takes six times as long if the channels are innermost in memory.
    mean = plane_mean(x)
    return plane_mean((x - mean).square()), mean


class CrossDifference(nn.Module):
    """Central-difference convolution along the axes and along the diagonals, mixed, plus the input."""

    theta = 0.8  # share of the central difference
    axes = (1, 3, 4, 5, 7)  # positions of the five weights in a 3x3 kernel
    diagonals = (0, 2, 4, 6, 8)

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Both only hold weights; forward never calls them.
        self.h_conv = nn.ModuleDict({"conv": nn.Conv2d(channels, channels, (1, 5), bias=False)})
        self.d_conv = nn.ModuleDict({"conv": nn.Conv2d(channels, channels, (1, 5), bias=False)})
        self.HP_branch = nn.Parameter(torch.zeros(1))

    def kernel(self) -> Tensor:
        """Return the single 3x3 kernel that is equivalent to the whole, (C, C, 3, 3)."""
        mixed = torch.sigmoid(self.HP_branch)
        along_axes = mixed * self.h_conv["conv"].get_parameter("weight")[:, :, 0]
        along_diagonals = (1 - mixed) * self.d_conv["conv"].get_parameter("weight")[:, :, 0]
        kernel = along_axes.new_zeros(*along_axes.shape[:2], 9)
        kernel[..., self.axes] += along_axes
        kernel[..., self.diagonals] += along_diagonals
        kernel[..., 4] += torch.eye(len(kernel)).to(kernel) - self.theta * (along_axes + along_diagonals).sum(dim=2)
        return kernel.unflatten(2, (3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return F.conv2d(x, self.kernel(), padding=1)


class EdgeBlock(nn.Module):
    """A convolution, then two plain ones in parallel with the central differences."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.process = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.Res = convolve_twice(c_out, c_out, c_out, 3, nn.ReLU(inplace=True))
        self.CDC = CrossDifference(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H, W)."""
        # Narrow convolutions and operations over channels run fastest in this layout on a CPU; both networks keep it.
        x = self.process(x).contiguous(memory_format=torch.channels_last)
        return self.Res(x) + self.CDC(x)


class HalfNormBlock(nn.Module):
    """Two convolutions with instance normalisation of half the channels between them, parallel to a 1x1 convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.identity = nn.Conv2d(c_in, c_out, 1)
        self.conv_1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv_2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.norm = nn.InstanceNorm2d(c_out // 2, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H, W)."""
        y = F.leaky_relu(self.normalise(self.conv_1(x)), 0.1, inplace=True)
        return F.leaky_relu(self.conv_2(y), 0.1, inplace=True) + self.identity(x)

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise the first half of the channels, as one scale and shift of all of them: (B, C, H, W) -> same."""
        half = self.norm.num_features
        variance, mean = variance_and_mean(x[:, :half])
        scale = self.norm.weight[:, None, None] / torch.sqrt(variance + self.norm.eps)
        shift = self.norm.bias[:, None, None] - mean * scale
        scale = F.pad(scale, (0, 0, 0, 0, 0, x.shape[1] - half), value=1.0)
        return torch.addcmul(F.pad(shift, (0, 0, 0, 0, 0, x.shape[1] - half)), x, scale)


class DenseBlock(nn.Module):
    """Two half-normalised blocks and a convolution over the input and both outputs."""

    growth = 16

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = HalfNormBlock(c_in, self.growth)
        self.conv2 = HalfNormBlock(self.growth, self.growth)
        self.conv3 = nn.Conv2d(c_in + 2 * self.growth, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H, W)."""
        x1 = F.leaky_relu(self.conv1(x), 0.2, inplace=True)
        x2 = F.leaky_relu(self.conv2(x1), 0.2, inplace=True)
        return F.leaky_relu(self.conv3(torch.cat([x, x1, x2], dim=1)), 0.2, inplace=True)


class InvertibleConvolution(nn.Module):
    """1x1 convolution whose matrix is stored as the P, L and U of its decomposition (Glow)."""

    p: Tensor
    sign_s: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("p", torch.eye(channels))
        self.register_buffer("sign_s", torch.ones(channels))
        self.lower = nn.Parameter(torch.eye(channels))
        self.log_s = nn.Parameter(torch.zeros(channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))

    def kernel(self) -> Tensor:
        """Return the matrix, (C, C, 1, 1)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower)).to(self.lower)
        upper = self.upper.triu(1) + torch.diag(self.sign_s * self.log_s.exp())
        return (self.p @ lower @ upper)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        return F.conv2d(x, self.kernel())


class InvertibleBlock(nn.Module):
    """Affine coupling of two halves of the channels after an invertible convolution, run forwards only."""

    clamp = 0.8

    def __init__(self, channels: int, subnet: Callable[[int, int], nn.Module] = DenseBlock) -> None:
        super().__init__()
        self.F, self.G, self.H = (subnet(channels // 2, channels // 2) for _ in range(3))
        self.invconv = InvertibleConvolution(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        x1, x2 = self.invconv(x).chunk(2, dim=1)
        y1 = x1 + self.F(x2)
        scale = self.clamp * (2 * torch.sigmoid(self.H(y1)) - 1)
        return torch.cat([y1, x2 * scale.exp() + self.G(y1)], dim=1)


class ChannelBias(nn.Module):
    """Add to each channel of x the mean of x after two convolutions, scaled by channel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_du = convolve_twice(channels, channels // 4, channels, 1, nn.ReLU(inplace=True))
        self.process = convolve_twice(channels, channels, channels, 3, nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        mean = plane_mean(self.process(x))
        return x + mean * torch.sigmoid(self.conv_du(mean))


class Reconstruction(nn.Module):
    """The decoder: two convolutions with two channel biases between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.process = nn.Sequential(ChannelBias(channels), ChannelBias(channels))
        self.conv_last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        return self.conv_last(self.process(self.conv_in(x)))
