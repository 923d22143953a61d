"""Small files and commands of the system: what cannot be read is None."""

import os
import subprocess
from pathlib import Path
from typing import Callable, Optional, Sequence

COMMAND_TIMEOUT_S = 5.0

Runner = Callable[[Sequence[str]], str]


def read_text(path: Path) -> Optional[str]:
    """Return the content of a small system file without the NUL that ends a device tree's strings; None: unreadable."""
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ").strip() or None
    except OSError:
        return None


def read_number(path: Path) -> Optional[int]:
    """Return the whole number that a system file holds; None if it is unreadable or holds something else."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None


class NumberFile:
    """A system file that is read repeatedly through one descriptor, at a fifth of the cost of opening it each time.

    Raises OSError if it cannot be opened.
    """

    _descriptor = -1  # for __del__, if __init__ fails

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def __call__(self) -> int:
        """Read the whole number in it now. Raises OSError or ValueError if that fails."""
        return int(os.pread(self._descriptor, 64, 0))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def open_number(path: Path) -> Optional[NumberFile]:
    """Open a system file that holds a whole number now; None if it does not."""
    try:
        file = NumberFile(path)
        file()
    except (OSError, ValueError):
        return None
    return file


def run_command(command: Sequence[str]) -> str:
    """Run a command for at most five seconds and return its stdout, whatever its exit code.

    Raises OSError if it cannot be started, subprocess.TimeoutExpired if it does not end in time.
    """
    result = subprocess.run(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return result.stdout.decode(errors="replace")
