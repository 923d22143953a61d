"""The results of ``irvis peers`` as text, as Markdown, and as a plot of latency against quality."""

from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from irvis.benchmarks.markdown import table
from irvis.benchmarks.published import METRICS
from irvis.benchmarks.turns import Quartiles, ratio
from irvis.runtime.columns import align
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import new_figure, save_figure
from irvis.student.teachers.published import MODULES

STUDENT, DEPLOY_FORM = "student", ", deploy form"
DEPLOY = STUDENT + DEPLOY_FORM
PYTORCH = "PyTorch"
# Offsets in points of a name from its spot, and how it is aligned there; the first is preferred.
LABEL_PLACES = (
    *(((x, 0), side) for x, side in ((9, "left"), (-9, "right"))),
    *(((0, y), "center") for y in (11, -11)),
    *(((x, y), side) for y in (9, -9) for x, side in ((7, "left"), (-7, "right"))),
)
NEARER = 1.5  # times as far to any other spot as to its own: the reader must not wonder whose name it is
Document = Dict[str, Any]


class Timed(NamedTuple):
    """One method in one runtime."""

    method: Dict[str, Any]
    runtime: str
    latencies_ms: List[float]
    times_deploy: str  # latency divided by the deploy form's in the same runtime, quartiles over rounds


def timed(document: Document) -> Iterator[Timed]:
    """Yield what was timed, runtime by runtime, the fastest first."""
    runtimes = dict.fromkeys(runtime for method in document["methods"] for runtime in method["forms"])
    for runtime in runtimes:
        forms = [(method, method["forms"][runtime]) for method in document["methods"] if runtime in method["forms"]]
        deploy = next((form["latencies_ms"] for method, form in forms if method["name"] == DEPLOY), None)
        for method, form in sorted(forms, key=lambda pair: median(pair[1]["latencies_ms"])):
            values = form["latencies_ms"]
            yield Timed(
                method, runtime, values, str(ratio(values, deploy)) if deploy and method["name"] != DEPLOY else ""
            )


def to_cells(document: Document) -> Tuple[List[str], List[List[str]]]:
    """Return the table's head and rows."""
    metrics = [name for name in METRICS if any(name in method["quality"] for method in document["methods"])]
    head = [
        "method",
        "run by",
        "latency, ms",
        "times the deploy form's",
        f"from {PYTORCH}",
        "G multiply-adds",
        "M parameters",
        *metrics,
    ]
    rows = []
    for method, runtime, values, times in timed(document):
        quality = [f"{method['quality'][name]:.3f}" if name in method["quality"] else "" for name in metrics]
        cost = f"{method['macs'] / 1e9:.2f}", f"{method['parameters'] / 1e6:.4f}"
        difference = method["forms"][runtime]["max_difference"]
        shown = "" if runtime == PYTORCH or difference is None else f"{difference:.0e}"
        latency = str(Quartiles(*np.percentile(values, (25, 50, 75))))
        rows.append([method["name"], runtime, latency, times, shown, *cost, *quality])
    return head, rows


def to_notes(document: Document) -> str:
    """Return the table's note: what the figures are."""
    size, machine = document["size"], document["machine"]
    where = ", ".join(text for text in (machine["cpu"], machine["gpu"]) if text)
    notes = (
        f"{size['height']}x{size['width']} (HEIGHTxWIDTH), {where}, {document['threads']} CPU threads; medians (and "
        f"quartiles) over {document['rounds']} rounds, in each of which every form ran once; "
        f"{', '.join(machine['backends'])}. Multiply-adds are the true count, not thop's."
    )
    if document["quality_of"]:
        notes += " Quality: {data_set}, {pairs} pairs.".format(**document["quality_of"])
    return notes


def to_text(document: Document) -> str:
    """Return the table for the terminal."""
    head, rows = to_cells(document)
    return f"{align([head, *rows])}\n\n{to_notes(document)}"


def to_markdown(document: Document) -> str:
    """Return the table for a page."""
    head, rows = to_cells(document)
    return f"{table(head, rows, left=2)}\n{to_notes(document)}\n"


def draw(document: Document, output: Path, metric: str = "SCD") -> None:
    """Draw latency against quality, one panel per runtime. Raises FileError, and IrvisError if no method has any."""
    panels: Dict[str, List[Timed]] = {}
    for row in timed(document):
        if metric in row.method["quality"]:
            panels.setdefault(row.runtime, []).append(row)
    if not panels:
        raise IrvisError(f"nothing to draw: no method has a {metric}; give --quality")
    figure = new_figure(figsize=(5.5 * len(panels), 4.2))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)
    for axis, (runtime, rows) in zip(axes.flat, panels.items()):
        for row in rows:
            ours = row.method["name"] not in MODULES
            style = {"marker": "*", "color": "tab:red", "s": 150} if ours else {"marker": "o", "color": "tab:blue"}
            axis.scatter(median(row.latencies_ms), row.method["quality"][metric], **style)
        axis.set_xscale("log")
        axis.margins(x=0.3, y=0.15)  # room for the labels
        axis.grid(alpha=0.3, which="both")
        axis.set_title(runtime, fontsize=10)
        axis.set_xlabel("latency of a frame, ms")
    axes[0, 0].set_ylabel(f"{metric}, {document['quality_of']['data_set']}")
    figure.draw_without_rendering()  # so that the extent of a label is known
    for axis, rows in zip(axes.flat, panels.values()):
        spots = [(median(row.latencies_ms), row.method["quality"][metric], row.method["name"]) for row in rows]
        _label(axis, sorted(spots, key=lambda spot: spot[1], reverse=True))
    save_figure(figure, output, dpi=100)


def _label(axis: Any, spots: List[Tuple[float, float, str]]) -> None:
    """Write each name beside its spot (x, y), at the best of ``LABEL_PLACES``.

    At the best place it overlaps no spot and no other name, and is clearly nearer to its own spot than to any other.
    """
    from matplotlib.transforms import Bbox

    centres = axis.transData.transform([spot[:2] for spot in spots])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in centres]
    for index, (x, y, name) in enumerate(spots):
        label = axis.annotate(name, (x, y), (0, 0), textcoords="offset points", va="center", fontsize=8)
        boxes = []
        for offset, align_to in LABEL_PLACES:
            label.set(position=offset, horizontalalignment=align_to)
            boxes.append(label.get_window_extent())
        worths = []
        for box in boxes:
            gaps = np.hypot(*np.maximum(0, np.maximum(box.min - centres, centres - box.max)).T)
            nearer = np.delete(gaps, index).min(initial=np.inf) / gaps[index]
            is_free = axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1 and not any(map(box.overlaps, taken))
            worths.append((is_free, min(nearer, NEARER)))
        best = worths.index(max(worths))
        label.set(position=LABEL_PLACES[best][0], horizontalalignment=LABEL_PLACES[best][1])
        taken.append(boxes[best])
