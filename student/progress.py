"""The progress of work that takes hours: a bar on a terminal, a line a minute in a log."""

import sys
from typing import IO, Any, Callable

from tqdm import tqdm

EVERY_S = 60
STATE = "{desc}: {n_fmt} of {total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class Lines(tqdm):  # type: ignore[type-arg]
    """What a bar shows, as lines: a log would keep each of the ten states a second that a bar has."""

    @staticmethod
    def status_printer(file: IO[str]) -> Callable[[str], None]:
        """Return what writes a state."""
        return lambda text: print(text, file=file, flush=True)


def progress(**options: Any) -> "tqdm[Any]":
    """Return a bar with tqdm's ``options`` if stderr is a terminal, else one that is written as lines."""
    if sys.stderr.isatty():
        return tqdm(**options)
    return Lines(mininterval=EVERY_S, maxinterval=EVERY_S, bar_format=STATE, **options)
