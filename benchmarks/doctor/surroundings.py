"""Where the checks look: this machine, or one that was recorded as a tree of files."""

import sys
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from irvis.benchmarks.doctor.child import Ask, ask_child
from irvis.benchmarks.machine.board import Board, read_board
from irvis.benchmarks.machine.jtop_state import JtopState
from irvis.benchmarks.machine.system_files import Runner, run_command


class Surroundings(NamedTuple):
    """All that a check may look at besides the Board."""

    root: Path = Path("/")  # whose proc, sys, dev, etc, usr and var are read
    run: Runner = run_command
    ask: Ask = ask_child
    python: Tuple[int, ...] = tuple(sys.version_info[:3])
    venv: Optional[Path] = Path(sys.prefix) if sys.prefix != sys.base_prefix else None


def read_surroundings_board(place: Surroundings) -> Board:
    """Return this machine and its state; jtop, which could hang, is asked in a separate process."""

    def ask_jtop() -> Optional[JtopState]:
        state = place.ask("jtop").found.get("state")
        return JtopState(**state) if state else None

    return read_board(place.root, place.run, ask_jtop)
