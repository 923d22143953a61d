"""Probe a package in a separate Python process: an import may crash the process, or never return."""

import json
import signal
import subprocess
import sys
from typing import Any, Callable, Dict, NamedTuple

from irvis.runtime.errors import one_line

PROBES = "irvis.benchmarks.doctor.probes"
TIME_LIMIT_S = 60.0  # TensorRT and a first CUDA context take a Jetson several seconds


class Answer(NamedTuple):
    """What a probe found, or why it failed: then ``trouble`` is one line, and ``found`` is empty."""

    found: Dict[str, Any]
    trouble: str = ""
    is_missing: bool = False  # the package itself is not installed, which may be intended


Ask = Callable[..., Answer]  # the name of a probe, and its arguments


def ask_child(probe: str, *arguments: str, time_limit_s: float = TIME_LIMIT_S) -> Answer:
    """Run one of ``probes.PROBES`` in a new process of this Python."""
    try:
        result = subprocess.run(
            [sys.executable, "-m", PROBES, probe, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=time_limit_s,
            check=False,
            cwd="/",  # -m puts it on the path: a numpy.py in the current folder is not what irvis imports
        )
    except subprocess.TimeoutExpired:
        return Answer({}, f"gave no answer in {time_limit_s:g} s")
    lines = result.stdout.decode(errors="replace").splitlines() or [""]
    try:
        record = json.loads(lines[-1])  # libraries may print before it
        return Answer(record["found"], record["trouble"], record["is_missing"])
    except (ValueError, TypeError, KeyError):
        said = result.stderr.decode(errors="replace").strip().splitlines() or ["and said nothing"]
    if result.returncode < 0:
        return Answer({}, f"ended Python by {signal.Signals(-result.returncode).name}")
    return Answer({}, one_line(f"ended Python with exit code {result.returncode}: {said[-1]}"))
