"""Counts the memory traffic of a plain ONNX and of its deploy form: ``irvis passes plain.onnx deploy.onnx``.

One pass is one read or one write of a (1, 32, H, W) tensor in FP16, 19.7 MB at 480x640. ``fused_groups`` defines what
counts as one kernel, ``layouts`` what is converted between two kernels. It is a model: it ranks graphs and gives the
least that a graph costs, but measures nothing.
"""

import argparse
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from irvis.export.fixed_shapes import fix_shapes, frame_inputs, load_planes_onnx
from irvis.export.fused_groups import BYTES, Group, fused_groups, fused_kernels
from irvis.export.fused_groups import KINDS as FUSED_KINDS
from irvis.export.layouts import CONVERSION, conversions
from irvis.runtime.errors import ModelError, printable
from irvis.runtime.files import check_outputs, legend_name, new_figure, save_figure, write_json
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import format_size, parse_size

KINDS = (*FUSED_KINDS, CONVERSION)
CHANNELS = 32  # of the tensor that is the unit, as many as in the paper's student
# Jetson AGX Xavier: 256 bits of LPDDR4x at 4266 MT/s (NVIDIA's data sheet). Kernels' share of it was not measured.
PEAK_GB_PER_S = 136.5
USABLE_SHARE = 0.75


class Traffic(NamedTuple):
    """What one run of a graph moves."""

    name: str
    size: Tuple[int, int]  # (H, W)
    groups: List[Group]

    @property
    def bytes(self) -> int:
        """Bytes read and written by all kernels."""
        return sum(group.bytes for group in self.groups)

    @property
    def passes(self) -> float:
        """Bytes read and written by all kernels, in passes."""
        return self.in_passes(self.bytes)

    def in_passes(self, count: int) -> float:
        """Return bytes in passes."""
        return count / (CHANNELS * self.size[0] * self.size[1] * BYTES)

    def of_kind(self, kind: str) -> List[Group]:
        """Return the kernels of one of KINDS."""
        return [group for group in self.groups if group.kind == kind]

    def heaviest(self, count: int) -> List[Group]:
        """Return the ``count`` kernels that move most."""
        return sorted(self.groups, key=lambda group: -group.bytes)[:count]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis passes``."""
    parser.add_argument("plain", type=find_model, help="ONNX of irvis export --plain")
    parser.add_argument(
        "deploy", type=find_model, help="ONNX of irvis export, or irvis's own (student, fast), to compare with it"
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HEIGHTxWIDTH", help="size for ONNX files that take any (default: 480x640)"
    )
    parser.add_argument("--top", type=_count, default=0, metavar="N", help="list the N heaviest kernels of each graph")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all kernels of both, for programs")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw both by kind of kernel")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis passes``."""
    outputs = [path for path in (arguments.json, arguments.plot) if path]
    check_outputs(outputs, [arguments.plain, arguments.deploy])
    plain, deploy = (count_traffic(path, arguments.size) for path in (arguments.plain, arguments.deploy))
    if plain.size != deploy.size:
        sizes = f"{format_size(plain.size)} and {format_size(deploy.size)}"
        raise ModelError(f"the two are of different sizes, {sizes}; export both with the same --size, or --dynamic")
    ratio = deploy.bytes / plain.bytes
    print("\n\n".join(as_table(traffic, arguments.top) for traffic in (plain, deploy)))
    difference = deploy.passes - plain.passes
    print(f"\n{deploy.name} moves {100 * ratio:.1f} % of what {plain.name} does: {difference:+.1f} passes")
    if arguments.json:
        report = {"plain": as_json(plain), "deploy": as_json(deploy), "ratio": ratio}
        write_json(arguments.json, report)
    if arguments.plot:
        draw(plain, deploy, arguments.plot)
    for path in outputs:
        print(f"wrote {path}")
    return 0


def count_traffic(path: Path, size: Optional[Tuple[int, int]] = None) -> Traffic:
    """Count what an ONNX of planes moves at a size (H, W), or else at its own. Raises ModelError."""
    model, shapes = fix_shapes(load_planes_onnx(path), size)
    height, width = shapes[frame_inputs(model)[0].name][2:]
    kernels = fused_kernels(model, shapes)
    if not kernels:
        raise ModelError(f"{path} computes nothing")
    return Traffic(path.name, (height, width), fused_groups(kernels, shapes) + conversions(kernels, shapes))


def as_table(traffic: Traffic, top: int = 0) -> str:
    """Return kernels, passes and megabytes by kind, the total with its time on a Xavier, and the heaviest kernels."""
    lines = [
        f"{traffic.name}, {format_size(traffic.size)}, FP16",
        f"  {'kind':<20}{'kernels':>8}{'passes':>9}{'MB':>9}",
    ]
    for kind in KINDS:
        groups = traffic.of_kind(kind)
        if groups:
            lines.append(_row(traffic, kind, groups))
    lines.append(_row(traffic, "total", traffic.groups))
    lines.append(
        f"  on a Jetson AGX Xavier at the least {_milliseconds(traffic.bytes):.1f} ms at {PEAK_GB_PER_S} GB/s, "
        f"{_milliseconds(traffic.bytes) / USABLE_SHARE:.1f} ms at {100 * USABLE_SHARE:.0f} % of it"
    )
    for group in traffic.heaviest(top):
        passes = (f"{traffic.in_passes(count):.2f}" for count in (group.read_bytes, group.written_bytes))
        lines.append("  {} read + {} written, {}: {}".format(*passes, group.kind, printable(", ".join(group.nodes))))
    return "\n".join(lines)


def as_json(traffic: Traffic) -> Dict[str, Any]:
    """Return the table's figures, and those of each kernel, for programs: in bytes, passes and ms."""
    return {
        "file": traffic.name,
        "size": [*traffic.size],
        "bytes": traffic.bytes,
        "passes": traffic.passes,
        "peak_ms": _milliseconds(traffic.bytes),
        "usable_ms": _milliseconds(traffic.bytes) / USABLE_SHARE,
        "kernels": [
            {**group._asdict(), "nodes": [*group.nodes], "passes": traffic.in_passes(group.bytes)}
            for group in traffic.groups
        ],
    }


def draw(plain: Traffic, deploy: Traffic, output: Path) -> None:
    """Draw the passes of both by kind as bars. Raises FileError, and IrvisError without matplotlib."""
    kinds = [kind for kind in KINDS if plain.of_kind(kind) or deploy.of_kind(kind)][::-1]
    figure = new_figure(figsize=(8, 0.6 * len(kinds) + 1.2))
    axis = figure.subplots()
    for traffic, offset in ((plain, 0.2), (deploy, -0.2)):
        passes = [traffic.in_passes(sum(group.bytes for group in traffic.of_kind(kind))) for kind in kinds]
        places = [place + offset for place in range(len(kinds))]
        label = legend_name(f"{traffic.name}: {traffic.passes:.0f}")
        bars = axis.barh(places, passes, height=0.4, label=label)
        axis.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set_xlabel(f"passes over a (1, {CHANNELS}, {plain.size[0]}, {plain.size[1]}) tensor")
    axis.legend()
    save_figure(figure, output, dpi=100)


def _row(traffic: Traffic, name: str, groups: List[Group]) -> str:
    count = sum(group.bytes for group in groups)
    return f"  {name:<20}{len(groups):>8}{traffic.in_passes(count):>9.1f}{count / 1e6:>9.1f}"


def _milliseconds(count: int) -> float:
    return count / (PEAK_GB_PER_S * 1e6)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"a number of kernels, 0 or more. Got {text!r}")
    return int(text)
