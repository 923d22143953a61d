"""A command whose subcommands are modules, each with add_arguments(parser) and main(arguments) -> int."""

import argparse
from typing import Any, Mapping, Tuple


def add_modules(parser: argparse.ArgumentParser, modules: Mapping[str, Tuple[Any, str]]) -> None:
    """Add one subcommand per module: name -> module and summary. ``arguments.run`` is the chosen one's main."""
    commands = parser.add_subparsers(metavar="NAME", required=True, dest="name")
    for name, (module, summary) in modules.items():
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.main)
