"""The pages that people read, cut into what the tests hold against the project."""

import re
from pathlib import Path
from typing import Iterator, List, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "docker").rglob("*.md"),
        *ROOT.glob("runtime/models/*.md"),
    ]
)
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Piece(NamedTuple):
    """A block of code, an inline code or a link's target, and where it stands."""

    page: Path
    line: int
    text: str
    kind: str = ""  # a block's language

    @property
    def place(self) -> str:
        """PAGE:LINE, for a failed test."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Piece]:
    """Return the blocks of code: fenced ones with their language, indented ones without."""
    for token in _tokens(page):
        if token.type in ("fence", "code_block"):
            yield Piece(page, _line(token), token.content, token.info.strip())


def codes(page: Path) -> Iterator[Piece]:
    """Return what stands between backticks in the text."""
    for token in _tokens(page):
        for child in token.children or []:
            if child.type == "code_inline":
                yield Piece(page, _line(token), child.content)


def links(page: Path) -> Iterator[Piece]:
    """Return the targets of links and pictures."""
    for token in _tokens(page):
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                yield Piece(page, _line(token), str(target))


def anchors(page: Path) -> List[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: List[str] = []
    tokens = _tokens(page)
    for token, content in zip(tokens, tokens[1:]):
        if token.type == "heading_open":
            text = "".join(child.content for child in content.children or [])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


def _tokens(page: Path) -> List[Token]:
    return MARKDOWN.parse(page.read_text(encoding="utf-8"))


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 0
