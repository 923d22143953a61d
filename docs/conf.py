"""Sphinx settings: this folder's pages and the reference as HTML. ``make docs`` builds them into build/docs."""

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
smartquotes = False  # smart quotes turn an option's two dashes into one

html_theme = "furo"
html_title = f"irvis {version}"
html_show_copyright = False
html_copy_source = False

myst_heading_anchors = 3  # as GitHub makes them: page.md#a-heading

autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_inherit_docstrings = False  # else every forward repeats PyTorch's docstring
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
# A signature's type links to its entry on these pages, if any. Links to torch's and numpy's would need the internet.
nitpick_ignore_regex = [("py:.*", ".*")]

# Files outside this folder that the site includes as pages, by the path that other pages link to.
TAKEN_IN = {
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "project/contributing.md",
    "../CHANGELOG.md": "project/changes.md",
    "../SECURITY.md": "project/security.md",
    "../runtime/models/student.md": "project/student.md",
    "../runtime/models/fast.md": "project/fast.md",
}


def link_within(_: Sphinx, name: str, source: list) -> None:
    """Point a page's links to included files at the site's pages; on GitHub they lead to the files."""
    up = "../" * name.count("/")
    for path, page in TAKEN_IN.items():
        source[0] = re.sub(rf"\]\({re.escape(up + path)}(?=[)#])", f"]({up}{page}", source[0])


def link_from_taken_in(_: Sphinx, __: Path, ___: str, content: list) -> None:
    """Do the same in the files that project/ includes, whose links are relative to the root."""
    for path, page in TAKEN_IN.items():
        content[0] = content[0].replace(f"]({path[3:]})", f"](../{page})")


def mend_docstring(app: Sphinx, what: str, name: str, thing: object, options: dict, lines: list) -> None:
    """Treat an indented paragraph as code and |x| as a magnitude; drop a named tuple's generated field descriptions."""
    text = re.sub(r"^Alias for field number.*", "", "\n".join(lines))
    text = re.sub(r"^(\S.*)\n\n(?=    \S)", r"\1\n\n::\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", text)
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx's events."""
    app.connect("autodoc-process-docstring", mend_docstring, priority=400)  # before napoleon
    app.connect("source-read", link_within)
    app.connect("include-read", link_from_taken_in)
