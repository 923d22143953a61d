"""Measured times to compare with the paper's: from ``irvis peers --json``, ``bench.py --json`` and a GPU check."""

import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from irvis.benchmarks.fusers import split_name
from irvis.benchmarks.peers.command import KIND, SCHEMA_VERSION
from irvis.benchmarks.peers.tables import DEPLOY, DEPLOY_FORM, STUDENT
from irvis.benchmarks.report.file import read_report
from irvis.benchmarks.report.text import UNTRUSTED, WATERMARK
from irvis.runtime.errors import FileError
from irvis.runtime.files import parse_json, read_bytes
from irvis.runtime.sizes import DEFAULT_SIZE, format_size

# Names in the GPU check: a network, as an engine or in PyTorch, and the way it is run.
GPU_FORM = re.compile(r"(?P<pytorch>PyTorch )?(?P<network>deploy form|\w+) (?P<way>.+)")
GPU_ENGINES = {"plain": STUDENT, "deploy": DEPLOY, "fast": "fast" + DEPLOY_FORM}
PROBE = "probe"  # one block of the student in another form, timed as an engine
GPU_MODULES = {"deploy form": DEPLOY}


class Timings(NamedTuple):
    """A column of times, all from one machine and one runtime."""

    title: str
    remarks: str  # what the times are, and reasons to doubt them
    # method -> mean and standard deviation (ddof 1) per frame; the latter is None for one sample
    times_ms: Dict[str, Tuple[float, Optional[float]]]


def read_timings(spec: str) -> List[Timings]:
    """Read the columns of a report.

    Args:
        spec: a file, which may be a GPU check's latency.json, or ``NAME=FILE`` for a report of bench.py on another
            network than the student's deploy form.

    Raises FileError if the file is not a report, if its frames do not have the paper's size, or if it is given a name
    although it has its own.
    """
    method, path = split_name(spec)
    try:
        document = parse_json(read_bytes(path, "report"))
        kind = document.get("kind", "latency" if "found" in document else None)
    except (ValueError, TypeError, AttributeError, RecursionError):
        kind = None  # read_report reports what is wrong with it
    if kind not in (KIND, "latency"):
        document = read_report(path)
        _check_size(document["size"], path)
        return [_of_bench(document, method or DEPLOY, path.name)]
    if method:
        raise FileError(f"{path} names what it timed, but {method}= is for a report of bench.py; give --report {path}")
    try:
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError("another schema")
        if kind == "latency":
            return _of_gpu_check(document["found"], path.name)
        _check_size(document["size"], path)
        return _of_peers(document, path.name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = "irvis peers" if kind == KIND else "gpu_check's latency at 480x640"
        raise FileError(f"not a complete report of {what}: {path}; measure it again") from error


def _of_peers(document: Dict[str, Any], name: str) -> List[Timings]:
    """Return one column per runtime."""
    found: Dict[str, Timings] = {}
    machine = document["machine"]
    for method in document["methods"]:
        for runtime, form in method["forms"].items():
            backend, values = form["backend"], [float(value) for value in form["latencies_ms"]]
            where = machine["cpu"] if machine["gpu"] is None or "cpu" in backend.lower() else machine["gpu"]
            remarks = f"{name}: {where}, {backend}, {document['rounds']} rounds of irvis peers, which checks no clocks"
            column = found.setdefault(runtime, Timings(f"{where}, {runtime}", remarks, {}))
            column.times_ms[method["name"]] = mean(values), stdev(values) if len(values) > 1 else None
    return list(found.values())


def _of_gpu_check(found: Dict[str, Any], name: str) -> List[Timings]:
    """Return one column per way of running, timed from planes or frames on the host to the fused one there."""
    gpu, machine = found["machine"]["nvidia_smi"].split(",")[0], found["machine"]
    columns: Dict[str, Timings] = {}
    for form, times in found[format_size(DEFAULT_SIZE)].items():
        told = GPU_FORM.fullmatch(form)
        if told is None or "failed" in times or told["network"] == PROBE:
            continue
        runtime = f"PyTorch {times['torch']}" if told["pytorch"] else f"TensorRT {machine['tensorrt']}"
        title, total = f"{gpu}, {runtime}, {told['way']}", times["total_ms"]
        remarks = f"{name}: {title}, {total['n']} runs of gpu_check, {machine['date']}, which checks no clocks"
        column = columns.setdefault(title, Timings(title, remarks, {}))
        method = (GPU_MODULES if told["pytorch"] else GPU_ENGINES).get(told["network"], told["network"])
        column.times_ms[method] = float(total["mean"]), _of_several(total["std"], total["n"])
    if not columns:
        raise ValueError("nothing was timed")
    return list(columns.values())


def _of_bench(document: Dict[str, Any], method: str, name: str) -> Timings:
    board, latency = document["board"], document["latency"]
    where = board["module"] or board["gpu"] or board["cpu"]
    remarks = [f"{name}: {where}, {document['backend']}, {latency['count']} frames of bench.py"]
    remarks += [f"{WATERMARK}: {'; '.join(document['watermark'])}"] if document["watermark"] else []
    remarks += [] if document["trusted"] else [f"{UNTRUSTED}: {'; '.join(document['stability']['reasons'])}"]
    deviation = _of_several(latency["std_ms"], latency["count"])
    title = [where, document["verified_mode"] or WATERMARK, document["backend"].split(",")[0]]
    return Timings(", ".join(title), ", ".join(remarks), {method: (latency["mean_ms"], deviation)})


def _of_several(deviation: float, count: int) -> Optional[float]:
    return float(deviation) if count > 1 else None


def _check_size(size: Dict[str, int], path: Path) -> None:
    found = size["height"], size["width"]
    if found != DEFAULT_SIZE:
        raise FileError(
            f"{path} is for frames of {format_size(found)}, the paper's tables are for {format_size(DEFAULT_SIZE)}; "
            f"measure with --size {format_size(DEFAULT_SIZE)}"
        )
