"""The student's forward pass laid out for training on a CPU: same parameters, same result, fewer copies.

PyTorch's CPU convolutions want the channels last and batched matrix products want them contiguous. Here the features
stay channels-last throughout, so that q, k and v are views; measured 1.3 to 1.8 times the training steps per second
of ``Student.forward`` on 2 cores (batch 4 of 128 x 128, both in one run).
"""

from typing import Callable, Iterable, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.network import ChannelLayerNorm, Student, TransposedAttention, at_stride, check_planes


def forward_channels_last(student: Student, infrared: Tensor, visible: Tensor) -> Tuple[Tensor, Tensor]:
    """``student(infrared, visible, return_feature=True)``: two planes of (B, 1, H, W) in [0, 1] -> I_f and F_f."""
    check_planes(infrared, visible)
    planes = torch.cat([student.encoder_ir(infrared), student.encoder_vis(visible)], dim=1)
    feature_0 = planes.contiguous(memory_format=torch.channels_last)
    features = []
    if student.config.global_blocks:
        features.append(at_stride(_rstbs(student.global_branch), feature_0, student.config.global_stride))
    if student.config.local_blocks:
        features.append(student.local_branch(feature_0))
    joined = student.fusion.conv(torch.cat(features or [feature_0], dim=1))
    feature_f = at_stride(_rstbs([student.fusion.rstb]), joined, student.fusion.stride)
    return student.decoder(feature_f), feature_f


def _rstbs(blocks: Iterable[nn.Module]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        for block in blocks:
            x = x + _attention(block.attention, _norm(block.norm1, x))  # type: ignore[arg-type]
            x = x + block.feed_forward(_norm(block.norm2, x))  # type: ignore[operator, arg-type]
        return x

    return forward


def _norm(norm: ChannelLayerNorm, x: Tensor) -> Tensor:
    rows = F.layer_norm(x.permute(0, 2, 3, 1), norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return rows.permute(0, 3, 1, 2)


def _attention(attention: TransposedAttention, x: Tensor) -> Tensor:
    """Normalise the Gram matrix instead of q and k, and apply project_out and all heads as one C x C matrix."""
    batch, channels, height, width = x.shape
    heads, size = attention.heads, channels // attention.heads
    rows = attention.qkv_depthwise(attention.qkv(x)).permute(0, 2, 3, 1).reshape(batch, height * width, 3 * channels)
    q, k, v = rows.split(channels, dim=2)
    gram = (q.transpose(1, 2) @ k).view(batch, heads, size, heads, size)
    gram = gram.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # (B, heads, C/heads, C/heads)
    # Clamped before the root, whose gradient at 0 is infinite.
    norm_q = q.square().sum(1).clamp_min(1e-24).sqrt().view(batch, heads, size, 1)
    norm_k = k.square().sum(1).clamp_min(1e-24).sqrt().view(batch, heads, 1, size)
    weights = torch.softmax(attention.temperature * gram / (norm_q * norm_k), dim=-1)
    projection = attention.project_out.weight.view(channels, heads, size)
    matrix = torch.einsum("ohi,bhij->bohj", projection, weights).reshape(batch, channels, channels)
    return (v @ matrix.transpose(1, 2)).view(batch, height, width, channels).permute(0, 3, 1, 2)
