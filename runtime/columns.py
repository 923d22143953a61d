"""A table as text."""

from typing import Sequence


def align(rows: Sequence[Sequence[str]]) -> str:
    """Return a table's cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
