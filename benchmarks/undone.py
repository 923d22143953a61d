"""The deploy form without one of its rewrites: the same result the long way, to measure what the rewrite is worth."""

# ruff: noqa: D102  (forward is documented by its class, an overriding method by the base class)

import copy
from typing import Callable, Dict, Iterable, List, Tuple, Type, TypeVar, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.export.deploy import (
    DeployAttention,
    DeployDACB,
    DeployEncoders,
    DeployFeedForward,
    DeployFusion,
    DeployStudent,
    Normalise,
    conv,
)
from irvis.student.network import at_stride, grow

Part = TypeVar("Part", bound=nn.Module)
Block = Union[DeployAttention, DeployFeedForward]


class CentredNormalise(Normalise):
    """LayerNorm of x itself, which computes and subtracts the mean; the mean is a 1x1 convolution."""

    def forward(self, y: Tensor) -> Tensor:
        centred = y - F.conv2d(y, self.mean_of_others)
        return centred * (1 / torch.sqrt(F.conv2d(centred * centred, self.mean_of_others) + self.eps))


class AffineNormalise(Normalise):
    """Gain and bias applied to every pixel instead of folded into the next convolutions.

    In the rotated basis LayerNorm's own gain is no longer one factor per channel. Gain (0, 1, ..., 1) and bias
    (1, 0, ..., 0) cost the same: the convolutions' biases become the weights of the first coordinate.
    """

    gain: Tensor
    bias: Tensor

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y) * self.gain + self.bias


