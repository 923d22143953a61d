"""The student rewritten, exactly, into a graph that runs better: fewer passes over H x W tensors, and safe in FP16.

``DeployStudent(student)`` computes what ``student`` does, up to rounding. Each rewrite is proved where it is made. The
batch is 1, as in a control loop.

FP16 ends at 65504, and below 2^-14 it loses digits. So whatever is squared, multiplied or summed is scaled by powers of
two, which cost nothing (they are folded into the weights) and change no digit. The powers come from bounds that hold
for every input in [0, 1] (``intervals``), as far as MAX_DIVISOR allows. No sum is longer than a row or a column of the
frame, since a running sum in FP16 stops growing after some thousand terms.
"""

import copy
import math
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.export.intervals import (
    Interval,
    divisors_for,
    symmetric,
    through_conv,
    through_leaky_relu,
)
from irvis.student.network import (
    DACB,
    RSTB,
    ChannelLayerNorm,
    Decoder,
    Encoder,
    Fusion,
    GatedFeedForward,
    Student,
    TransposedAttention,
    at_stride,
    grow,
    shrink,
)

LIMIT = 2.0**15  # of every sum; half of FP16's range
SIDE = 2**11  # pixels; the greatest height and width of a frame
# Bounds along the local branch grow tenfold with each DACB, while the values do not. Divided by all of such a bound
# they would lose their digits, and the factor that undoes the division is infinite in FP16 from 2^16 on.
MAX_DIVISOR = 2.0**11
MAX_NORM_DIVISOR = 2.0**4  # of a LayerNorm's input: eps / 2^8 is the least that FP16 does not round to 0


class Basis(NamedTuple):
    """How the residual stream of an RSTB is stored: y = diag(scale) Q x instead of x, (C,) at each pixel.

    Q is the orthogonal matrix (Householder's) with Q (1, ..., 1) / sqrt(C) = (1, 0, ..., 0). LayerNorm projects x off
    that direction, so in y it drops the first coordinate: the mean is neither computed nor subtracted. ``scale`` is
    powers of two. Linear maps into and out of the stream absorb both into their weights.
    """

    rotation: Tensor  # Q, symmetric, float64 (C, C)
    scale: Tensor  # float64 (C,)

    @property
    def enter(self) -> Tensor:
        """The matrix that maps x to y."""
        return self.scale[:, None] * self.rotation

    @property
    def leave(self) -> Tensor:
        """The matrix that maps y to x."""
        return self.rotation / self.scale


def rotation(channels: int) -> Tensor:
    """Return Q of ``Basis``, the reflection that swaps (1, ..., 1) / sqrt(C) and the first axis."""
    axis = torch.eye(channels, dtype=torch.float64)[0]
    normal = torch.full_like(axis, channels**-0.5) - axis
    if channels == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    return torch.eye(channels, dtype=torch.float64) - 2 * torch.outer(normal, normal) / (normal @ normal)


def divisor_for(bounds: Tensor, limit: float, most: float = MAX_DIVISOR) -> float:
    """Return the power of two, from 1 to ``most``, that divides all bounds to ``limit`` or below, or nearest to it."""
    return min(max(1.0, float(divisors_for(bounds, limit).max())), most)


def choose_basis(bound: Tensor, eps: float) -> Basis:
    """Scale the stream so that its squares stay in FP16's range.

    Args:
        bound: the bound of |Q x|, (C,), for every input and after every block.
        eps: the LayerNorms' epsilon.

    The first coordinate, which no LayerNorm needs, is scaled further: LayerNorm's factor, up to 1 / sqrt(eps), still
    multiplies it, and infinity times a weight of 0 would be NaN.
    """
    others = bound[1:] if len(bound) > 1 else torch.zeros_like(bound)
    scale = torch.full_like(bound, 1 / divisor_for(others, LIMIT**0.5, MAX_NORM_DIVISOR))
    scale[0] /= divisor_for(bound[0] * eps**-0.5, LIMIT)
    return Basis(rotation(len(bound)), scale)


