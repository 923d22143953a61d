"""Tables as CSV."""

import csv
import io
from typing import Iterable, Sequence


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV: ``head``, then ``rows`` with numbers unrounded; each line ends in a line feed."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([head, *rows])
    return stream.getvalue()
