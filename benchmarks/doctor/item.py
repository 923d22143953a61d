"""One thing that was looked at."""

from typing import NamedTuple

OK = "ok"
WARNING = "warning"  # irvis runs, but slower, or not all of it
FAILURE = "failure"  # something that irvis needs here
ABSENT = "not here"  # and not needed here


class Item(NamedTuple):
    """What was looked at, its state, what was found, and the command that mends it: "" where nothing needs one."""

    name: str
    state: str
    found: str
    mend: str = ""
