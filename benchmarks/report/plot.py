"""A report as a plot: a histogram of its latencies, and each frame's latency over time."""

import importlib.util
import textwrap
from pathlib import Path
from typing import Any, Dict

import numpy as np

from irvis.benchmarks.report.text import UNTRUSTED, WATERMARK
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import new_figure, save_figure

MARKS = {"p50": "tab:green", "p99": "tab:orange", "max": "tab:red"}
TEXT_WIDTH = 150  # characters that fit the picture's width


def require_matplotlib() -> None:
    """Raise IrvisError if matplotlib is missing; called before a run, not after."""
    if importlib.util.find_spec("matplotlib") is None:
        raise IrvisError(
            "--plot needs matplotlib, which is not installed: pip install matplotlib, or keep the --json "
            "and plot it elsewhere with `bench.py plot`"
        )


def draw(document: Dict[str, Any], output: Path) -> None:
    """Plot a JSON report to a PNG. Raises IrvisError without matplotlib, FileError."""
    require_matplotlib()
    from matplotlib.ticker import LogFormatter

    latencies_ms = np.array(document["latencies_ms"])
    histogram, latency = document["histogram"], document["latency"]
    edges_ms = np.array(histogram["edges_ms"])
    figure = new_figure(figsize=(13, 5))
    left, right = figure.subplots(1, 2)
    left.bar(edges_ms[:-1], histogram["counts"], np.diff(edges_ms), align="edge", color="tab:blue", alpha=0.7)
    label = "latency, ms" if document["rate_hz"] is None else "latency from a frame's arrival, ms"
    left.set(xlabel=label, ylabel="frames", yscale="log", ylim=(0.7, None))
    left.yaxis.set_major_formatter(LogFormatter())  # 2 rather than 2 x 10^0
    left.yaxis.set_minor_formatter(LogFormatter())
    for name, colour in MARKS.items():
        value_ms = latency[f"{name}_ms"]
        left.axvline(value_ms, color=colour, label=f"{name} {value_ms:.2f} ms")
        right.axhline(value_ms, color=colour, linewidth=0.8)
    left.legend()
    seconds = np.array(document["starts_s"])
    right.plot(seconds, latencies_ms, ".", markersize=4, color="tab:blue")
    right.set(xlabel="time, s", ylabel=label, ylim=(0, 1.05 * latencies_ms.max()))
    looks = [
        (look["seconds"], max(look["temperatures_c"].values()))
        for look in document["history"]
        if look["temperatures_c"]
    ]
    if looks:
        warm = right.twinx()
        warm.plot(*zip(*looks), color="tab:purple", linewidth=1.2)
        warm.set_ylabel("hottest zone, °C", color="tab:purple")
    figure.suptitle(_title(document), fontsize=9)
    if document["watermark"]:
        figure.text(
            0.5, 0.5, WATERMARK, fontsize=70, color="tab:red", alpha=0.15, rotation=20, ha="center", va="center"
        )
    save_figure(figure, output, dpi=100, format="png")


def _title(document: Dict[str, Any]) -> str:
    board, size, model = document["board"], document["size"], document["model"]
    pace = "back to back" if document["rate_hz"] is None else f"at {document['rate_hz']:g} Hz"
    machine = board["module"] or board["gpu"] or board["cpu"]
    lines = [
        f"{model['file']}, {document['backend']}, {size['height']}x{size['width']}, {pace}",
        f"{machine}, power mode {document['verified_mode'] or 'not verified'}, {document['created']}",
    ]
    if document["watermark"]:
        lines.append(f"{WATERMARK}: {'; '.join(document['watermark'])}")
    if not document["trusted"]:
        lines.append(f"{UNTRUSTED}: {'; '.join(document['stability']['reasons'])}")
    return "\n".join(textwrap.fill(line, TEXT_WIDTH) for line in lines)
