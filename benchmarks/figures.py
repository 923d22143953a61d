"""Write the pages' tables and plots from the committed results: ``python -m irvis.benchmarks.figures``.

``docs/results/NAME.json`` was written by a command's ``--json``, or is a plain table. Its table is written to README.md
and docs/*.md between the two comments of the block NAME (``markdown.BEGIN``), its plot to NAME.png beside it. Without
such a block a page links the file.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from irvis.benchmarks.markdown import fill, table
from irvis.benchmarks.peers import tables as peer_tables
from irvis.runtime.cli import guarded
from irvis.runtime.errors import FileError, one_line
from irvis.runtime.files import parse_json, read_bytes, write_text

Document = Dict[str, Any]


class Kind(NamedTuple):
    """How documents of one kind are shown."""

    to_markdown: Callable[[Document], str]
    draw: Optional[Callable[[Document, Path], None]] = None


def plain_table(document: Document) -> str:
    """Return ``{"kind": "table", "head": [...], "rows": [[...], ...], "left": 1, "notes": "..."}`` as Markdown.

    ``left`` is the number of text columns. This kind is for results that no command here writes as a document.
    """
    rows = [[str(cell) for cell in row] for row in document["rows"]]
    return f"{table(document['head'], rows, document.get('left', 1))}\n{document.get('notes', '')}\n"


def _complexity(document: Document) -> str:
    from irvis.benchmarks.complexity import to_markdown  # it needs torch and thop, which the other kinds do not

    return to_markdown(document)


KINDS = {
    "complexity": Kind(_complexity),
    "peers": Kind(peer_tables.to_markdown, peer_tables.draw),
    "table": Kind(plain_table),
}


def read_results(root: Path) -> Dict[str, Tuple[Kind, Document]]:
    """Return the documents in docs/results by name. Raises FileError for a file that is not one."""
    results = {}
    for path in sorted((root / "docs" / "results").glob("*.json")):
        try:
            document = parse_json(read_bytes(path, "result"))
            results[path.stem] = KINDS[document["kind"]], document
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"not a result of a kind known here ({', '.join(KINDS)}): {path}") from error
    return results


def filled_pages(root: Path) -> Iterator[Tuple[Path, str, str]]:
    """Yield each page of README.md and docs/*.md: its path, its text, and the text it should have. Raises FileError."""
    blocks = {}
    for name, (kind, document) in read_results(root).items():
        try:
            blocks[name] = kind.to_markdown(document)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FileError(f"docs/results/{name}.json is incomplete: {one_line(error, 100)}") from error
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        page = read_bytes(path, "page").decode()
        yield path, page, fill(page, path.name, blocks)


def main(argv: Optional[List[str]] = None) -> int:
    """Fill the pages and draw the plots."""
    parser = argparse.ArgumentParser(prog="python -m irvis.benchmarks.figures", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: this folder)")
    arguments = parser.parse_args(argv)
    return guarded(parser.prog, lambda: _write(arguments.root))


def _write(root: Path) -> int:
    for path, page, wanted in list(filled_pages(root)):
        if wanted != page:
            write_text(path, wanted)
            print(f"wrote {path}")
    for name, (kind, document) in read_results(root).items():
        if kind.draw is not None:
            picture = root / "docs" / "results" / f"{name}.png"
            kind.draw(document, picture)
            print(f"wrote {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