def conv(weight: Tensor, bias: Optional[Tensor] = None, groups: int = 1) -> nn.Conv2d:
    """Return the convolution of ``weight``, (O, I) or (O, I, k, k), that keeps the frame's size."""
    if weight.ndim == 2:
        weight = weight[:, :, None, None]
    size = weight.shape[2]
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], size, padding=size // 2, groups=groups, bias=bias is not None
    )
    layer.weight.data = weight.double().clone()  # a copy, since it may be scaled in place
    if bias is not None:
        layer.bias.data = bias.double().clone()  # type: ignore[union-attr]
    return layer


def matrix_of(layer: nn.Conv2d) -> Tensor:
    """Return a 1x1 convolution's weight as a float64 matrix (O, I)."""
    return layer.weight.data[:, :, 0, 0].double()


def divide_outputs(layer: nn.Conv2d, divisors: Union[float, Tensor]) -> None:
    """Divide the outputs of a convolution, in its weights: all by the same number, or each by its own, (O,)."""
    divisors = torch.as_tensor(divisors)
    layer.weight.data /= divisors.view(-1, 1, 1, 1)
    if layer.bias is not None:
        layer.bias.data /= divisors


class Growth(NamedTuple):
    """Bounds of what a block adds, (C,) each. They hold for any input, since the block normalises it first."""

    plain: Tensor  # of |f|, added to x
    rotated: Tensor  # of |Q f|, added to Q x

    @classmethod
    def of(cls, project: Tensor, bound: Tensor) -> "Growth":
        """Bound |W z| and |Q W z|, for the projection W (C, I) of a z with |z| <= bound, (I,)."""
        return cls(project.abs() @ bound, (rotation(len(project)) @ project).abs() @ bound)


class Normalise(nn.Module):
    """LayerNorm without mean, gain and bias, on the stream: y / sqrt(sum over i > 1 of y_i^2 / C + eps).

    The mean of squares is a 1x1 convolution, which stays in the convolutions' layout; a reduction over channels would
    have to leave it. eps is multiplied by s^2, where s is the stream's scale.
    """

    def __init__(self, norm: ChannelLayerNorm, basis: Basis) -> None:
        super().__init__()
        channels = len(basis.scale)
        weight = torch.full((1, channels, 1, 1), 1 / channels, dtype=torch.float64)
        weight[0, 0] = 0
        self.mean_of_others: Tensor
        self.register_buffer("mean_of_others", weight)
        self.eps = norm.eps * float(basis.scale[-1]) ** 2

    def forward(self, y: Tensor) -> Tensor:
        return y * (1 / torch.sqrt(F.conv2d(y * y, self.mean_of_others) + self.eps))


def after_norm(norm: ChannelLayerNorm, weight: Tensor, basis: Basis) -> nn.Conv2d:
    """Return the 1x1 convolution of ``weight`` (O, C) that takes ``Normalise``'s output instead of the LayerNorm's.

    W (g n + b) = (W diag(g) Q D) m + W b, with n = Q D m: m is Q n except for its first coordinate, which D drops.
    """
    folded = weight * norm.weight.double() @ basis.rotation
    folded[:, 0] = 0
    return conv(folded, weight @ norm.bias.double())


def bound_after_norm(point: nn.Conv2d, deep: nn.Conv2d) -> Tensor:
    """Bound |deep(point(m))|, (O,), for ``Normalise``'s output m."""
    return through_conv(deep, symmetric(_largest_after_norm(point))).magnitude


def _largest_after_norm(point: nn.Conv2d) -> Tensor:
    """Bound |point(m)|, (O,): at each pixel the coordinates of m have norm sqrt(C)."""
    matrix = matrix_of(point)
    bias = 0 if point.bias is None else point.bias.data.abs()
    return matrix.norm(dim=1) * matrix.shape[1] ** 0.5 + bias


