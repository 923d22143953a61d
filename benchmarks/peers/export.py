"""Published networks as ONNX that TensorRT 8.5 accepts: ``python -m irvis.benchmarks.peers.export SHIP=SHIP.pth``."""

import argparse
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import onnx
from torch import Tensor, nn

from irvis.export.check_onnx import NEWEST_IR, find_obstacles
from irvis.export.fixed_shapes import fix_shapes
from irvis.export.to_onnx import Planes, largest_difference, sample_pairs, write_graph
from irvis.runtime.cli import guarded
from irvis.runtime.errors import IrvisError, ModelError
from irvis.runtime.files import check_outputs, replacing
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_size
from irvis.student.teachers.load import load_published, published_name
from irvis.student.teachers.network import FusionNetwork
from irvis.student.teachers.zheng_blocks import CrossDifference, InvertibleConvolution

# Of ONNX Runtime's output from PyTorch's. All but SHIP stay under 2e-5 at 480x640; SHIP in float32 is 1.2e-4 from its
# float64, and two runs of it were 2.5e-4 apart on another CPU.
TOLERANCE = 5e-4


class FusedPlane(nn.Module):
    """A published network that returns only the fused plane: two (B, 1, H, W) in [0, 1] -> (B, 1, H, W)."""

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Return the fused plane."""
        return self.network(infrared, visible)[1]


def fix_kernels(network: nn.Module) -> None:
    """Replace each convolution that computes its kernel from its parameters at every call by a plain one."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (CrossDifference, InvertibleConvolution)):
                setattr(module, name, _convolution(child.kernel()))


def _convolution(kernel: Tensor) -> nn.Conv2d:
    outputs, inputs, size, _ = kernel.shape
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False).requires_grad_(False)
    conv.weight.copy_(kernel)
    return conv


def share_constants(model: onnx.ModelProto) -> None:
    """Merge equal constants, and remove those that no node reads."""
    first: Dict[bytes, onnx.TensorProto] = {}
    names: Dict[str, str] = {}
    for tensor in model.graph.initializer:
        unnamed = onnx.TensorProto()
        unnamed.CopyFrom(tensor)
        unnamed.ClearField("name")
        names[tensor.name] = first.setdefault(unnamed.SerializeToString(), tensor).name
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in first.values() if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


class Exported(NamedTuple):
    """What was written."""

    nodes: int
    difference: float  # the largest from PyTorch over the pairs, for a range of 1


def export_published(network: FusionNetwork, output: Path, size: Tuple[int, int], pairs: List[Planes]) -> Exported:
    """Write a published network as an ONNX of one size, if its outputs on ``pairs`` match PyTorch's.

    Its inputs are ``infrared`` and ``visible``, its output ``fused``: float32 (1, 1, H, W).

    Args:
        network: in eval mode, on the CPU; its kernels are fixed in place.
        output: the ONNX.
        size: (H, W), multiples of ``network.multiple``.
        pairs: uint8 planes (H, W), resized if they have another size.

    Raises ModelError, and writes nothing, if the size or the graph does not fit, or if the outputs differ.
    """
    name = type(network).__name__
    if any(side % network.multiple for side in size):
        raise ModelError(f"{name} needs sides that are multiples of {network.multiple} pixels. Got {format_size(size)}")
    fused = FusedPlane(network).eval()  # the wrapper too: the exporter applies its mode to all its modules
    fix_kernels(fused)
    with replacing(output) as temporary:
        write_graph(fused, temporary, size, frames=False)
        model, _ = fix_shapes(onnx.load(temporary), size)
        share_constants(model)
        fixed = onnx.helper.make_tensor_value_info("fused", onnx.TensorProto.FLOAT, (1, 1, *size))
        model.graph.output[0].CopyFrom(fixed)
        model.ir_version = min(model.ir_version, NEWEST_IR)
        onnx.checker.check_model(model, full_check=True)
        obstacles = find_obstacles(model)
        if obstacles:
            raise ModelError(f"TensorRT 8.5 would not take {name}: " + "; ".join(obstacles))
        onnx.save(model, temporary)
        difference = largest_difference(fused, temporary, pairs, size)  # type: ignore[arg-type]
        if not difference <= TOLERANCE:
            raise ModelError(f"ONNX Runtime and PyTorch differ by {difference:.1e} on {name}, over {TOLERANCE:.0e}")
    return Exported(len(model.graph.node), difference)


def named_weights(text: str) -> Tuple[str, Path]:
    """Parse ``NAME=FILE``, a published network and its authors' weights, for argparse."""
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise argparse.ArgumentTypeError(f"must be NAME=FILE, such as SHIP=SHIP.pth. Got {text!r}")
    try:
        return published_name(name), Path(file)
    except ModelError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(argv: Optional[List[str]] = None) -> int:
    """Export each named network; one that fails does not stop the others."""
    parser = argparse.ArgumentParser(prog="python -m irvis.benchmarks.peers.export", description=__doc__)
    parser.add_argument("networks", type=named_weights, nargs="+", metavar="NAME=FILE", help="name and weights")
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="FOLDER", help="(default: this folder)")
    parser.add_argument("--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="(480x640)")
    parser.add_argument("--pairs", type=Path, help="folder with ir/ and vi/ to check on (default: generated samples)")
    arguments = parser.parse_args(argv)
    return guarded(parser.prog, lambda: _export_all(arguments))


def _export_all(arguments: argparse.Namespace) -> int:
    pairs = [read_luminance(pair) for pair in pairs_of(arguments.pairs)] if arguments.pairs else None
    outputs = [arguments.output / f"{name}.onnx" for name, _ in arguments.networks]
    check_outputs(outputs, [weights for _, weights in arguments.networks])
    failures = 0
    for output, (name, weights) in zip(outputs, arguments.networks):
        try:
            network = load_published(name, weights)
            found = export_published(network, output, arguments.size, pairs or sample_pairs(arguments.size))
        except IrvisError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failures += 1
        else:
            print(f"wrote {output}: {found.nodes} nodes, {found.difference:.1e} from PyTorch at most", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
