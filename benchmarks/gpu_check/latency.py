"""Part ``latency``: engines and PyTorch, eager and compiled, in turn in one run, on one pair prepared beforehand."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Optional

import numpy as np

from irvis.benchmarks.gpu_check.engines import PEERS, PROBES, built, engine_path
from irvis.benchmarks.gpu_check.machine import describe_machine
from irvis.benchmarks.gpu_check.programs import environment_of
from irvis.benchmarks.gpu_check.results import Results
from irvis.benchmarks.latency import summarize
from irvis.runtime.errors import IrvisError
from irvis.runtime.sizes import format_size

SIZES = ("480x640", "240x320", "1024x1280")
EAGER = "PyTorch student eager FP32"
ROUNDS, RUNS = 10, 30  # each form RUNS times in each round


class _Worker:
    """A running program of ``workers``; ``forms`` maps each form to the name by which the program opens it."""

    def __init__(self, python: str, kind: str, forms: Dict[str, str]) -> None:
        self.forms = forms
        command = [python, "-m", "irvis.benchmarks.gpu_check.workers", kind]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment_of(python)
        )

    def measure(self, form: str, plane: Path) -> Dict[str, Any]:
        """Time a form; the first time, its fused plane is also written to ``plane``."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write((json.dumps({"name": self.forms[form], "runs": RUNS, "plane": str(plane)}) + "\n").encode())
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = b""
        return json.loads(line) if line else {"failed": f"the program that runs it ended ({self._process.poll()})"}

    def close(self) -> None:
        """End the program."""
        self._process.communicate()


def measure_latency(out: Path, models: Path, torch_python: Optional[str]) -> None:
    """Time every engine that exists, and the same networks in PyTorch, in rounds."""
    results = Results(out / "latency.json")
    results.put("machine", describe_machine())
    for size in SIZES:
        if size in results:
            continue
        engines = {spec.name: str(engine_path(out, spec.name)) for spec in built(out) if format_size(spec.size) == size}
        workers = [_Worker(sys.executable, "engines", engines)]
        if torch_python:
            workers.append(_Worker(torch_python, "torch", _torch_forms(size, models)))
        planes = out / "planes" / size
        planes.mkdir(parents=True, exist_ok=True)
        forms: Dict[str, Dict[str, Any]] = {}
        try:
            for _ in range(ROUNDS):
                for worker in workers:
                    for form in worker.forms:
                        if "failed" not in forms.get(form, {}):
                            _add(forms, form, worker.measure(form, planes / f"{form.replace(' ', '_')}.npy"))
        finally:
            for worker in workers:
                worker.close()
        if not any("total_ms" in found for found in forms.values()):
            raise IrvisError(f"nothing could be timed at {size}: {forms}")
        results.put(size, {form: _described(found, forms.get(EAGER), planes, form) for form, found in forms.items()})
        print(_table(size, results[size]), flush=True)


def _torch_forms(size: str, models: Path) -> Dict[str, str]:
    forms = {EAGER: f"student eager {size}"}
    forms["PyTorch student eager FP16"] = f"student half {size}"
    forms["PyTorch fast eager FP32"] = f"fast eager {size}"
    forms["PyTorch deploy form eager FP32"] = f"deploy eager {size}"
    if size == SIZES[0]:  # compiling takes a minute a form
        forms["PyTorch student compiled FP32"] = f"student compile {size}"
        forms["PyTorch deploy form compiled FP16"] = f"deploy half-compile {size}"
        for name in PEERS:
            weights = models / f"{name}.safetensors"
            if weights.exists():
                forms[f"PyTorch {name} eager FP32"] = f"{name}={weights} eager {size}"
    return forms


def _add(forms: Dict[str, Dict[str, Any]], form: str, found: Dict[str, Any]) -> None:
    """Append a round's times to those of earlier rounds, or replace them by a failure."""
    if form not in forms or "failed" in found:
        forms[form] = found
        return
    for key in ("total_ms", "compute_ms"):
        forms[form][key] += found[key]


def _described(found: Dict[str, Any], eager: Optional[Dict[str, Any]], planes: Path, form: str) -> Dict[str, Any]:
    if "failed" in found:
        return found
    described = {key: value for key, value in found.items() if key not in ("total_ms", "compute_ms")}
    for key in ("total_ms", "compute_ms"):
        summary = summarize(found[key])
        described[key] = {
            "median": summary.p50_ms,
            "mean": summary.mean_ms,
            "std": summary.std_ms,
            "p99": summary.p99_ms,
            "max": summary.max_ms,
            "n": summary.count,
        }
        if eager is not None and "failed" not in eager:
            described[key]["eager_over_this"] = round(median(eager[key]) / summary.p50_ms, 3)
    described["psnr_to_eager_db"] = _psnr(planes, form)
    return described


def _psnr(planes: Path, form: str) -> Optional[float]:
    """Return the PSNR to the eager plane in dB; None without a finite plane of the student to compare with it."""
    paths = [planes / f"{name.replace(' ', '_')}.npy" for name in (EAGER, form)]
    if form == EAGER or not all(path.exists() for path in paths):
        return None
    eager, plane = map(np.load, paths)
    is_student = not any(name in form for name in (*PEERS, *PROBES, "fast"))
    if plane.shape != eager.shape or not is_student or not np.isfinite(plane).all():
        return None
    mse = float(np.mean((plane.astype(np.float64) - eager) ** 2))
    return round(-10 * float(np.log10(max(mse, 1e-20))), 2)


def _table(size: str, forms: Dict[str, Dict[str, Any]]) -> str:
    lines: List[str] = [f"{size}: median total, median compute (ms), eager FP32 over compute, PSNR to eager"]
    for form, found in forms.items():
        if "failed" in found:
            lines.append(f"  {form:<40} failed: {found['failed']}")
        else:
            total, compute = found["total_ms"], found["compute_ms"]
            ratio = compute.get("eager_over_this", "")
            lines.append(
                f"  {form:<40}{total['median']:>9.3f}{compute['median']:>9.3f}{ratio:>9}  {found['psnr_to_eager_db']}"
            )
    return "\n".join(lines)
