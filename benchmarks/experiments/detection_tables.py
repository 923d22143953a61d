"""Detection as tables: average precisions in the form of the paper's Table 6, with its own figures below."""

import json
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

from irvis.benchmarks.csv_text import csv_text
from irvis.benchmarks.detection.detector import Settings
from irvis.benchmarks.detection.objects import CLASSES
from irvis.benchmarks.ranked_tables import Cell, RankedTable, ranks, write_tables
from irvis.benchmarks.tables import PUBLISHED

FIGURES = Path(__file__).with_name("published_detection.json")
MEAN = "mAP"
DIGITS = 2  # after the point, of percents


class Row(NamedTuple):
    """A method, and its average precision for each class in percent; NaN for a class without test objects."""

    name: str
    kind: str  # MODEL or PUBLISHED
    values: List[float]
    mean: float  # of the classes that have test objects


class Setting(NamedTuple):
    """The settings that all methods share, stated with the tables."""

    data_set: str
    classes: Sequence[str]
    images: Sequence[int]  # numbers of them: trained on, validated on, tested on
    objects: int  # in the test images
    detector: str
    settings: Settings
    smoke: bool


def published_rows() -> List[Row]:
    """Return the rows of Table 6."""
    figures: Dict[str, Dict[str, float]] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return [Row(name, PUBLISHED, [row[kind] for kind in CLASSES], row[MEAN]) for name, row in figures.items()]


def write_detection(folder: Path, measured: Sequence[Row], setting: Setting) -> List[Path]:
    """Write detection.md, .csv, .tex and .json; return their paths. Raises FileError."""
    title = "Table 6: detection, mAP@0.5 in %" + (" (a smoke run)" if setting.smoke else "")
    published = published_rows() if tuple(setting.classes) == CLASSES else []
    cells = [*cells_of(measured), *cells_of(published)]
    found = RankedTable(title, ["method", *setting.classes, MEAN], cells, describe(setting, bool(published)))
    return write_tables(folder, "detection", found, to_csv([*measured, *published], setting))


def cells_of(rows: Sequence[Row]) -> List[List[Cell]]:
    """Return the rows, ranked among themselves in each column."""
    if not rows:
        return []
    # A precision that rounds to 0 is not ranked.
    columns = [[round(value, DIGITS) or math.nan for value in column] for column in zip(*map(_columns, rows))]
    placed = zip(*(ranks(column) for column in columns))
    return [
        [Cell(f"{row.name}, {PUBLISHED}" if row.kind == PUBLISHED else row.name)]
        + [Cell("" if math.isnan(value) else f"{value:.{DIGITS}f}", rank) for value, rank in zip(_columns(row), places)]
        for row, places in zip(rows, placed)
    ]


def describe(setting: Setting, published: bool) -> str:
    """Return the table's note: what was trained and measured."""
    trained, validated, tested = setting.images
    (epochs, batch, side, *_), paper = setting.settings, Settings()
    smoke = "A smoke run: it shows that everything works, but its figures mean nothing. " if setting.smoke else ""
    sentences = [
        f"{smoke}{setting.data_set} split 8:1:1, the same for all: trained on {trained} images, the best epoch chosen "
        f"on {validated}, tested on {tested} with {setting.objects} objects.",
        f"{setting.detector}; {epochs} epochs in batches of {batch}, images of {side}x{side} (the paper: YOLOv5s from "
        f"COCO, SGD at {paper.learning_rate} with momentum {paper.momentum} and weight decay {paper.weight_decay}, "
        f"{paper.epochs} epochs in batches of {paper.batch}, {paper.side}x{paper.side}).",
        f"{MEAN} is the mean over the classes that occur in the test images.",
    ]
    if published:
        sentences.append("Published: on the 4200 pairs of M3FD, ranked among themselves.")
    return " ".join(sentences)


def to_csv(rows: Sequence[Row], setting: Setting) -> str:
    """Return every figure unrounded, one row per method; an empty cell is a class without test objects."""
    return csv_text(
        ["method", "kind", *setting.classes, MEAN],
        [[row.name, row.kind, *("" if math.isnan(value) else value for value in _columns(row))] for row in rows],
    )


def _columns(row: Row) -> List[float]:
    return [*row.values, row.mean]