class SquaredNorms(DeployAttention):
    """|q| and |k| by squaring q and k, which then need not be stacked; the only product is q k^T."""

    point_q_k: nn.ModuleList  # q and k of the first group, of the second, ...
    deep_q_k: nn.ModuleList

    def maps(self, normalised: Tensor) -> Tuple[List[Tensor], Tensor]:
        v = self.deep_v(self.point_v(normalised))
        return [deep(point(normalised)) for point, deep in zip(self.point_q_k, self.deep_q_k)], v

    def cosine(self, qk: List[Tensor]) -> Tensor:
        return torch.cat([self.cosine_of(q, k) for q, k in zip(qk[::2], qk[1::2])])

    def cosine_of(self, q: Tensor, k: Tensor) -> Tensor:
        """(1, I, H, W) each -> (1, I, I)."""
        return self.product(q, k) / self.norm(q) / self.norm(k).transpose(1, 2)

    def product(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the mean over rows of each row's q k^T, (1, I, I)."""
        return (q.flatten(0, 1).transpose(0, 1) @ k.flatten(0, 1).permute(1, 2, 0)).mean(dim=0, keepdim=True)

    def norm(self, x: Tensor) -> Tensor:
        """Return the root of the mean over rows of each row's sum of squares, (1, I, 1)."""
        return torch.sqrt((x * x).sum(dim=3).mean(dim=2)).clamp_min(self.LEAST_NORM).unsqueeze(2)


class NormalisedMaps(SquaredNorms):
    """q / |q| and k / |k| over the whole frame, then their product."""

    def cosine_of(self, q: Tensor, k: Tensor) -> Tensor:
        q, k = (x / self.norm(x).unsqueeze(3) for x in (q, k))
        return self.product(q, k)


class WholeGram(DeployAttention):
    """One product over all H * W pixels instead of one per row."""

    def gram(self, qk: Tensor) -> Tensor:
        planes = qk.flatten(2)
        return planes @ planes.transpose(1, 2) / qk.shape[2]


class SplitMaps(DeployAttention):
    """q, k and v from one convolution, split."""

    point: nn.Conv2d
    deep: nn.Conv2d

    def maps(self, normalised: Tensor) -> Tuple[List[Tensor], Tensor]:
        sizes = [2 * self.part] * self.groups + [self.channels]
        *qk, v = torch.split(self.deep(self.point(normalised)), sizes, dim=1)
        return qk, v


class SplitFeedForward(DeployFeedForward):
    """Gate and value from one convolution, split."""

    point: nn.Conv2d
    deep: nn.Conv2d

    def forward(self, y: Tensor) -> Tensor:
        hidden = self.project_out.in_channels
        gate, value = torch.split(self.deep(self.point(self.normalise(y))), [hidden, hidden], dim=1)
        return y + self.project_out(F.gelu(gate) * value)


class TwoEncoders(DeployEncoders):
    """One encoder per plane, and their features concatenated."""

    of_infrared: nn.ModuleList
    of_visible: nn.ModuleList

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        features = []
        for plane, (conv1, conv2) in ((infrared, self.of_infrared), (visible, self.of_visible)):
            features.append(F.leaky_relu(conv2(F.leaky_relu(conv1(plane)))))
        return torch.cat(features, dim=1)


class ConcatenatedFusion(DeployFusion):
    """The features concatenated for one 1x1 convolution; for a change at a stride, both that and F_0."""

    conv: nn.Conv2d

    def forward(self, feature_0: Tensor, *features: Tensor) -> Tensor:
        parts: List[Tensor] = []
        for term, feature in zip(self.terms, features):
            parts += [grow(feature, feature_0), feature_0] if term in self.grown else [feature]
        return at_stride(self.rstb, self.conv(torch.cat(parts, dim=1)), self.stride)


class LinearSqueezeExcite(DeployDACB):
    """As in the student: one mean over the frame, linear layers, and no power of two factored out."""

    def forward(self, x: Tensor) -> Tensor:
        detail = self.pointwise2(F.relu(self.pointwise1(self.depthwise(x))))
        squeezed = F.linear(detail.mean(dim=(2, 3)), self.squeeze.weight[:, :, 0, 0])
        factors = torch.sigmoid(F.linear(F.relu(squeezed), self.excite.weight[:, :, 0, 0]))
        return x + detail * factors[:, :, None, None]


def outputs_of(layer: nn.Conv2d, rows: slice) -> nn.Conv2d:
    """Return a convolution that computes only ``rows`` of the outputs of ``layer``, which is dense or depthwise."""
    weight, bias = layer.weight.data[rows], layer.bias
    return conv(weight, None if bias is None else bias.data[rows], 1 if layer.groups == 1 else len(weight))


def stacked(layers: Iterable[nn.Conv2d]) -> nn.Conv2d:
    """Return one convolution that computes the outputs of several dense or depthwise ones."""
    layers = list(layers)
    biases = [layer.bias.data for layer in layers if layer.bias is not None]
    groups = 1 if layers[0].groups == 1 else sum(layer.groups for layer in layers)
    return conv(torch.cat([layer.weight.data for layer in layers]), torch.cat(biases) if biases else None, groups)


def multiply_outputs(matrix: Tensor, layer: nn.Conv2d) -> None:
    """Turn a convolution's W x + b into M (W x + b)."""
    layer.weight.data = torch.einsum("po,oiyx->piyx", matrix, layer.weight.data.double())
    if layer.bias is not None:
        layer.bias.data = matrix @ layer.bias.data.double()


def multiply_inputs(layer: nn.Conv2d, matrix: Tensor) -> None:
    """Turn a convolution's W x + b into W M x + b."""
    layer.weight.data = torch.einsum("oiyx,ij->ojyx", layer.weight.data.double(), matrix)


def parts_of(network: nn.Module, kind: Type[Part]) -> List[Part]:
    """Return a network's modules of a kind."""
    return [module for module in network.modules() if isinstance(module, kind)]


def blocks_of(network: nn.Module) -> List[Block]:
    """Return a network's modules that normalise first."""
    return [*parts_of(network, DeployAttention), *parts_of(network, DeployFeedForward)]


def points_of(part: Block) -> List[nn.Conv2d]:
    """Return the 1x1 convolutions that follow a part's normalisation."""
    return [layer for name, layer in part.named_modules() if name.startswith("point_") and isinstance(layer, nn.Conv2d)]


def terms_of(fusion: DeployFusion) -> List[nn.Conv2d]:
    """Return the convolutions that are summed, in the order of their sum."""
    return [fusion.of_global, *([fusion.of_input] if fusion.grown else []), fusion.of_local]


def undo_rotated_basis(deploy: DeployStudent) -> None:
    """Keep s x on the stream instead of diag(scale) Q x, s the common scale: what enters or leaves it is rotated."""
    turns = []
    for stream in (deploy.global_branch, deploy.fusion.rstb):
        basis, common = stream.basis, stream.basis.scale[-1]
        turns.append((common * basis.leave, basis.enter / common))
        turn, _ = turns[-1]
        for norm in parts_of(stream, Normalise):
            norm.__class__ = CentredNormalise
            norm.mean_of_others.fill_(1 / len(basis.scale))
        for part in blocks_of(stream):
            for point in points_of(part):
                multiply_inputs(point, basis.rotation)
            multiply_outputs(turn, part.project_out)
    (global_turn, global_back), (fusion_turn, fusion_back) = turns
    multiply_outputs(global_turn, deploy.enter_global)
    multiply_inputs(deploy.fusion.of_global, global_back)
    for term in terms_of(deploy.fusion):
        multiply_outputs(fusion_turn, term)
    multiply_inputs(deploy.decoder.conv1, fusion_back)


def undo_folded_gain_and_bias(deploy: DeployStudent) -> None:
    """Add the gain and bias of ``AffineNormalise`` to each norm."""
    for part in blocks_of(deploy):
        first = torch.zeros_like(part.normalise.mean_of_others)
        first[:, 0] = 1
        part.normalise.register_buffer("gain", 1 - first)
        part.normalise.register_buffer("bias", first)
        part.normalise.__class__ = AffineNormalise
        for point in points_of(part):
            point.weight.data[:, 0, 0, 0] = point.bias.data  # type: ignore[union-attr]
            point.bias = None


def undo_norms_from_gram(deploy: DeployStudent, kind: Type[SquaredNorms] = SquaredNorms) -> None:
    """Unstack q and k, and square them."""
    for part in parts_of(deploy, DeployAttention):
        halves = slice(None, part.part), slice(part.part, None)
        for name, layers in (("point_q_k", part.point_qk), ("deep_q_k", part.deep_qk)):
            setattr(part, name, nn.ModuleList(outputs_of(layer, half) for layer in layers for half in halves))  # type: ignore[arg-type]
        del part.point_qk, part.deep_qk
        part.__class__ = kind


def undo_normalised_gram(deploy: DeployStudent) -> None:
    """Normalise q and k, whose norms are then needed before their product."""
    undo_norms_from_gram(deploy, NormalisedMaps)


def undo_gram_by_rows(deploy: DeployStudent) -> None:
    """Multiply over the whole frame."""
    for part in parts_of(deploy, DeployAttention):
        part.__class__ = WholeGram


def undo_separate_maps(deploy: DeployStudent) -> None:
    """Stack the convolutions of q, k and v."""
    for part in parts_of(deploy, DeployAttention):
        part.point = stacked([*part.point_qk, part.point_v])  # type: ignore[list-item]
        part.deep = stacked([*part.deep_qk, part.deep_v])  # type: ignore[list-item]
        del part.point_qk, part.deep_qk, part.point_v, part.deep_v
        part.__class__ = SplitMaps


def undo_separate_gate(deploy: DeployStudent) -> None:
    """Stack the convolutions of gate and value."""
    for part in parts_of(deploy, DeployFeedForward):
        part.point = stacked([part.point_gate, part.point_value])
        part.deep = stacked([part.deep_gate, part.deep_value])
        del part.point_gate, part.point_value, part.deep_gate, part.deep_value
        part.__class__ = SplitFeedForward


def undo_one_encoder(deploy: DeployStudent) -> None:
    """Take the two encoders apart."""
    both = deploy.encoders
    half = both.conv1.out_channels // 2
    for index, name in enumerate(("of_infrared", "of_visible")):
        rows = slice(index * half, (index + 1) * half)
        first = conv(both.conv1.weight.data[rows, index : index + 1], both.conv1.bias.data[rows])  # type: ignore[union-attr]
        second = conv(both.conv2.weight.data[rows], both.conv2.bias.data[rows])  # type: ignore[union-attr]
        setattr(both, name, nn.ModuleList([first, second]))
    del both.conv1, both.conv2
    both.__class__ = TwoEncoders


def undo_sum_for_concatenation(deploy: DeployStudent) -> None:
    """Merge the convolutions whose outputs are added into one."""
    fusion = deploy.fusion
    terms = terms_of(fusion)
    fusion.conv = conv(torch.cat([term.weight.data for term in terms], dim=1), terms[0].bias.data)  # type: ignore[union-attr]
    for term in [*fusion.terms, *(["of_input"] if fusion.grown else [])]:
        delattr(fusion, term)
    fusion.__class__ = ConcatenatedFusion


def undo_folded_squeeze_excite(deploy: DeployStudent) -> None:
    """Multiply the power of two back in."""
    for block in parts_of(deploy, DeployDACB):
        for tensor in (block.pointwise2.weight, block.pointwise2.bias):
            tensor.data *= block.factor  # type: ignore[union-attr]
        block.squeeze.weight.data /= block.factor
        block.__class__ = LinearSqueezeExcite


# Rewrite -> what undoes it, in place.
UNDO: Dict[str, Callable[[DeployStudent], None]] = {
    "rotated basis: no mean": undo_rotated_basis,
    "LayerNorm's gain and bias folded": undo_folded_gain_and_bias,
    "Gram matrix normalised, not q and k": undo_normalised_gram,
    "norms from the Gram matrix": undo_norms_from_gram,
    "Gram matrix row by row": undo_gram_by_rows,
    "q and k, v: convolutions of their own": undo_separate_maps,
    "gate, value: convolutions of their own": undo_separate_gate,
    "both encoders as one": undo_one_encoder,
    "concatenation and 1x1 as a sum": undo_sum_for_concatenation,
    "squeeze-excite as 1x1, scaled": undo_folded_squeeze_excite,
}


def without(rewrite: str, deploy: DeployStudent) -> DeployStudent:
    """Return a copy of the deploy form without one rewrite of ``UNDO``."""
    undone = copy.deepcopy(deploy)
    UNDO[rewrite](undone)
    return undone.to(deploy.decoder.conv1.weight.dtype).requires_grad_(False).eval()
