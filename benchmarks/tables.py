"""Fusion quality as a table: for the terminal, as Markdown, LaTeX and CSV."""

import math
from typing import Dict, List, NamedTuple, Optional

from irvis.benchmarks.csv_text import csv_text
from irvis.benchmarks.markdown import table
from irvis.benchmarks.published import NOT_COMPARABLE
from irvis.benchmarks.ranked_tables import BEST, MARKDOWN, Cell, to_latex

MODEL, BASELINE, PUBLISHED = "model", "baseline", "published"
TEXTS = 3  # columns before the metrics
MARK = "*"
FOOTNOTE = (
    f"{MARK} published {NOT_COMPARABLE} is not comparable: its definition is not known, and none that was tried fits"
)


class Row(NamedTuple):
    """One way to fuse a data set, and its metrics by name."""

    fused_by: str
    kind: str  # MODEL, BASELINE or PUBLISHED
    values: Dict[str, float]


class Quality(NamedTuple):
    """A data set, and a row for each way it was fused; the first row has every metric."""

    data_set: str
    pairs: int
    rows: List[Row]

    @property
    def metrics(self) -> List[str]:
        """The columns."""
        return list(self.rows[0].values)


def to_text(quality: Quality) -> str:
    """Return one data set's table with aligned columns."""
    head = ["fused by", *quality.metrics]
    body = [[_label(row), *(_number(row, name) for name in quality.metrics)] for row in quality.rows]
    widths = [max(len(cells[column].rstrip(MARK)) for cells in (head, *body)) for column in range(len(head))]
    lines = [f"{quality.data_set}, {quality.pairs} pair{'s' if quality.pairs > 1 else ''}"]
    for first, *others in (head, *body):
        line = first.ljust(widths[0] + 1)
        for cell, width in zip(others, widths[1:]):
            # The mark hangs in the gutter, so that the digits stay aligned.
            line += " " + cell.rstrip(MARK).rjust(width) + (MARK if cell.endswith(MARK) else " ")
        lines.append(line.rstrip())
    return "\n".join(lines)


def to_markdown(results: List[Quality]) -> str:
    """Return one table of all data sets. The best model or published figure of each column is bold."""
    lines = [[MARKDOWN[cell.rank].format(cell.text) for cell in row] for row in _cells(results)]
    return table(_head(results), lines, left=TEXTS) + (f"\n{FOOTNOTE}\n" if has_published(results) else "")


def to_tex(results: List[Quality]) -> str:
    """Return the table of ``to_markdown`` as LaTeX, for a paper."""
    return to_latex(_head(results), _cells(results), FOOTNOTE if has_published(results) else "", TEXTS)


def to_csv(results: List[Quality]) -> str:
    """Return every figure unrounded, one row per data set and method; an empty cell was not published."""
    rows = [
        [quality.data_set, quality.pairs, row.fused_by, row.kind]
        + [row.values.get(name, "") for name in quality.metrics]
        for quality in results
        for row in quality.rows
    ]
    return csv_text(["data_set", "pairs", "fused_by", "kind", *results[0].metrics], rows)


def has_published(results: List[Quality]) -> bool:
    """Return whether any row is published, which needs the footnote."""
    return any(row.kind == PUBLISHED for quality in results for row in quality.rows)


def _head(results: List[Quality]) -> List[str]:
    return ["data set", "pairs", "fused by", *results[0].metrics]


def _cells(results: List[Quality]) -> List[List[Cell]]:
    lines = []
    for quality in results:
        best = {name: _best(quality.rows, name) for name in quality.metrics}
        for row in quality.rows:
            cells = [Cell(quality.data_set), Cell(str(quality.pairs)), Cell(_label(row))]
            for name in quality.metrics:
                number = _number(row, name)
                cells.append(Cell(number, BEST if number == best[name] and _competes(row, name) else 0))
            lines.append(cells)
    return lines


def _label(row: Row) -> str:
    return f"{row.fused_by}, {PUBLISHED}" if row.kind == PUBLISHED else row.fused_by


def _number(row: Row, name: str) -> str:
    if name not in row.values:
        return ""
    return f"{row.values[name]:.4f}" + (MARK if _is_marked(row, name) else "")


def _is_marked(row: Row, name: str) -> bool:
    return row.kind == PUBLISHED and name == NOT_COMPARABLE


def _best(rows: List[Row], name: str) -> Optional[str]:
    """Return the greatest of two or more comparable figures, which is the best in every metric; None for fewer.

    The mean of the inputs is left out, since it wins several metrics with a dull picture.
    """
    values = [row.values[name] for row in rows if _competes(row, name)]
    return f"{max(values):.4f}" if len(values) > 1 else None


def _competes(row: Row, name: str) -> bool:
    return row.kind != BASELINE and not _is_marked(row, name) and not math.isnan(row.values.get(name, math.nan))