class DeployAttention(nn.Module):
    """Norm, transposed attention, projection and residual, with at most two products over the frame.

    - q k^T / (|q| |k|) = (q/|q|) (k/|k|)^T: the Gram matrix is normalised, not the H x W maps q and k. |q|^2 and |k|^2
      are the diagonal of the Gram matrix G of q and k stacked, so nothing is squared and summed to get them.
    - G is the mean of G_y over the rows y of the frame: no running sum is longer than a row. Both factors come from one
      copy with the rows outermost. The second is a transpose of it that a product reads without another copy, which
      TensorRT makes for any other (seen on a GPU: four copies of q and k per attention, a tenth of the FP32 engine's
      time).
    - Two convolutions compute q and k stacked, for half of the heads each, and a third v, so nothing is copied to split
      them. There are so few that each fills a matrix unit's tile. Softmax over a head's 8 of 16 columns is softmax over
      all 16 with the others so far below that the exponential makes them exactly 0.
    - The projection is a separate convolution. Applying W_p blockdiag(A_1, ..., A_h) to v as one matrix would itself
      save one pass over memory, but adding the residual would then take three: TensorRT adds it inside the convolution,
      and ONNX Runtime on a CPU keeps the blocked layout.
    - Each channel of q and k has its own scale, a power of two, which the normalisation cancels. Training does not keep
      q and k large, since only their directions count, so small channels are scaled up in each of the two layers.
    """

    OTHER_HEADS = -(2.0**14)
    LEAST_NORM = 2.0**-14

    def __init__(self, norm: ChannelLayerNorm, attention: TransposedAttention, basis: Basis) -> None:
        super().__init__()
        # Plain integers: a size read from a tensor would be traced into a chain of Shape and Gather nodes.
        self.channels = channels = attention.project_out.out_channels
        self.groups = groups = 2 if attention.heads % 2 == 0 else 1
        self.part = part = channels // groups
        weight, deep = matrix_of(attention.qkv), attention.qkv_depthwise.weight.data
        self.normalise = Normalise(norm, basis)
        self.point_qk, self.deep_qk = nn.ModuleList(), nn.ModuleList()
        for index in torch.arange(channels).split(part):
            stacked = torch.cat([index, channels + index])
            point_qk = after_norm(norm, weight[stacked], basis)
            # Channels with a bound of 2 or less are scaled up to above 2; those with a larger one are left as they are.
            divide_outputs(point_qk, divisors_for(_largest_after_norm(point_qk), 4.0).clamp(max=1))
            deep_qk = conv(deep[stacked], groups=2 * part)
            divide_outputs(deep_qk, divisors_for(bound_after_norm(point_qk, deep_qk), LIMIT**0.5 / SIDE))
            self.point_qk.append(point_qk)
            self.deep_qk.append(deep_qk)
        self.point_v = after_norm(norm, weight[2 * channels :], basis)
        self.deep_v = conv(deep[2 * channels :], groups=channels)

        head = torch.arange(channels) // (channels // attention.heads)
        temperature = attention.temperature.data.double()[head, 0, 0]
        self.temperature = nn.Parameter(temperature.view(groups, part, 1))
        self.project_out = conv(basis.enter @ matrix_of(attention.project_out))
        others = head[:part, None] != head[:part]
        self.diagonal: Tensor
        self.other_heads: Tensor
        self.register_buffer("diagonal", torch.eye(2 * part, dtype=torch.float64))
        self.register_buffer("other_heads", others * torch.tensor(self.OTHER_HEADS, dtype=torch.float64))
        # Rows of A are convex combinations, so |A v| is at most the head's greatest |v|.
        of_v = bound_after_norm(self.point_v, self.deep_v).view(attention.heads, -1).amax(1)[head]
        self.growth = Growth.of(matrix_of(attention.project_out), of_v)

    def forward(self, y: Tensor) -> Tensor:
        qk, v = self.maps(self.normalise(y))
        attention = torch.softmax(self.temperature * self.cosine(qk) + self.other_heads, dim=2)
        return y + self.attended(attention, v)

    def maps(self, normalised: Tensor) -> Tuple[List[Tensor], Tensor]:
        """(1, C, H, W) -> q and k stacked, group by group, (1, 2 I, H, W) each, and v, (1, C, H, W)."""
        v = self.deep_v(self.point_v(normalised))
        return [deep(point(normalised)) for point, deep in zip(self.point_qk, self.deep_qk)], v

    def cosine(self, qk: List[Tensor]) -> Tensor:
        """Return q k^T / (|q| |k|), (groups, I, I)."""
        gram = torch.cat([self.gram(stacked) for stacked in qk])
        norm = torch.sqrt((gram * self.diagonal).sum(dim=2, keepdim=True)).clamp_min(self.LEAST_NORM)
        return (gram / norm / norm.transpose(1, 2))[:, : self.part, self.part :]

    def gram(self, qk: Tensor) -> Tensor:
        """(1, 2 I, H, W) -> (1, 2 I, 2 I), the mean over rows of each row's Gram matrix."""
        # Flattened, not squeezed: a squeeze is exported as a branch where the exporter lost track of the batch. With
        # four axes the product took ONNX Runtime longer (1.12 times the latency of the whole network).
        rows = qk.flatten(0, 1).transpose(0, 1)
        return (rows @ rows.transpose(1, 2)).mean(dim=0, keepdim=True)

    def attended(self, attention: Tensor, v: Tensor) -> Tensor:
        """Return A v, A (groups, I, I), projected to the stream, (1, C, H, W)."""
        return self.project_out((attention @ v.reshape(self.groups, self.part, -1)).view_as(v))


