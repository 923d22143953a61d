"""A roofline as text, Markdown, JSON and plot."""

from pathlib import Path
from typing import Any, Dict, List, Sequence

from irvis.benchmarks.markdown import table
from irvis.benchmarks.roofline.devices import CACHE_SHARE, Range
from irvis.benchmarks.roofline.efficiency import as_json as efficiencies_json
from irvis.benchmarks.roofline.efficiency import total_ms
from irvis.benchmarks.roofline.estimate import Roofline, Row
from irvis.benchmarks.roofline.work import as_json as work_json
from irvis.runtime.columns import align
from irvis.runtime.errors import printable
from irvis.runtime.files import legend_name, new_figure, save_figure, write_json
from irvis.runtime.sizes import format_size

SCHEMA_VERSION = 1
MARKERS = "o^sDv<>*"
# The target of a calibrated estimate: each of the costliest groups within this error.
DEAREST, WITHIN = 10, 0.30
DRAWN_MS = 0.1  # measured time above which a group is drawn against its prediction


def heading(found: Roofline) -> str:
    """Return a heading that says what this is, and that it is an estimate."""
    return f"{found.model}, {format_size(found.size)}, {found.precision.upper()}, on {found.device.name}: " + (
        "an estimate, not a measurement" if found.measured_ms is None else "the estimate beside the measurement"
    )


def to_text(found: Roofline, top: int) -> str:
    """Return the tables for the terminal: by kind, the costliest groups and, with measured times, the errors."""
    lines = [heading(found), f"efficiencies: {found.efficiencies.source}", _peaks(found), ""]
    lines += ["  " + line for line in align(_by_kind(found)).split("\n")]
    if top:
        lines += ["", *("  " + line for line in align(_dearest(found, top)).split("\n"))]
    return "\n".join([*lines, *_verdict(found)])


def to_markdown(found: Roofline, top: int) -> str:
    """Return the tables of ``to_text`` as Markdown, for a page."""
    tables = [_by_kind(found), *([_dearest(found, top)] if top else [])]
    verdict = "\n".join(_verdict(found)).strip()
    said = f"{heading(found)}. Efficiencies: {found.efficiencies.source}."
    return "\n\n".join(
        filter(None, [said, *(table(rows[0], rows[1:], len(rows[0])).strip() for rows in tables), verdict])
    )


def write_rooflines(found: Sequence[Roofline], path: Path) -> None:
    """Write all groups of all graphs as JSON. Raises FileError."""
    document = {"schema_version": SCHEMA_VERSION, "rooflines": [_as_json(each) for each in found]}
    write_json(path, document)


def draw(found: Sequence[Roofline], output: Path) -> None:
    """Draw performance against intensity, the time by kind and, with measured times, predicted against measured.

    Of several precisions of one graph, the last that is not INT8 is drawn. Raises FileError, and IrvisError without
    matplotlib.
    """
    shown = list({each.model: each for each in found if each.precision != "int8" or len(found) == 1}.values())
    measured = shown[0].measured_ms is not None
    figure = new_figure(figsize=(16 if measured else 12, 5.2))
    axes = figure.subplots(1, 3 if measured else 2)
    _draw_roof(axes[0], shown)
    _draw_kinds(axes[1], shown)
    if measured:
        _draw_errors(axes[2], shown)
    said = "the estimate beside the measurement" if measured else "estimates, not measurements"
    figure.suptitle(f"{shown[0].device.name}, {format_size(shown[0].size)}, {shown[0].precision.upper()}: {said}")
    save_figure(figure, output, dpi=100)


def _peaks(found: Roofline) -> str:
    device, units = found.device, found.device.tflops[found.precision]
    fitting_mb = CACHE_SHARE * device.cache_mb
    unit = "TOP/s" if found.precision == "int8" else "TFLOP/s"
    return (
        f"peaks: {device.dram_gb_per_s:.1f} GB/s, {device.cache_gb_per_s:.0f} for tensors up to {fitting_mb:.3g} MB "
        f"(cache); {units['matrix']:.3g} {unit} in matrices, {units['vector']:.3g} in vectors; "
        f"{device.overhead_us[1]:.2g} us per kernel"
    )


