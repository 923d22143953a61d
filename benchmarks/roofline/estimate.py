"""Estimates for a graph's fused groups on a device, alone or compared with measurements."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import onnx

from irvis.benchmarks.roofline.cpu import run_here
from irvis.benchmarks.roofline.devices import Device, Range
from irvis.benchmarks.roofline.efficiency import Efficiencies, Timed, total_ms
from irvis.benchmarks.roofline.engine import match
from irvis.benchmarks.roofline.work import Work, group_works, merged
from irvis.export.fixed_shapes import Shapes, fix_shapes, frame_inputs, load_planes_onnx
from irvis.export.fused_groups import fused_kernels
from irvis.runtime.errors import ModelError
from irvis.runtime.sizes import format_size


class Row(NamedTuple):
    """A fused group, or several that a runtime ran as one."""

    work: Work
    bound_ms: float
    bound_by: str
    estimate_ms: Range
    measured_ms: Optional[float] = None


@dataclass(frozen=True)
class Roofline:
    """One graph on one device in one precision."""

    model: str
    size: Tuple[int, int]  # (H, W)
    device: Device
    precision: str
    efficiencies: Efficiencies
    rows: List[Row]
    timed: List[Timed]  # what efficiencies can be fitted to
    # Times that no group predicts, and that of a whole run, in ms.
    beside_ms: Dict[str, float]
    unmatched_ms: Dict[str, float] = field(default_factory=dict)  # layers of an engine that are in no group

    @property
    def estimate_ms(self) -> Range:
        """Estimate for all groups together."""
        return total_ms([row.estimate_ms for row in self.rows])

    @property
    def measured_ms(self) -> Optional[float]:
        """Time of all groups together; None if nothing was measured."""
        found = [row.measured_ms for row in self.rows if row.measured_ms is not None]
        return sum(found) if found else None

    def dearest(self, count: int) -> List[Row]:
        """Return the ``count`` rows that take longest, as measured or else as estimated."""

        def cost(row: Row) -> float:
            return row.estimate_ms[1] if row.measured_ms is None else row.measured_ms

        return sorted(self.rows, key=cost, reverse=True)[:count]

    def errors(self, count: int) -> List[float]:
        """Return predicted / measured - 1 for the ``count`` rows that take longest."""
        return [row.estimate_ms[1] / row.measured_ms - 1 for row in self.dearest(count) if row.measured_ms]

    def without_times(self) -> "Roofline":
        """Return the estimate alone."""
        return replace(self, rows=[row._replace(measured_ms=None) for row in self.rows], beside_ms={})


class Graph(NamedTuple):
    """An ONNX of planes at one size."""

    name: str
    model: onnx.ModelProto
    shapes: Shapes

    @property
    def size(self) -> Tuple[int, int]:
        """(H, W)."""
        height, width = self.shapes[frame_inputs(self.model)[0].name][2:]
        return height, width


def estimate(graph: Graph, on: Device, precision: str, efficiencies: Efficiencies) -> Roofline:
    """Estimate a graph on a device whose runtime fuses as TensorRT does."""
    rows = [_row([work], on, efficiencies) for work in group_works(graph.model, graph.shapes, precision)]
    return Roofline(graph.name, graph.size, on, precision, efficiencies, rows, [], {})


def validate_engine(graph: Graph, on: Device, profile: Dict[str, Any], efficiencies: Efficiencies) -> Roofline:
    """Compare the estimate with the profile of an engine. Raises ModelError if that is of another graph."""
    precision = str(profile["precision"])
    if precision not in on.tflops:
        raise ModelError(f"the profile's precision must be one of {', '.join(on.tflops)}. Got {precision!r}")
    if [*graph.size] != profile["size"]:
        raise ModelError(
            f"the profile is for {format_size(profile['size'])}; give --size {format_size(profile['size'])}"
        )
    found = group_works(graph.model, graph.shapes, precision)
    works = [work for work in found if work.group is not None]
    converting = [work for work in found if work.group is None]
    matched = match(graph.model, fused_kernels(graph.model, graph.shapes), profile)
    rows: List[Row] = []
    timed: List[Timed] = []
    seen: Set[int] = set()
    for groups, measured_ms in matched.rows:
        parts = [works[index] for index in groups]
        seen.update(groups)
        rows.append(_row(parts, on, efficiencies, measured_ms))
        timed.append((rows[-1].work, measured_ms))
    if converting:
        row = _row(converting, on, efficiencies, matched.reformats_ms)
        rows.append(row._replace(work=row.work._replace(name="all conversions")))
        timed.append((rows[-1].work, matched.reformats_ms))
    absent = [_row([work], on, efficiencies) for index, work in enumerate(works) if index not in seen]
    beside = {
        **({} if converting else {"reformats": matched.reformats_ms}),
        "layers of no group": sum(matched.unmatched.values()),
        "estimate of groups without a layer": sum(row.estimate_ms[1] for row in absent),
        "whole engine": profile["median_ms"],
    }
    return Roofline(graph.name, graph.size, on, precision, efficiencies, rows, timed, beside, matched.unmatched)


def on_this_cpu(graph: Graph, on: Device, efficiencies: Efficiencies, threads: int, rounds: int) -> Roofline:
    """Run a graph ``rounds`` times under ONNX Runtime, and compare the estimate with its profile. Raises ModelError."""
    groups = group_works(graph.model, graph.shapes, "fp32")
    ran = run_here(graph.model, fused_kernels(graph.model, graph.shapes), threads, rounds)
    timed = list(zip(ran.works, ran.latencies_ms))
    rows = []
    for index, group in [*enumerate(groups), (None, None)]:
        parts = [(work, ms) for work, ms in timed if work.group == index]
        if not parts:
            continue  # a group that ONNX Runtime computes once, when it loads the graph
        works, latencies_ms = zip(*parts)
        row = _row(works, on, efficiencies, sum(latencies_ms))
        name, kind = (group.name, group.kind) if group else ("views", "view")
        rows.append(row._replace(work=row.work._replace(name=name, kind=kind)))
    beside = {"whole run": ran.whole_ms}
    return Roofline(graph.name, graph.size, on, "fp32", efficiencies, rows, timed, beside)


def _row(works: Sequence[Work], on: Device, efficiencies: Efficiencies, measured_ms: Optional[float] = None) -> Row:
    """Return the row of one group, or of several that ran as one, from its kernels."""
    longest = max(works, key=on.bound_ms)
    return Row(
        merged(works, longest.name, longest.kind, longest.group),
        sum(map(on.bound_ms, works)),
        on.bound_by(longest),
        total_ms([efficiencies.estimate_ms(work, on) for work in works]),
        measured_ms,
    )


def load_graph(path: Path, size: Optional[Tuple[int, int]]) -> Graph:
    """Read an ONNX of planes at a size (H, W), or at its own if None. Raises FileError and ModelError."""
    model, shapes = fix_shapes(load_planes_onnx(path), size)
    if not fused_kernels(model, shapes):
        raise ModelError(f"{path} computes nothing")
    return Graph(path.name, model, shapes)