class DeployFeedForward(nn.Module):
    """Norm, gated feed-forward and residual; gate and value come from separate convolutions, so nothing is split.

    gelu(g) (v / d), with d in the next weights, equals gelu(g) v, and the product stays small.
    """

    def __init__(self, norm: ChannelLayerNorm, feed_forward: GatedFeedForward, basis: Basis) -> None:
        super().__init__()
        hidden = feed_forward.project_out.in_channels
        self.normalise = Normalise(norm, basis)
        points = [after_norm(norm, weight, basis) for weight in matrix_of(feed_forward.project_in).split(hidden)]
        deeps = [conv(weight, groups=hidden) for weight in feed_forward.depthwise.weight.data.split(hidden)]
        self.point_gate, self.point_value = points
        self.deep_gate, self.deep_value = deeps
        gate, value = (bound_after_norm(point, deep) for point, deep in zip(points, deeps))
        project = matrix_of(feed_forward.project_out)
        self.growth = Growth.of(project, gate * value)  # |gelu(g)| <= |g|
        divisor = divisor_for(gate * value, LIMIT, math.inf)
        divide_outputs(self.deep_value, divisor)
        self.project_out = conv(basis.enter @ project * divisor)

    def forward(self, y: Tensor) -> Tensor:
        normalised = self.normalise(y)
        gate, value = self.deep_gate(self.point_gate(normalised)), self.deep_value(self.point_value(normalised))
        return y + self.project_out(F.gelu(gate) * value)


class DeployRSTBs(nn.Sequential):
    """RSTBs in series on one stream, whose ``basis`` it chooses; ``leaving`` bounds x after the last.

    Args:
        blocks: the student's.
        entering: bounds x before the first.
        rotated: bounds Q x before the first.
    """

    def __init__(self, blocks: Iterable[RSTB], entering: Interval, rotated: Interval) -> None:
        blocks = list(blocks)
        unscaled = Basis(rotation(len(entering.low)), torch.ones_like(entering.low))
        growths = [part.growth for part in _rstb_parts(blocks, unscaled)]  # which the scale does not change
        bound = rotated.magnitude + sum(growth.rotated for growth in growths)
        basis = choose_basis(bound, ChannelLayerNorm.eps)
        super().__init__(*_rstb_parts(blocks, basis))
        self.basis = basis
        self.leaving = entering + symmetric(torch.stack([growth.plain for growth in growths]).sum(0))


def _rstb_parts(blocks: List[RSTB], basis: Basis) -> List[Union[DeployAttention, DeployFeedForward]]:
    parts: List[Union[DeployAttention, DeployFeedForward]] = []
    for block in blocks:
        parts.append(DeployAttention(block.norm1, block.attention, basis))
        parts.append(DeployFeedForward(block.norm2, block.feed_forward, basis))
    return parts