def _by_kind(found: Roofline) -> List[List[str]]:
    measured = found.measured_ms is not None
    rows = [["kind", "groups", "MB", "GFLOP", "bound_ms", "by", "estimate_ms", *(["measured_ms"] if measured else [])]]
    kinds: Dict[str, List[Row]] = {}
    for row in found.rows:
        kinds.setdefault(row.work.kind, []).append(row)
    dear_first = sorted(kinds.items(), key=lambda item: -sum(row.bound_ms for row in item[1]))
    for kind, members in [*dear_first, ("total", found.rows)]:
        of_memory = sum(row.bound_ms for row in members if row.bound_by == "memory")
        bound_ms = sum(row.bound_ms for row in members)
        cells = [
            kind,
            str(len(members)),
            f"{sum(row.work.bytes for row in members) / 1e6:.1f}",
            f"{sum(row.work.operations for row in members) / 1e9:.2f}",
            f"{bound_ms:.2f}",
            f"{100 * of_memory / bound_ms if bound_ms else 0:.0f} % memory",
            _range(total_ms([row.estimate_ms for row in members])),
        ]
        rows.append(cells + ([f"{sum(row.measured_ms or 0 for row in members):.2f}"] if measured else []))
    return rows


def _dearest(found: Roofline, top: int) -> List[List[str]]:
    measured = found.measured_ms is not None
    head = ["group", "kind", "FLOP/byte", "by", "bound_ms", "estimate_ms"]
    rows = [head + (["measured_ms", "error"] if measured else [])]
    for row in found.dearest(top):
        cells = [printable(row.work.name), row.work.kind, f"{row.work.intensity:.2f}", row.bound_by]
        cells += [f"{row.bound_ms:.3f}", _range(row.estimate_ms)]
        if measured and row.measured_ms:
            cells += [f"{row.measured_ms:.3f}", f"{100 * (row.estimate_ms[1] / row.measured_ms - 1):+.0f} %"]
        rows.append(cells)
    return rows


def _verdict(found: Roofline) -> List[str]:
    measured_ms = found.measured_ms
    if measured_ms is None:
        return []
    errors, total = found.errors(DEAREST), found.estimate_ms[1] / measured_ms - 1
    within = sum(abs(error) <= WITHIN for error in errors)
    lines = [
        "",
        f"predicted {found.estimate_ms[1]:.2f} ms, measured {measured_ms:.2f}: {100 * total:+.1f} %; "
        f"{within} of the {len(errors)} costliest groups are within {100 * WITHIN:.0f} %, "
        f"the worst is at {100 * max(errors, key=abs, default=0.0):+.0f} %",
    ]
    lines += [f"{name}: {ms:.2f} ms" for name, ms in found.beside_ms.items()]
    dear_first = sorted(found.unmatched_ms.items(), key=lambda item: -item[1])
    return lines + [f"  {ms:.3f} ms: {name}" for name, ms in dear_first[:DEAREST]]


def _range(found: Range) -> str:
    low, middle, high = map(_three_digits, found)
    return f"{middle} ({low} to {high})"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _as_json(found: Roofline) -> Dict[str, Any]:
    return {
        "model": found.model,
        "size": [*found.size],
        "device": found.device._asdict(),
        "precision": found.precision,
        "efficiencies": efficiencies_json(found.efficiencies),
        "is": "an estimate, not a measurement, except for what is called measured",
        "estimate_ms": [*found.estimate_ms],
        "measured_ms": found.measured_ms,
        "beside_ms": found.beside_ms,
        "unmatched_ms": found.unmatched_ms,
        "groups": [
            {
                **work_json(row.work),
                "bound_ms": row.bound_ms,
                "bound_by": row.bound_by,
                "estimate_ms": [*row.estimate_ms],
                "measured_ms": row.measured_ms,
            }
            for row in found.rows
        ],
    }


