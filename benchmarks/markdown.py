"""Markdown tables, and the blocks of a page that a command writes, between two HTML comments."""

import re
from typing import Dict, Sequence

from irvis.runtime.errors import FileError

BEGIN, END = "<!-- {name}: made by `make figures` -->", "<!-- end of {name} -->"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table: the first ``left`` columns are text, the others are numbers, aligned to the right."""
    rules = ["---"] * left + ["---:"] * (len(head) - left)
    lines = ([cell.replace("|", r"\|") for cell in cells] for cells in (head, rules, *rows))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def fill(page: str, name: str, blocks: Dict[str, str]) -> str:
    """Put each of ``blocks`` between its two comments in a page; the rest of the page is unchanged.

    Blocks without comments in the page are skipped. Raises FileError if the page has comments of an unknown block.

    Args:
        page: the text.
        name: of the page, for the error.
        blocks: by name.
    """
    pattern = re.escape(BEGIN).replace(r"\{name\}", r"([\w-]+)") + r"\n.*?" + re.escape(END).replace(r"\{name\}", r"\1")

    def replaced(match: "re.Match[str]") -> str:
        block = match[1]
        if block not in blocks:
            raise FileError(f"{name} asks for the block {block}. Known: {', '.join(blocks)}")
        return f"{BEGIN.format(name=block)}\n{blocks[block].strip()}\n{END.format(name=block)}"

    return re.sub(pattern, replaced, page, flags=re.DOTALL)
