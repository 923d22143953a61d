"""One thing that was checked."""

from typing import NamedTuple

OK = "ok"
WARNING = "warning"  # irvis runs, but slower, or without some features
FAILURE = "failure"  # something that irvis needs here
ABSENT = "not here"  # and not needed here


class Item(NamedTuple):
    """What was checked, its state, what was found, and the command that fixes it: "" if none is needed."""

    name: str
    state: str
    found: str
    mend: str = ""
