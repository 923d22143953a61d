"""The ablation as tables: Markdown and LaTeX like Table 3, beside the published figures, and CSV."""

from math import isfinite, nan
from pathlib import Path
from statistics import mean, stdev
from typing import Dict, List, NamedTuple, Sequence

from irvis.benchmarks.csv_text import csv_text
from irvis.benchmarks.published import ABLATION, METRICS, NOT_COMPARABLE
from irvis.benchmarks.ranked_tables import BEST, DIGITS, SECOND, TICK, Cell, RankedTable, ranks, write_tables
from irvis.benchmarks.tables import FOOTNOTE, MARK, PUBLISHED
from irvis.student.ablation import FULL, PARTS, VARIANTS, Variant
from irvis.student.network import Student

SMOKE_STEPS = 4000  # with fewer, a run only shows that everything works, and nothing about the method

# Variant -> its metrics, seed by seed.
Figures = Dict[Variant, List[Dict[str, float]]]


class Setting(NamedTuple):
    """The settings that all runs share, stated with the tables."""

    steps: int
    learning_rate: float  # at its peak
    seeds: int
    trained_on: str
    teachers: str
    tested_on: str


def write_ablation(folder: Path, figures: Figures, setting: Setting) -> List[Path]:
    """Write ablation.md, ablation.csv, ablation.tex and ablation.json; return their paths. Raises FileError."""
    published = [f"{name}, {PUBLISHED}{MARK if name == NOT_COMPARABLE else ''}" for name in METRICS]
    head = ["configuration", *PARTS, "parameters", *METRICS, *published]
    note = f"{describe(figures, setting)} {FOOTNOTE}."
    found = RankedTable("Table 3: ablation", head, cells_of(figures), note)
    return write_tables(folder, "ablation", found, to_csv(figures, setting))


def cells_of(figures: Figures) -> List[List[Cell]]:
    """Return one row per variant: ticks for its parts, parameters, mean ± standard deviation, published figures."""
    measured = _ranks(figures)
    published = dict(zip(METRICS, map(ranks, zip(*(ABLATION[variant.name] for variant in VARIANTS)))))
    rows = []
    for at, variant in enumerate(VARIANTS):
        row = [Cell(variant.name), *(Cell("" if part in variant.lacks else TICK) for part in PARTS)]
        row.append(Cell(f"{parameters(variant):,}"))
        row += [Cell(_with_deviation(_values(figures[variant], name)), measured[name][at]) for name in METRICS]
        values = zip(METRICS, ABLATION[variant.name])
        row += [Cell(f"{value:.{DIGITS}f}", published[name][at]) for name, value in values]
        rows.append(row)
    return rows


def describe(figures: Figures, setting: Setting) -> str:
    """Return the table's note: what was trained and measured, and where the full method ranks."""
    places = [column[VARIANTS.index(FULL)] for column in _ranks(figures).values()]
    smoke = ": a smoke run, whose figures mean nothing" if setting.steps < SMOKE_STEPS else ""
    sentences = [
        f"{setting.steps} steps per run at a peak rate of {setting.learning_rate} (the paper: 80000 at 0.0001){smoke}.",
        f"Trained on crops of {setting.trained_on}, teacher {setting.teachers}; measured on {setting.tested_on}.",
        f"Mean ± standard deviation over {setting.seeds} seeds." if setting.seeds > 1 else "One seed.",
        "Published: on the 361 pairs of MSRS, teacher CDDFuse.",
        f"The full method is best in {places.count(BEST)} of {len(places)} metrics, second in {places.count(SECOND)}.",
    ]
    return " ".join(sentences)


def to_csv(figures: Figures, setting: Setting) -> str:
    """Return every figure unrounded, one row per variant; with one seed the standard deviation is an empty cell."""
    kinds = ("mean", "std", PUBLISHED)
    head = ["configuration", *PARTS, "parameters", "steps", "seeds", "teachers"]
    head += [f"{name}_{kind}" for name in METRICS for kind in kinds]
    rows = []
    for variant in VARIANTS:
        parts = [int(part not in variant.lacks) for part in PARTS]
        row = [variant.name, *parts, parameters(variant), setting.steps, setting.seeds]
        row.append(setting.teachers if variant.distils else "")
        for name, published in zip(METRICS, ABLATION[variant.name]):
            values = _values(figures[variant], name)
            row += [mean(values), _deviation(values) if len(values) > 1 else "", published]
        rows.append(row)
    return csv_text(head, rows)


def parameters(variant: Variant) -> int:
    """Count a variant's parameters."""
    return sum(parameter.numel() for parameter in Student(variant.network).parameters())


def _values(rows: Sequence[Dict[str, float]], name: str) -> List[float]:
    return [row[name] for row in rows]


def _ranks(figures: Figures) -> Dict[str, List[int]]:
    """Rank the variants, in their order, by the means of each metric."""
    return {name: ranks([mean(_values(figures[variant], name)) for variant in VARIANTS]) for name in METRICS}


def _with_deviation(values: Sequence[float]) -> str:
    text = f"{mean(values):.{DIGITS}f}"
    return f"{text} ± {_deviation(values):.{DIGITS}f}" if len(values) > 1 else text


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation; NaN if a value is not finite, as the PSNR where every fused image is black."""
    return stdev(values) if all(map(isfinite, values)) else nan
