"""A Sphinx directive, ``commands``: the reference of command lines, made of their parsers while the pages are built."""

import argparse
import os
import re
from typing import Any, Dict, List

import parsers
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

KINDS = {"irvis": parsers.irvis_parsers, "tools": parsers.tool_parsers, "modules": parsers.module_parsers}


class Commands(SphinxDirective):
    """Describe each command of one of KINDS in a section: usage, then arguments and options as ``--help`` has them."""

    required_arguments = 1

    def run(self) -> List[nodes.Node]:
        """Give the sections."""
        os.environ["COLUMNS"] = "88"  # of the usage lines, which argparse breaks
        return [self._section(name, parser) for name, parser in KINDS[self.arguments[0]]()]

    def _section(self, name: str, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        self.state.document.note_explicit_target(section, section)
        section += nodes.title(name, name)
        for paragraph in _paragraphs(parser.description):
            section += paragraph
        usage = parser.format_usage().rstrip()
        section += nodes.literal_block(usage, usage, language="text")
        formatter = parser._get_formatter()
        for group in parser._action_groups:
            shown = [
                action
                for action in group._group_actions
                if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
            ]
            if not shown:
                continue
            title = (group.title or "").rstrip(":")
            section += nodes.rubric(title, title[:1].upper() + title[1:])
            definitions = nodes.definition_list()
            for action in shown:
                definitions += _definition(action, formatter)
            section += definitions
        for paragraph in _paragraphs(parser.epilog):
            section += paragraph
        return section


def _definition(action: argparse.Action, formatter: argparse.HelpFormatter) -> nodes.definition_list_item:
    if isinstance(action, argparse._SubParsersAction):
        invocation, text = "{" + ",".join(action.choices) + "}", "each described below"
    else:
        invocation = formatter._format_action_invocation(action)
        text = formatter._expand_help(action) if action.help else ""
    term = nodes.term("", "", nodes.literal(invocation, invocation))
    return nodes.definition_list_item("", term, nodes.definition("", _paragraph(text)))


def _paragraphs(text: Any) -> List[nodes.Node]:
    """Give a description's paragraphs; one that is indented, such as an example, as it stands."""
    parts = [part for part in str(text or "").strip("\n").split("\n\n") if part.strip()]
    return [
        nodes.literal_block(part, part, language="text") if part.startswith(" ") else _paragraph(part) for part in parts
    ]


def _paragraph(text: str) -> nodes.paragraph:
    """Give a paragraph, what stands in backticks and options being code."""
    paragraph = nodes.paragraph()
    for part in re.split(r"(`[^`]+`|(?<![\w-])--[a-z][a-z0-9-]*)", text.replace("``", "`")):
        code = part.startswith(("`", "--"))
        paragraph += nodes.literal("", part.strip("`")) if code else nodes.Text(part)
    return paragraph


def setup(app: Sphinx) -> Dict[str, Any]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