class DeployDACB(nn.Module):
    """x + s d as one pointwise pass, s the squeeze-excite factors; the two small layers as 1x1 convolutions.

    The mean over the frame is the mean of the rows' means. d is stored divided by ``factor``, and s multiplied by it.
    """

    def __init__(self, block: DACB, entering: Interval) -> None:
        super().__init__()
        self.depthwise = copy.deepcopy(block.depthwise)
        self.pointwise1, self.pointwise2 = copy.deepcopy(block.pointwise1), copy.deepcopy(block.pointwise2)
        hidden = through_leaky_relu(through_conv(self.pointwise1, through_conv(self.depthwise, entering)), 0.0)
        detail = through_conv(self.pointwise2, hidden)
        self.leaving = entering + detail.with_zero()
        self.factor = divisor_for(detail.magnitude, LIMIT / SIDE)
        divide_outputs(self.pointwise2, self.factor)
        self.squeeze = conv(block.channel_attention.squeeze.weight.data * self.factor)
        self.excite = conv(block.channel_attention.excite.weight.data)

    def forward(self, x: Tensor) -> Tensor:
        detail = self.pointwise2(F.relu(self.pointwise1(self.depthwise(x))))
        pooled = detail.mean(dim=3, keepdim=True).mean(dim=2, keepdim=True)
        return x + detail * (self.factor * torch.sigmoid(self.excite(F.relu(self.squeeze(pooled)))))


class DeployEncoders(nn.Module):
    """Both encoders as one: [E_ir(ir); E_vis(vis)] = E([ir; vis]), with zeros where one would see the other's plane.

    The 1x1 layer is dense, since two groups of one channel each would not fill a kernel; the 3x3 layer has two groups.
    """

    def __init__(self, infrared: Encoder, visible: Encoder) -> None:
        super().__init__()
        first = torch.block_diag(matrix_of(infrared.conv1), matrix_of(visible.conv1))
        self.conv1 = conv(first, torch.cat([infrared.conv1.bias.data, visible.conv1.bias.data]))  # type: ignore[union-attr]
        self.conv2 = conv(
            torch.cat([infrared.conv2.weight.data, visible.conv2.weight.data]),
            torch.cat([infrared.conv2.bias.data, visible.conv2.bias.data]),  # type: ignore[union-attr]
            groups=2,
        )
        planes = Interval(*torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64))
        self.leaving = planes
        for layer in (self.conv1, self.conv2):
            self.leaving = through_leaky_relu(through_conv(layer, self.leaving))

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        planes = torch.cat([infrared, visible], dim=1)
        return F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(planes))))


class Feature(NamedTuple):
    """A feature to be fused, F_g or F_l, and how it is stored: as it is, or, at a stride, as its change from F_0."""

    leave: Tensor  # float64 (C, C): the matrix that maps the stored form to it
    leaving: Interval  # its bounds
    stride: int = 1


class DeployFusion(nn.Module):
    """Eq. 13: concatenation and 1x1 convolution as a sum, W [F_g; F_l] = W_g F_g + W_l F_l, then the RSTB.

    ``features`` maps a term of the sum to its feature as the 1x1 convolution sees it, for the features that exist. At a
    stride, W_g F_g = W_g F_0 + up(W_g change), as ``up`` works channel by channel: the convolution sees small frames.
    """

    of_input: nn.Conv2d
    of_global: nn.Conv2d
    of_local: nn.Conv2d

    def __init__(self, fusion: Fusion, features: Dict[str, Feature]) -> None:
        super().__init__()
        weight, bias = matrix_of(fusion.conv), fusion.conv.bias.data.double()  # type: ignore[union-attr]
        channels = len(bias)
        joined = Interval(*map(torch.cat, zip(*(feature.leaving for feature in features.values()))))
        entering, rotated = (
            through_conv(conv(turn @ weight, turn @ bias), joined)
            for turn in (torch.eye(channels, dtype=bias.dtype), rotation(channels))
        )
        self.rstb, self.stride = DeployRSTBs([fusion.rstb], entering, rotated), fusion.stride
        self.terms = list(features)
        self.grown = [term for term, feature in features.items() if feature.stride > 1]
        enter = self.rstb.basis.enter
        for part, (term, feature) in zip(weight.split(channels, dim=1), features.items()):
            bias_once = enter @ bias if term == self.terms[0] else None
            self.add_module(term, conv(enter @ part @ feature.leave, bias_once))
            if term in self.grown:
                self.of_input = conv(enter @ part)

    def forward(self, feature_0: Tensor, *features: Tensor) -> Tensor:
        parts = []
        for term, feature in zip(self.terms, features):
            part = getattr(self, term)(feature)
            parts += [grow(part, feature_0), self.of_input(feature_0)] if term in self.grown else [part]
        return at_stride(self.rstb, sum(parts[1:], parts[0]), self.stride)


