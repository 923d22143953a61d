"""Tables as a paper has them, in Markdown and LaTeX: the best of a column in bold, the second underlined."""

import math
from typing import List, NamedTuple, Sequence

from irvis.benchmarks.markdown import table

DIGITS = 4  # after the point
TICK = "✓"
BEST, SECOND = 1, 2
MARKDOWN = {0: "{}", BEST: "**{}**", SECOND: "<u>{}</u>"}
LATEX = {0: "{}", BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}"}
IN_LATEX = {"±": r"$\pm$", TICK: r"\checkmark", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#"}


class Cell(NamedTuple):
    """What stands in a cell, and how its value ranks in its column: BEST, SECOND or 0."""

    text: str
    rank: int = 0


def ranks(values: Sequence[float]) -> List[int]:
    """Rank a column in which more is better, as it is printed; NaN has no rank, equal values have the same."""
    rounded = [round(value, DIGITS) for value in values]
    order = sorted({value for value in rounded if not math.isnan(value)}, reverse=True)
    places = dict(zip(order, (BEST, SECOND)))
    return [places.get(value, 0) for value in rounded]


def to_markdown(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Give the table, its first column to the left and the others to the right."""
    cells = [[MARKDOWN[cell.rank].format(cell.text) if cell.text else "" for cell in row] for row in rows]
    return table(head, cells)


def to_latex(head: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str) -> str:
    """Give the table as a ``table*``; it needs the packages booktabs and amssymb."""
    cells = [[LATEX[cell.rank].format(_escaped(cell.text)) if cell.text else "" for cell in row] for row in rows]
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_escaped(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
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
