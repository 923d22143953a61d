"""Single parts of the deploy form as separate networks, each as it is and in variants that may be faster.

``python -m irvis.benchmarks.gpu_check.probes FOLDER`` writes them, which needs PyTorch; part ``build`` builds their
engines and ``latency`` times them in turn. A part builds in seconds, so it shows what a variant gains before a whole
engine is built for it. A variant is only written if its output equals that of the first of its part. One that is faster
and as exact replaces the part in ``export/deploy.py``.
"""

# ruff: noqa: D102  (forward is described by its class, and what a subclass overrides by the class above)

import argparse
import copy
import math
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple, Type

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.benchmarks.forms import export_form, run_eager
from irvis.benchmarks.gpu_check.engines import onnx_of
from irvis.export.deploy import DeployAttention, DeployDACB, DeployStudent
from irvis.export.sample_frames import to_planes
from irvis.runtime.cli import guarded
from irvis.runtime.errors import ModelError
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import DEFAULT_SIZE, parse_size
from irvis.student.checkpoint import load_student

TOLERANCE = 1e-5  # difference of a variant from the first of its part, for a range of 1


class GroupedAttention(DeployAttention):
    """A v as a convolution with computed weights, with as many groups as there are matrices.

    It leaves v in the convolutions' layout, whereas a product needs rows: 4 passes less by the model at 480x640.
    """

    def attended(self, attention: Tensor, v: Tensor) -> Tensor:
        weight = attention.reshape(self.channels, self.part, 1, 1)
        return self.project_out(F.conv2d(v, weight, groups=self.groups))


class FoldedAttention(DeployAttention):
    """The projection multiplied into the weights: one dense convolution instead of a product and a convolution.

    It saves 6.0 of the attention's 36.5 passes by the model at 480x640.
    """

    def attended(self, attention: Tensor, v: Tensor) -> Tensor:
        project = self.project_out.weight.view(self.channels, self.groups, self.part).transpose(0, 1)
        weight = (project @ attention).transpose(0, 1).reshape(self.channels, self.channels, 1, 1)
        return F.conv2d(v, weight)


class ProductOfGrams(DeployAttention):
    """The mean of the rows' Gram matrices as a product with a row of 1 / H, instead of a reduction."""

    def gram(self, qk: Tensor) -> Tensor:
        rows = qk.flatten(0, 1).transpose(0, 1)
        height, channels = rows.shape[0], 2 * self.part
        grams = (rows @ rows.transpose(1, 2)).reshape(height, channels * channels)
        return (torch.full((1, height), 1 / height) @ grams).view(1, channels, channels)


class GramsInTwoSteps(DeployAttention):
    """The mean of the rows' Gram matrices as two means, each over about the square root of their number."""

    def gram(self, qk: Tensor) -> Tensor:
        rows = qk.flatten(0, 1).transpose(0, 1)
        height, channels = rows.shape[0], 2 * self.part
        step = max(step for step in range(1, math.isqrt(height) + 1) if height % step == 0)
        grams = (rows @ rows.transpose(1, 2)).view(height // step, step, channels, channels)
        return grams.mean(dim=1).mean(dim=0, keepdim=True)


class SteppedDACB(DeployDACB):
    """``DeployDACB`` with the mean over the frame as a separate step, which each subclass computes in another way."""

    def forward(self, x: Tensor) -> Tensor:
        detail = self.pointwise2(F.relu(self.pointwise1(self.depthwise(x))))
        squeezed = F.relu(self.squeeze(self.pooled(detail)))
        return x + detail * (self.factor * torch.sigmoid(self.excite(squeezed)))

    def pooled(self, detail: Tensor) -> Tensor:
        """Return the mean: (1, C, H, W) -> (1, C, 1, 1)."""
        raise NotImplementedError


class PooledDACB(SteppedDACB):
    """The mean over the whole frame by one pooling, whose sums FP16 can hold only if the kernel adds up in FP32."""

    def pooled(self, detail: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(detail, 1)


class ColumnsFirstDACB(SteppedDACB):
    """The mean over rows before that over columns: neighbouring threads then add neighbours in memory."""

    def pooled(self, detail: Tensor) -> Tensor:
        return detail.mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)


class ProductDACB(SteppedDACB):
    """The mean over a row as a product with a column of 1 / W, instead of a reduction."""

    def pooled(self, detail: Tensor) -> Tensor:
        return (detail @ torch.full((detail.shape[3], 1), 1 / detail.shape[3])).mean(dim=2, keepdim=True)


class Probe(nn.Module):
    """A part between two 1x1 convolutions: two (1, 1, H, W) in [0, 1] -> (1, 1, H, W) in (0, 1), like a student."""

    def __init__(self, part: nn.Module, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.part, self.leave = nn.Conv2d(2, channels, 1), part, nn.Conv2d(channels, 1, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        entered = F.leaky_relu(self.enter(torch.cat([infrared, visible], dim=1)))
        return torch.sigmoid(self.leave(self.part(entered)))


class Way(NamedTuple):
    """A part of the deploy form, and the class that computes it; None: its own class."""

    part: Type[nn.Module]
    kind: Optional[Type[nn.Module]] = None


WAYS: Dict[str, Way] = {
    "probe attention": Way(DeployAttention),
    "probe attention folded": Way(DeployAttention, FoldedAttention),
    "probe attention grouped": Way(DeployAttention, GroupedAttention),
    "probe attention grams by a product": Way(DeployAttention, ProductOfGrams),
    "probe attention grams in two steps": Way(DeployAttention, GramsInTwoSteps),
    "probe DACB": Way(DeployDACB),
    "probe DACB pooled": Way(DeployDACB, PooledDACB),
    "probe DACB columns first": Way(DeployDACB, ColumnsFirstDACB),
    "probe DACB by a product": Way(DeployDACB, ProductDACB),
}


def probe_of(way: Way, deploy: DeployStudent) -> Probe:
    """Return the deploy form's first such part, computed that way; the deploy form itself is not changed."""
    part = copy.deepcopy(next(module for module in deploy.modules() if isinstance(module, way.part)))
    if way.kind is not None:
        part.__class__ = way.kind
    channels = deploy.decoder.conv1.in_channels
    return Probe(part, channels).requires_grad_(False).eval()


def write_probes(folder: Path, size: Tuple[int, int]) -> int:
    """Write each variant as an ONNX of planes for one size (H, W); return 0, the exit code.

    Raises ModelError if one differs from the first of its part.
    """
    deploy = DeployStudent(load_student(find_model(None, ".safetensors"))).eval()
    frames = make_scene("street", *size)
    planes = to_planes(frames)
    wanted: Dict[Type[nn.Module], np.ndarray] = {}
    for name, way in WAYS.items():
        probe = probe_of(way, deploy)
        fused = run_eager(probe, "cpu", planes)
        difference = float(np.abs(fused - wanted.setdefault(way.part, fused)).max())
        if not difference <= TOLERANCE:
            raise ModelError(f"{name} differs from its part by {difference:.1e}, over {TOLERANCE:.0e}")
        path = folder / onnx_of(name)
        export_form(probe, path, frames)
        print(f"wrote {path}: {difference:.1e} from its part", flush=True)
    return 0


def main(argv: Optional[List[str]] = None) -> int:
    """Parse the command line and write the probes; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m irvis.benchmarks.gpu_check.probes", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the ONNX")
    parser.add_argument("--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="(480x640)")
    arguments = parser.parse_args(argv)
    return guarded(parser.prog, lambda: write_probes(arguments.folder, arguments.size))


if __name__ == "__main__":
    sys.exit(main())