class DeployDecoder(nn.Module):
    """Eq. 15 on the stream. LeakyReLU(z / d) = LeakyReLU(z) / d: ``factor`` undoes the division before the sigmoid."""

    def __init__(self, decoder: Decoder, fusion: DeployRSTBs) -> None:
        super().__init__()
        self.conv1, self.conv2 = copy.deepcopy(decoder.conv1), copy.deepcopy(decoder.conv2)
        first = through_conv(self.conv1, fusion.leaving)
        last = through_conv(self.conv2, through_leaky_relu(first))
        self.factor = divisor_for(torch.cat([first.magnitude, last.magnitude]), LIMIT)
        self.conv1.weight.data = torch.einsum("ocyx,cd->odyx", self.conv1.weight.data, fusion.basis.leave)
        divide_outputs(self.conv1, self.factor)
        self.conv2.bias.data /= self.factor  # type: ignore[union-attr]

    def forward(self, y: Tensor) -> Tensor:
        return torch.sigmoid(self.factor * self.conv2(F.leaky_relu(self.conv1(y))))


class DeployStudent(nn.Module):
    """The student in deploy form: ``forward(infrared, visible)``, (1, 1, H, W) in [0, 1] each -> I_f (1, 1, H, W).

    The weights are copied from ``student``, folded in float64, and keep its dtype; ``student`` is not modified.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        dtype = student.decoder.conv1.weight.dtype
        student = copy.deepcopy(student).double()
        self.encoders = DeployEncoders(student.encoder_ir, student.encoder_vis)
        config, leaving = student.config, self.encoders.leaving
        features: Dict[str, Feature] = {}
        if config.global_blocks:
            rotated = through_conv(conv(rotation(config.channels)), leaving)
            self.global_branch = DeployRSTBs(student.global_branch, leaving, rotated)  # type: ignore[arg-type]
            basis, self.global_stride = self.global_branch.basis, config.global_stride
            self.enter_global = conv(basis.enter)
            features["of_global"] = Feature(basis.leave, self.global_branch.leaving, self.global_stride)
        blocks = []
        for block in student.local_branch:
            blocks.append(DeployDACB(block, leaving))  # type: ignore[arg-type]
            leaving = blocks[-1].leaving
        self.local_branch = nn.Sequential(*blocks)
        if blocks or not features:  # without any block, F_0 itself goes through here
            features["of_local"] = Feature(torch.eye(config.channels, dtype=torch.float64), leaving)
        self.fusion = DeployFusion(student.fusion, features)
        self.decoder = DeployDecoder(student.decoder, self.fusion.rstb)
        self.to(dtype).requires_grad_(False)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        feature_0 = self.encoders(infrared, visible)
        features = []
        if "of_global" in self.fusion.terms:
            entered = self.enter_global(shrink(feature_0, self.global_stride))
            left = self.global_branch(entered)
            features.append(left if self.global_stride == 1 else left - entered)
        if "of_local" in self.fusion.terms:
            features.append(self.local_branch(feature_0))
        return self.decoder(self.fusion(feature_0, *features))
