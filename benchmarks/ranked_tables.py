"""Tables as in a paper, in Markdown and LaTeX: the best of a column in bold, the second underlined."""

import json
import math
from pathlib import Path
from typing import Iterable, List, NamedTuple, Sequence

from irvis.benchmarks.markdown import table
from irvis.runtime.errors import FileError
from irvis.runtime.files import read_bytes, write_text

DIGITS = 4  # after the point
TICK = "✓"
SMOKE_RUN = "smoke run"  # in the note of every table that --quick made
BEST, SECOND = 1, 2
MARKDOWN = {0: "{}", BEST: "**{}**", SECOND: "<u>{}</u>"}
LATEX = {0: "{}", BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"}
IN_LATEX = {
    "±": r"$\pm$",
    TICK: r"\checkmark",
    "\\": r"\textbackslash{}",
    "^": r"\^{}",
    "~": r"\~{}",
    **{mark: rf"\{mark}" for mark in "%&_#${}"},
}


class Cell(NamedTuple):
    """The text of a cell, and its value's rank in the column: BEST, SECOND or 0."""

    text: str
    rank: int = 0


def ranks(values: Sequence[float], digits: int = DIGITS) -> List[int]:
    """Rank a column's values as printed, with ``digits`` after the point, greater being better.

    NaN has no rank (0), equal values share one.
    """
    rounded = [round(value, digits) for value in values]
    order = sorted({value for value in rounded if not math.isnan(value)}, reverse=True)
    places = dict(zip(order, (BEST, SECOND)))
    return [places.get(value, 0) for value in rounded]


class RankedTable(NamedTuple):
    """A table, its title, and a note for its reader."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str
    left: int = 1  # text columns


def table_files(folder: Path, name: str) -> List[Path]:
    """Return the paths that ``write_tables`` writes to."""
    return [folder / f"{name}.{ending}" for ending in ("md", "csv", "tex", "json")]


def check_quick(tables: Iterable[Path]) -> None:
    """Raise FileError if one of the tables, in Markdown, is not of a smoke run: ``--quick`` would replace it."""
    for path in tables:
        if path.exists() and SMOKE_RUN not in read_bytes(path, "table").decode(errors="replace"):
            raise FileError(f"{path} is of a whole run, and --quick would replace it; give another --output")


def write_tables(folder: Path, name: str, found: RankedTable, csv: str) -> List[Path]:
    """Write NAME.md, NAME.csv, NAME.tex and NAME.json, which ``make figures`` reads; return their paths.

    ``csv`` holds the unrounded figures, in the experiment's format. Raises FileError.
    """
    page = {"kind": "table", "head": [*found.head], "rows": markdown_cells(found), "left": found.left}
    contents = (
        f"# {found.title}\n\n{found.note}\n\n{to_markdown(found)}",
        csv,
        to_latex(found.head, found.rows, found.note, found.left),
        json.dumps({**page, "notes": found.note}, indent=1, ensure_ascii=False) + "\n",
    )
    files = table_files(folder, name)
    for file, content in zip(files, contents):
        write_text(file, content)
    return files


def markdown_cells(found: RankedTable) -> List[List[str]]:
    """Return the cells, the best in bold and the second underlined."""
    return [[MARKDOWN[cell.rank].format(cell.text) if cell.text else "" for cell in row] for row in found.rows]


def to_markdown(found: RankedTable) -> str:
    """Return the table in Markdown, without title and note."""
    return table(found.head, markdown_cells(found), found.left)


def to_latex(head: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str, left: int = 1) -> str:
    """Return the table as a ``table*`` whose first ``left`` columns are text; it needs booktabs and amssymb."""
    cells = [[LATEX[cell.rank].format(_escaped(cell.text)) if cell.text else "" for cell in row] for row in rows]
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_escaped(caption)}}}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(head) - left)}}}",
        r"\toprule",
        " & ".join(map(_escaped, head)) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in cells),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join(IN_LATEX.get(character, character) for character in text)
