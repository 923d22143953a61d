"""Sphinx's settings: the pages of this folder and the reference as HTML. ``make docs`` builds them into build/docs."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from irvis.runtime.version import irvis_version

project = "irvis"
author = "the authors of irvis"
version = release = irvis_version()
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_reference"]
exclude_patterns = ["results"]
smartquotes = False  # which makes one dash of an option's two

html_theme = "furo"
html_title = f"irvis {version}"
html_show_copyright = False
html_copy_source = False

myst_heading_anchors = 3  # as GitHub makes them: page.md#a-heading

autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_inherit_docstrings = False  # what PyTorch says of every forward
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
# A type of a signature is a link where the type is on these pages. What torch and numpy have would need the internet.
nitpick_ignore_regex = [("py:.*", ".*")]

# Pages outside this folder that the site has as pages of its own, by the name that the others link to.
TAKEN_IN = {
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "project/contributing.md",
    "../CHANGELOG.md": "project/changes.md",
    "../SECURITY.md": "project/security.md",
    "../runtime/models/student.md": "project/student.md",
    "../runtime/models/fast.md": "project/fast.md",
}


def link_within(_: Sphinx, name: str, source: list) -> None:
    """Let a page's links to what is taken in lead to the site's page, where GitHub leads to the file."""
    up = "../" * name.count("/")
    for path, page in TAKEN_IN.items():
        source[0] = re.sub(rf"\]\({re.escape(up + path)}(?=[)#])", f"]({up}{page}", source[0])


def link_from_taken_in(_: Sphinx, __: Path, ___: str, content: list) -> None:
    """Do so in what project/ takes in, whose links are from the root."""
    for path, page in TAKEN_IN.items():
        content[0] = content[0].replace(f"]({path[3:]})", f"](../{page})")


def mend_docstring(app: Sphinx, what: str, name: str, thing: object, options: dict, lines: list) -> None:
    """Let an indented paragraph be code and |x| a magnitude; drop what a named tuple says of its fields."""
    text = re.sub(r"^Alias for field number.*", "", "\n".join(lines))
    text = re.sub(r"^(\S.*)\n\n(?=    \S)", r"\1\n\n::\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", text)
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> None:
    """Register the above."""
    app.connect("autodoc-process-docstring", mend_docstring, priority=400)  # before napoleon
    app.connect("source-read", link_within)
    app.connect("include-read", link_from_taken_in)