def _draw_roof(axis: Any, shown: Sequence[Roofline]) -> None:
    from matplotlib import colormaps

    device, units = shown[0].device, shown[0].device.tflops[shown[0].precision]
    reach = [0.05, 1000.0]
    for peak in set(units.values()):
        ridge = peak * 1e3 / device.dram_gb_per_s
        axis.plot([reach[0], ridge, reach[1]], [reach[0] * device.dram_gb_per_s, peak * 1e3, peak * 1e3], "k-", lw=1)
        label = ", ".join(unit for unit in units if units[unit] == peak)
        axis.text(reach[1], peak * 1e3, label, ha="right", va="bottom", fontsize=8)
    kinds = sorted({row.work.kind for each in shown for row in each.rows})
    colours = {kind: colormaps["tab20"](index) for index, kind in enumerate(kinds)}
    for each, marker in zip(shown, MARKERS):
        for kind in kinds:
            points = [
                (row.work.intensity, row.work.operations / 1e6 / (row.measured_ms or row.estimate_ms[1]))
                for row in each.rows
                if row.work.kind == kind and row.work.operations and row.work.bytes > 1e6
            ]
            if points:
                axis.scatter(*zip(*points), s=24, marker=marker, color=[colours[kind]], alpha=0.7)
    for kind in kinds:
        axis.scatter([], [], color=[colours[kind]], label=kind)
    if len(shown) > 1:
        for each, marker in zip(shown, MARKERS):
            axis.scatter([], [], color="grey", marker=marker, label=legend_name(each.model))
    axis.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="GFLOP/s", title="groups over 1 MB")
    axis.legend(fontsize=6, loc="lower right")


def _draw_kinds(axis: Any, shown: Sequence[Roofline]) -> None:
    longest: Dict[str, float] = {}
    for each in shown:
        for row in each.rows:
            longest[row.work.kind] = longest.get(row.work.kind, 0.0) + row.estimate_ms[1]
    kinds = sorted(longest, key=lambda kind: longest[kind])
    bars = []
    for each in shown:
        low_high = {kind: total_ms([row.estimate_ms for row in each.rows if row.work.kind == kind]) for kind in kinds}
        bars.append((f"{each.model}: {_range(each.estimate_ms)} ms estimated", low_high))
        if each.measured_ms is not None:
            sums = {kind: sum(row.measured_ms or 0 for row in each.rows if row.work.kind == kind) for kind in kinds}
            bars.append((f"{each.model}: {each.measured_ms:.0f} ms measured", {k: (v, v, v) for k, v in sums.items()}))
    height = 0.8 / len(bars)
    for index, (label, values) in enumerate(bars):
        places = [place + 0.4 - height * (index + 0.5) for place in range(len(kinds))]
        middles = [values[kind][1] for kind in kinds]
        ends = [
            [values[kind][1] - values[kind][0] for kind in kinds],
            [values[kind][2] - values[kind][1] for kind in kinds],
        ]
        axis.barh(places, middles, height=height, label=label, xerr=ends, error_kw={"lw": 0.8})
    axis.set_yticks(range(len(kinds)), kinds, fontsize=8)
    axis.set(xlabel="ms", title="by kind")
    axis.legend(fontsize=8, loc="lower right")


def _draw_errors(axis: Any, shown: Sequence[Roofline]) -> None:
    for each, marker in zip(shown, MARKERS):
        points = [(row.measured_ms, row.estimate_ms[1]) for row in each.rows if (row.measured_ms or 0) > DRAWN_MS]
        if points:
            axis.scatter(*zip(*points), s=14, marker=marker, alpha=0.5, label=legend_name(each.model))
    ends = [DRAWN_MS, max(max(row.measured_ms or 0, DRAWN_MS) for each in shown for row in each.rows)]
    axis.plot(ends, ends, "k-", lw=1)
    low, high = ([factor * end for end in ends] for factor in (1 - WITHIN, 1 + WITHIN))
    axis.fill_between(ends, low, high, alpha=0.15, label=f"within {100 * WITHIN:.0f} %")
    axis.set(
        xscale="log", yscale="log", xlabel="measured, ms", ylabel="predicted, ms", title=f"groups over {DRAWN_MS} ms"
    )
    axis.legend(fontsize=8)
