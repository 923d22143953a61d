"""The driver of the workers, with forms that take a known time on the CPU in the place of engines."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from irvis.benchmarks.gpu_check import latency
from irvis.benchmarks.gpu_check.engines import EngineSpec
from irvis.runtime.errors import IrvisError

PROGRAM = """
import time
import numpy as np
from irvis.benchmarks.gpu_check.workers import Form, serve

def open_form(name):
    if name == "broken":
        raise RuntimeError("no such\\nnetwork")
    if name == "dies":
        raise SystemExit(3)
    print("a library talks on stdout")
    if name == "counts":
        runs = iter(range(1, 1000))
        return Form(lambda: (time.sleep(0.002), next(runs)), {})
    def run():
        time.sleep(float(name))
        return np.full((4, 4), float(name), np.float32), 1e3 * float(name)
    return Form(run, {"kind": "sleeps"})

serve(open_form)
"""


class Worker(latency._Worker):
    def __init__(self, python: str, kind: str, forms: Dict[str, str]) -> None:
        self.forms = forms
        self._process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_worker_times_a_form_and_keeps_its_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "RUNS", 3)
    worker = Worker("", "", {"slow": "0.002", "quick": "0.001", "broken": "broken", "dies": "dies"})
    found = worker.measure("slow", tmp_path / "slow.npy")
    assert found["kind"] == "sleeps"
    assert found["compute_ms"] == [2.0] * 3
    assert min(found["total_ms"]) >= 2
    np.testing.assert_array_equal(np.load(tmp_path / "slow.npy"), np.full((4, 4), 0.002, np.float32))
    assert worker.measure("broken", tmp_path / "b.npy") == {"failed": "RuntimeError: no such network"}
    assert "kind" not in worker.measure("slow", tmp_path / "slow.npy")
    assert "ended" in worker.measure("dies", tmp_path / "d.npy")["failed"]
    assert "ended" in worker.measure("slow", tmp_path / "slow.npy")["failed"]
    worker.close()


def test_first_runs_are_not_timed_and_the_whole_run_is_timed_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form numbers its runs where others give the GPU's own time."""
    monkeypatch.setattr(latency, "RUNS", 3)
    worker = Worker("", "", {"counts": "counts"})
    first, again = (worker.measure("counts", tmp_path / "counts.npy") for _ in range(2))
    assert first["compute_ms"] == [25, 26, 27]  # after the first one, 20 that warm up, and 3 that wake the clock
    assert again["compute_ms"] == [31, 32, 33]
    assert all(2 <= total_ms != number for total_ms, number in zip(first["total_ms"], first["compute_ms"]))
    worker.close()


def test_rounds_are_joined_and_a_failure_is_kept() -> None:
    forms: Dict[str, Dict[str, Any]] = {}
    for value in (1.0, 2.0):
        latency._add(forms, "engine", {"total_ms": [value], "compute_ms": [value / 2]})
    assert forms["engine"] == {"total_ms": [1.0, 2.0], "compute_ms": [0.5, 1.0]}
    latency._add(forms, "engine", {"failed": "gone"})
    assert forms["engine"] == {"failed": "gone"}


def test_ratio_and_psnr_are_to_eager(tmp_path: Path) -> None:
    planes = {latency.EAGER: np.zeros((2, 2)), "engine": np.full((2, 2), 0.01)}
    for name, plane in planes.items():
        np.save(tmp_path / f"{name.replace(' ', '_')}.npy", plane)
    eager = {"total_ms": [8.0, 8.0], "compute_ms": [4.0, 4.0]}
    own = {"total_ms": [1.0, 2.0, 6.0], "compute_ms": [1.0, 1.0, 4.0], "activation_bytes": 7}
    found = latency._described(own, eager, tmp_path, "engine")
    assert found["compute_ms"]["eager_over_this"] == 4.0
    figures = ("median", "mean", "std", "p99", "max", "n")
    assert [found["total_ms"][name] for name in figures] == pytest.approx([2.0, 3.0, 7**0.5, 5.92, 6.0, 3])
    assert found["psnr_to_eager_db"] == pytest.approx(40.0)
    assert found["activation_bytes"] == 7
    assert latency._table("480x640", {"engine": found}).split("\n")[1].split() == [
        "engine",
        "2.000",
        "1.000",
        "4.0",
        "40.0",
    ]
    for form in ("fast planes FP16", "SeAFusion planes FP16", "probe attention folded"):
        np.save(tmp_path / f"{form.replace(' ', '_')}.npy", np.full((2, 2), 0.01))
        assert latency._described(own, eager, tmp_path, form)["psnr_to_eager_db"] is None


def test_each_size_has_its_own_engines_timed_in_rounds_and_one_that_fails_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Noting(Worker):
        def measure(self, form: str, plane: Path) -> Dict[str, Any]:
            asked.append(form)
            return super().measure(form, plane)

    seconds = {"large": "0.002", "small": "0.001", "other": "broken"}
    specs = [EngineSpec(name, "student", (), (480, 640) if name == "large" else (240, 320)) for name in seconds]
    for name, value in (("_Worker", Noting), ("built", lambda _: specs), ("SIZES", ("480x640", "240x320"))):
        monkeypatch.setattr(latency, name, value)
    monkeypatch.setattr(latency, "engine_path", lambda _, name: seconds[name])
    monkeypatch.setattr(latency, "ROUNDS", 2)
    monkeypatch.setattr(latency, "RUNS", 3)
    latency.measure_latency(tmp_path, tmp_path, None)
    assert asked == ["large", "large", "small", "other", "small"]
    results = latency.Results(tmp_path / "latency.json")
    assert list(results["480x640"]) == ["large"]
    assert results["240x320"]["other"] == {"failed": "RuntimeError: no such network"}
    assert [results["240x320"]["small"]["compute_ms"][name] for name in ("median", "n")] == [1.0, 6]
    latency.measure_latency(tmp_path, tmp_path, None)  # what was timed is not timed again
    assert len(asked) == 5


def test_nothing_to_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_Worker", Worker)
    monkeypatch.setattr(latency, "built", lambda _: [])
    with pytest.raises(IrvisError, match="nothing could be timed"):
        latency.measure_latency(tmp_path, tmp_path, None)
