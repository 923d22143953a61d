"""A command that is a choice of modules, each with add_arguments(parser) and main(arguments) -> int."""

import argparse
from typing import Any, Mapping, Tuple


def add_modules(parser: argparse.ArgumentParser, modules: Mapping[str, Tuple[Any, str]]) -> None:
    """Describe a subcommand a module: name -> module, and what it is. ``run_module`` runs the one that is named."""
    commands = parser.add_subparsers(metavar="NAME", required=True, dest="name")
    for name, (module, summary) in modules.items():
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.main)


def run_module(arguments: argparse.Namespace) -> int:
    """Run the module that was named; give its exit code."""
    code: int = arguments.run(arguments)
    return code
