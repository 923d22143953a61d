"""Every command line as its own parser describes it, for the reference and for the tests of the pages."""

import argparse
import importlib.util
import pkgutil
import runpy
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple
from unittest import mock

import irvis.benchmarks
import irvis.export
import irvis.runtime
import irvis.student
from irvis.benchmarks import bench
from irvis.export import build_engine
from irvis.runtime import cli

STAGES = (irvis.student, irvis.export, irvis.runtime, irvis.benchmarks)
# Modules whose commands have shorter names.
NAMED = {
    "irvis.runtime.cli",
    "irvis.export.build_engine",
    "irvis.benchmarks.bench",
    *(command.module for command in cli.SUBCOMMANDS.values()),
}

Named = Iterator[Tuple[str, argparse.ArgumentParser]]


class _Found(Exception):
    """Carries a parser out of the module that was about to use it."""


def irvis_parsers() -> Named:
    """Give ``irvis NAME`` and its parser, for each subcommand and what is nested in it."""
    for name in cli.SUBCOMMANDS:
        yield from _nested(f"irvis {name}", cli.make_parser(name))


def tool_parsers() -> Named:
    """Give ``build_engine.py``, ``bench.py`` and the latter's subcommands, each with its parser."""
    yield from _nested("build_engine.py", build_engine.make_parser())
    yield from _nested("bench.py", bench.make_parser())
    for name in bench.COMMANDS:
        yield from _nested(f"bench.py {name}", bench.make_parser(name))


def module_parsers() -> Named:
    """Give ``python -m MODULE`` and its parser, for each module that has one."""
    for name in modules_with_parser():
        yield from _nested(f"python -m {name.replace('.__main__', '')}", module_parser(name))


def modules_with_parser() -> Iterator[str]:
    """Give the name of each module that is also a command, but for those with a shorter name."""
    for stage in STAGES:
        for found in pkgutil.walk_packages(stage.__path__, f"{stage.__name__}."):
            source = Path(importlib.util.find_spec(found.name).origin).read_text(encoding="utf-8")
            if found.name not in NAMED and '__name__ == "__main__"' in source and "ArgumentParser(" in source:
                yield found.name


def module_parser(name: str) -> argparse.ArgumentParser:
    """Give the parser that ``python -m NAME`` makes: run it as far as to where it would parse."""

    def carry_out(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise _Found(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", carry_out), mock.patch.dict(sys.modules):
        sys.modules.pop(name, None)  # runpy warns of a module that is already there
        try:
            runpy.run_module(name, run_name="__main__")
        except _Found as found:
            parser: argparse.ArgumentParser = found.args[0]
            return parser
    raise LookupError(f"{name} parses no command line")


def _nested(command: str, parser: argparse.ArgumentParser) -> Named:
    parser.prog = command
    yield command, parser
    for name, nested in subcommands(parser).items():
        yield from _nested(f"{command} {name}", nested)


def subcommands(parser: argparse.ArgumentParser) -> Dict[str, argparse.ArgumentParser]:
    """Give the parsers nested in a parser, by name."""
    found: Dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(action.choices)
    return found
