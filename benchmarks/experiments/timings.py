"""Measured times to stand beside the paper's: from reports of ``irvis peers --json`` and ``bench.py --json``."""

from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Tuple

from irvis.benchmarks.peers.command import KIND, SCHEMA_VERSION
from irvis.benchmarks.peers.tables import DEPLOY
from irvis.benchmarks.report.file import read_report
from irvis.benchmarks.report.text import UNTRUSTED, WATERMARK
from irvis.runtime.errors import FileError
from irvis.runtime.files import parse_json, read_bytes
from irvis.runtime.sizes import DEFAULT_SIZE, format_size


class Timings(NamedTuple):
    """A column of times, all of one machine and one runtime."""

    title: str
    remarks: str  # of what it is, and what speaks against it
    times_ms: Dict[str, Tuple[float, float]]  # method -> mean and standard deviation (ddof 1) of a frame


def read_timings(spec: str) -> List[Timings]:
    """Read the columns of a report.

    Args:
        spec: a file, or ``NAME=FILE`` for a report of bench.py on another network than the student's deploy form.

    Raises FileError where the file is no report, or of frames of another size than the paper's.
    """
    name, equals, file = spec.partition("=")
    path, method = (Path(file), name) if equals and not Path(spec).exists() else (Path(spec), DEPLOY)
    try:
        document = parse_json(read_bytes(path, "report"))
        is_of_peers = document["kind"] == KIND
    except (ValueError, KeyError, TypeError, RecursionError):
        is_of_peers = False  # and read_report says what is wrong with it
    if not is_of_peers:
        document = read_report(path)
        _check_size(document["size"], path)
        return [_of_bench(document, method, path.name)]
    try:
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError("another schema")
        _check_size(document["size"], path)
        return _of_peers(document, path.name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"not a whole report of irvis peers: {path}; measure it again") from error


def _of_peers(document: Dict[str, Any], name: str) -> List[Timings]:
    """Give a column a runtime."""
    found: Dict[str, Timings] = {}
    machine = document["machine"]
    for method in document["methods"]:
        for runtime, form in method["forms"].items():
            backend, values = form["backend"], [float(value) for value in form["latencies_ms"]]
            where = machine["cpu"] if machine["gpu"] is None or "cpu" in backend.lower() else machine["gpu"]
            remarks = f"{name}: {where}, {backend}, {document['rounds']} rounds of irvis peers, which watches no clocks"
            column = found.setdefault(runtime, Timings(f"{where}, {runtime}", remarks, {}))
            column.times_ms[method["name"]] = mean(values), stdev(values) if len(values) > 1 else 0.0
    return list(found.values())


def _of_bench(document: Dict[str, Any], method: str, name: str) -> Timings:
    board, latency = document["board"], document["latency"]
    where = board["module"] or board["gpu"] or board["cpu"]
    remarks = [f"{name}: {where}, {document['backend']}, {latency['count']} frames of bench.py"]
    remarks += [f"{WATERMARK}: {'; '.join(document['watermark'])}"] if document["watermark"] else []
    remarks += [] if document["trusted"] else [f"{UNTRUSTED}: {'; '.join(document['stability']['reasons'])}"]
    title = [where, document["verified_mode"] or WATERMARK, document["backend"].split(",")[0]]
    return Timings(", ".join(title), ", ".join(remarks), {method: (latency["mean_ms"], latency["std_ms"])})


def _check_size(size: Dict[str, int], path: Path) -> None:
    found = size["height"], size["width"]
    if found != DEFAULT_SIZE:
        raise FileError(
            f"{path} is of frames of {format_size(found)}, the paper's tables are of {format_size(DEFAULT_SIZE)}; "
            f"measure with --size {format_size(DEFAULT_SIZE)}"
        )
