"""Check all that irvis needs on this machine, and name the command that fixes each problem."""

import argparse
import functools
import os
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from irvis.benchmarks.doctor import hardware, packages
from irvis.benchmarks.doctor.item import FAILURE, WARNING, Item
from irvis.benchmarks.doctor.surroundings import Surroundings, read_surroundings_board
from irvis.benchmarks.machine.board import SERIAL_FILES, Board
from irvis.benchmarks.machine.system_files import read_text
from irvis.runtime.cli import guarded
from irvis.runtime.files import check_outputs, write_json
from irvis.runtime.version import irvis_version

COLUMNS = (10, 14)  # widths of a state and of a name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis doctor``."""
    parser.add_argument("engine", nargs="?", type=Path, help="an engine to check against its sidecar and this machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a report to attach to an issue")


def main(arguments: argparse.Namespace, place: Optional[Surroundings] = None) -> int:
    """Check, print and write; return 1 if anything that irvis needs fails, else 0."""
    check_outputs([arguments.json], [arguments.engine])
    place = place or Surroundings()
    place = place._replace(ask=functools.lru_cache(maxsize=None)(place.ask))  # reading the Board asks jtop already
    board = read_surroundings_board(place)
    machine = f"{board.module or board.cpu}, {board.os}, {board.architecture}"
    print(f"irvis {irvis_version()} on {machine}\n")
    items = []
    for item in examine(place, board, arguments.engine):
        items.append(Item(*(_without_names(text, place.root) for text in item)))
        print("\n".join(_lines(items[-1])), flush=True)  # at once: a package that hangs takes a minute
    failures, warnings = (sum(item.state == state for item in items) for state in (FAILURE, WARNING))
    print(f"\n{_counted(failures, 'failure')}, {_counted(warnings, 'warning')}")
    if arguments.json is not None:
        told = [item._asdict() for item in items]
        write_json(arguments.json, {"irvis": irvis_version(), "machine": machine, "items": told})
    return 1 if failures else 0


def examine(place: Surroundings, board: Board, engine: Optional[Path] = None) -> Iterator[Item]:
    """Yield each item as it is found."""
    failed: Dict[str, Item] = {}
    for check in (*packages.CHECKS, *hardware.CHECKS):
        item = check(place, board)
        if item.state == FAILURE:
            numpy = failed.get("numpy", item)
            if item.found == numpy.found and item.found.startswith(("ended", "gave no answer")):
                item = item._replace(mend=numpy.mend)  # it imports numpy, and crashes with it
            failed[item.name] = item
        yield item
    yield packages.check_student(place, list(failed))
    if engine is not None:
        yield packages.check_engine(place, str(engine.absolute()))


def _lines(item: Item) -> List[str]:
    """Return an item's lines of text: a failure in capitals, and the fix on its own line."""
    state, name = COLUMNS
    head = item.state.upper() if item.state == FAILURE else item.state
    lines = [f"{head:<{state}}{item.name:<{name}}{item.found}".rstrip()]
    return [*lines, f"{'':<{state + name}}-> {item.mend}"] if item.mend else lines


def _without_names(text: str, root: Path) -> str:
    """Redact what the report should not reveal: the board's serial number, and the user."""
    for serial in filter(None, (read_text(root / file) for file in SERIAL_FILES)):
        text = text.replace(serial, "SERIAL")
    home = re.escape(os.path.expanduser("~").rstrip("/") or "/home")  # / for a user without one
    text = re.sub(rf"(?<![\w./-])({home}|/home/[^/\s:,;]+)\b", "~", text)
    for name in {os.environ.get(variable, "root") for variable in ("USER", "LOGNAME", "SUDO_USER")} - {"root"}:
        text = re.sub(rf"/{re.escape(name)}\b", "/USER", text)
    return text


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="irvis doctor", description=__doc__)
    add_arguments(_parser)
    _arguments = _parser.parse_args()
    sys.exit(guarded("irvis doctor", lambda: main(_arguments)))
