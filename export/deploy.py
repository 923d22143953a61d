"""The student rewritten, exactly, into the graph that is better to run: fewer passes over H x W tensors.

``DeployStudent(student)`` computes what ``student`` does, to rounding. Each rewrite states its proof where it is made.
The batch is 1, as in a control loop.
"""

import copy
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.network import DACB, RSTB, ChannelLayerNorm, Encoder, GatedFeedForward, Student, TransposedAttention


class Normalise(nn.Module):
    """LayerNorm over channels without its gain and bias, which ``fold_norm`` puts into the convolutions that follow.

    The mean over channels is a 1x1 convolution with weights 1/C: it stays in the convolutions' layout, where a
    reduction would have to change it.
    """

    def __init__(self, norm: ChannelLayerNorm) -> None:
        super().__init__()
        channels = norm.weight.numel()
        self.eps = norm.eps
        self.mean: Tensor
        self.register_buffer("mean", torch.full((1, channels, 1, 1), 1 / channels, dtype=norm.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - F.conv2d(x, self.mean)
        return centred / torch.sqrt(F.conv2d(centred * centred, self.mean) + self.eps)


def fold_norm(norm: ChannelLayerNorm, weight: Tensor) -> nn.Conv2d:
    """Give the 1x1 convolution of ``weight`` (O, C, 1, 1) that takes the norm's gain g and bias b in.

    W (g n + b) = (W diag(g)) n + W b.
    """
    matrix = weight[:, :, 0, 0]
    conv = nn.Conv2d(matrix.shape[1], matrix.shape[0], 1)
    conv.weight.data = (matrix * norm.weight)[:, :, None, None]
    conv.bias.data = matrix @ norm.bias  # type: ignore[union-attr]
    return conv


def depthwise(weight: Tensor) -> nn.Conv2d:
    """Give the 3x3 depthwise convolution of ``weight`` (C, 1, 3, 3), without bias."""
    channels = weight.shape[0]
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    conv.weight.data = weight
    return conv


class DeployAttention(nn.Module):
    """Norm, transposed attention and projection as two products over H x W: the Gram matrix and its application.

    - q k^T / (|q| |k|) = (q/|q|) (k/|k|)^T: the 8x8 Gram matrix is normalised, not the H x W maps q and k.
    - W_p (A_1 v_1; ...; A_h v_h) = [W_p1 A_1 ... W_ph A_h] v: the output projection W_p, split by heads into W_pi,
      is folded into the attention matrices A_i, and one C x C matrix is applied to v.
    - q, k and v come from convolutions of their own, so that nothing is copied to split them.
    """

    def __init__(self, norm: ChannelLayerNorm, attention: TransposedAttention) -> None:
        super().__init__()
        # Plain integers: a size read from a tensor would be traced into a chain of Shape and Gather nodes.
        self.heads, self.channels = attention.heads, attention.project_out.out_channels
        self.normalise = Normalise(norm)
        self.pointwise = nn.ModuleList(fold_norm(norm, weight) for weight in attention.qkv.weight.data.chunk(3))
        self.depthwise = nn.ModuleList(depthwise(weight) for weight in attention.qkv_depthwise.weight.data.chunk(3))
        self.temperature = nn.Parameter(attention.temperature.data)
        by_head = attention.project_out.weight.data.view(self.channels, self.heads, -1)
        self.projection = nn.Parameter(by_head.transpose(0, 1).contiguous())  # (heads, C, C/heads)

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.normalise(x)
        q, k, v = (deep(point(normalised)) for point, deep in zip(self.pointwise, self.depthwise))
        q, k = (plane.reshape(self.heads, self.channels // self.heads, -1) for plane in (q, k))
        norm_q = torch.sqrt((q * q).sum(dim=2, keepdim=True)).clamp_min(1e-12)
        norm_k = torch.sqrt((k * k).sum(dim=2, keepdim=True)).clamp_min(1e-12)
        cosine = (q @ k.transpose(1, 2)) / (norm_q * norm_k.transpose(1, 2))
        attention = torch.softmax(self.temperature * cosine, dim=2)
        matrix = (self.projection @ attention).transpose(0, 1).reshape(self.channels, self.channels)
        return x + (matrix @ v.reshape(self.channels, -1)).view_as(v)


class DeployFeedForward(nn.Module):
    """Norm and gated feed-forward; gate and value come from convolutions of their own, so that nothing is split."""

    def __init__(self, norm: ChannelLayerNorm, feed_forward: GatedFeedForward) -> None:
        super().__init__()
        self.normalise = Normalise(norm)
        self.pointwise = nn.ModuleList(fold_norm(norm, w) for w in feed_forward.project_in.weight.data.chunk(2))
        self.depthwise = nn.ModuleList(depthwise(weight) for weight in feed_forward.depthwise.weight.data.chunk(2))
        self.project_out = feed_forward.project_out

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.normalise(x)
        gate, value = (deep(point(normalised)) for point, deep in zip(self.pointwise, self.depthwise))
        return x + self.project_out(F.gelu(gate) * value)


def deploy_rstb(block: RSTB) -> nn.Sequential:
    """Rewrite an RSTB."""
    return nn.Sequential(
        DeployAttention(block.norm1, block.attention), DeployFeedForward(block.norm2, block.feed_forward)
    )


class DeployDACB(nn.Module):
    """x + s y as one pointwise pass, s the squeeze-excite factors; the two small layers as 1x1 convolutions."""

    def __init__(self, block: DACB) -> None:
        super().__init__()
        self.depthwise, self.pointwise1, self.pointwise2 = block.depthwise, block.pointwise1, block.pointwise2
        self.squeeze = nn.Parameter(block.channel_attention.squeeze.weight.data[:, :, None, None])
        self.excite = nn.Parameter(block.channel_attention.excite.weight.data[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        detail = self.pointwise2(F.relu(self.pointwise1(self.depthwise(x))))
        pooled = detail.mean(dim=(2, 3), keepdim=True)
        return x + detail * torch.sigmoid(F.conv2d(F.relu(F.conv2d(pooled, self.squeeze)), self.excite))


def stack_encoders(infrared: Encoder, visible: Encoder) -> Tuple[nn.Conv2d, nn.Conv2d]:
    """Give both encoders' layers as grouped convolutions: [E_ir(ir); E_vis(vis)] = E([ir; vis]) with two groups."""
    layers = []
    for a, b in ((infrared.conv1, visible.conv1), (infrared.conv2, visible.conv2)):
        conv = nn.Conv2d(
            2 * a.in_channels, 2 * a.out_channels, a.kernel_size[0], padding=a.kernel_size[0] // 2, groups=2
        )
        conv.weight.data = torch.cat([a.weight.data, b.weight.data])
        conv.bias.data = torch.cat([a.bias.data, b.bias.data])  # type: ignore[union-attr]
        layers.append(conv)
    return layers[0], layers[1]


class DeployStudent(nn.Module):
    """The student in deploy form: ``forward(infrared, visible)``, (1, 1, H, W) in [0, 1] each, gives I_f (1, 1, H, W).

    Concatenation followed by a 1x1 convolution is a sum: W [F_g; F_l] = W_g F_g + W_l F_l.
    The weights are copied from ``student``, which is left as it was.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        student = copy.deepcopy(student)
        self.encoder1, self.encoder2 = stack_encoders(student.encoder_ir, student.encoder_vis)
        self.global_branch = nn.Sequential(*(deploy_rstb(block) for block in student.global_branch))  # type: ignore[arg-type]
        self.local_branch = nn.Sequential(*(DeployDACB(block) for block in student.local_branch))  # type: ignore[arg-type]
        conv = student.fusion.conv
        channels = conv.out_channels
        self.fusion_global = nn.Conv2d(channels, channels, 1)
        self.fusion_local = nn.Conv2d(channels, channels, 1, bias=False)
        self.fusion_global.weight.data = conv.weight.data[:, :channels]
        self.fusion_global.bias = conv.bias
        self.fusion_local.weight.data = conv.weight.data[:, channels:]
        self.fusion_rstb = deploy_rstb(student.fusion.rstb)
        self.decoder = student.decoder
        self.requires_grad_(False)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        planes = torch.cat([infrared, visible], dim=1)
        feature_0 = F.leaky_relu(self.encoder2(F.leaky_relu(self.encoder1(planes))))
        joined = self.fusion_global(self.global_branch(feature_0)) + self.fusion_local(self.local_branch(feature_0))
        return self.decoder(self.fusion_rstb(joined))
