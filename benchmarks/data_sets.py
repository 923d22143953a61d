"""How tables name a data set."""

import re
from pathlib import Path

from irvis.runtime.errors import printable


def data_set_name(folder: Path) -> str:
    """Return a data set's name, the last two parts of its folder's path: ``/data/TNO/test`` -> ``"TNO/test"``.

    What a terminal or a table could not show, such as a line break, is escaped.
    """
    return printable("/".join(folder.resolve().parts[-2:]))


def counted(pairs: int, data_set: str) -> str:
    """Return the number with its noun: ``2, "TNO/test"`` -> ``"2 pairs of TNO/test"``."""
    return f"{pairs} pair{'s' if pairs > 1 else ''} of {data_set}"


def file_name(name: str) -> str:
    """Return a data set's or a teacher's name as part of a file's: ``"TNO/test"`` -> ``"TNO-test"``."""
    return re.sub(r"[^\w.-]+", "-", name)
