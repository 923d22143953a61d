"""Links within the project lead somewhere, and a path that a page names is there."""

import re
import runpy
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("markdown_it")
pages = runpy.run_path(str(Path(__file__).with_name("pages.py")))
ROOT, PAGES = pages["ROOT"], pages["PAGES"]
PATH = re.compile(r"(?:(?:student|export|runtime|benchmarks|tests|docs|docker|examples)/|\.ci/)[\w./*-]*")


def test_each_link_within_the_project_resolves():
    checked, broken = 0, []
    for page in PAGES:
        for link in pages["links"](page):
            if re.match(r"[a-z]+:", link.text):
                continue  # a site that is down, or no internet, must not turn a green tree red: see `make linkcheck`
            checked += 1
            path, _, anchor = unquote(link.text).partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or ROOT not in (target, *target.parents):
                broken.append(f"{link.place}: {link.text}")
            elif anchor and anchor not in pages["anchors"](target):
                broken.append(f"{link.place}: {link.text}; {target.name} has {pages['anchors'](target)}")
    assert broken == []
    assert checked > 60


def test_each_path_in_backticks_exists():
    checked, missing = 0, []
    for page in PAGES:
        for code in pages["codes"](page):
            path = code.text.partition("::")[0]
            if PATH.fullmatch(path) and not re.search(r"/[A-Z]+(/|$)", path):  # TARGET/: any of them
                checked += 1
                if not any(ROOT.glob(path)):
                    missing.append(f"{code.place}: {path}")
    assert missing == []
    assert checked > 60


def test_each_make_target_that_a_page_names_exists():
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    unknown = []
    for page in PAGES:
        for piece in [*pages["blocks"](page), *pages["codes"](page)]:
            for targets in re.findall(r"^(?:\$ )?make((?: [a-z-]+)+)", piece.text, re.MULTILINE):
                unknown += [f"{piece.place}: make {name}" for name in targets.split() if name not in known]
    assert unknown == []
