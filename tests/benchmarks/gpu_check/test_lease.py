"""The shell script that uses a lent machine: what it starts, when and in which order, with programs that note it."""

import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import List

import pytest

from irvis.benchmarks.gpu_check.__main__ import PARTS
from irvis.benchmarks.gpu_check.engines import ENGINES

LEASE = Path(__file__).parents[3] / "benchmarks/gpu_check/lease.sh"
CHECK = """
import pathlib, sys
out = pathlib.Path(sys.argv[1])
(out / "engines").mkdir(exist_ok=True)
(out / "engines/large.engine").write_text("large")
with open(out / "noted", "a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
"""


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """The parts of a tree in which the programs only note how they were called."""
    made = tmp_path / "made"
    benchmarks = made / "tree/irvis/benchmarks"
    (benchmarks / "gpu_check").mkdir(parents=True)
    (benchmarks / "gpu_check/__main__.py").write_text(CHECK)
    (made / "tree/models").mkdir()
    (made / "tree/models/runs.txt").write_text("models/runs.json paper-SHIP\n")
    (made / "tree/pyproject.toml").write_text("")
    (made / "tree/last").write_bytes(os.urandom(60_000))
    (made / "kit").mkdir()
    (made / "kit/python3.8").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (made / "kit/python3.8").chmod(0o755)
    subprocess.run("tar -cf - kit | xz > kit.part.aa", shell=True, cwd=made, check=True)
    return pack(made)


def pack(made: Path) -> Path:
    """Write the parts anew; return where."""
    order = "tree/irvis tree/models tree/pyproject.toml tree/last kit.part.aa"
    subprocess.run(f"tar -cf - {order} | split -b 40000 -d - part.", shell=True, cwd=made, check=True)
    return made


def lease(arrived: Path, count: int, work: Path, seconds: int, *steps: str) -> subprocess.Popen:
    environment = {**os.environ, "TORCH_PYTHON": sys.executable}
    command = [str(LEASE), str(arrived), str(count), str(work), str(seconds), *steps]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def noted(work: Path) -> List[str]:
    return (work / "out/noted").read_text().splitlines()


def test_steps_run_in_order_once_all_parts_are_there(parts: Path, tmp_path: Path) -> None:
    arrived, work = tmp_path / "arrived", tmp_path / "work"
    arrived.mkdir()
    *names, last = sorted(path.name for path in parts.glob("part.*"))
    running = lease(arrived, len(names) + 1, work, 200, "build --engine 'fast planes FP16'", "latency", "accuracy")
    for name in names:
        (parts / name).rename(arrived / name)
    time.sleep(1)
    assert not (work / "out/noted").exists()
    (parts / last).rename(arrived / last)
    said = running.communicate(timeout=120)[0].splitlines()
    assert running.returncode == 0
    assert [line.split(": ")[1] for line in said] == ["build --engine fast planes FP16", "latency", "accuracy"]
    notes = noted(work)
    assert notes[0].startswith("build --engine fast planes FP16 --data data --models models --torch-python")
    assert [line.split()[0] for line in notes[1:]] == ["latency", "accuracy", "quality"]  # of what accuracy fused
    with tarfile.open(work / "out.tgz") as archive:
        assert "out/noted" in archive.getnames()
        assert not any("engines" in name for name in archive.getnames())


def test_the_copied_interpreter_finds_its_library_and_pytorchs_is_left_alone(parts: Path, tmp_path: Path) -> None:
    tells = CHECK.replace("import pathlib, sys", "import os, pathlib, sys").replace(
        '" ".join(sys.argv[2:])', 'sys.argv[2] + " " + os.environ.get("LD_LIBRARY_PATH", "")'
    )
    (parts / "tree/irvis/benchmarks/gpu_check/__main__.py").write_text(tells)
    work = tmp_path / "work"
    lease(pack(parts), len(list(parts.glob("part.*"))), work, 200, "accuracy").communicate(timeout=120)
    before = os.environ.get("LD_LIBRARY_PATH", "")
    assert noted(work) == [f"accuracy {work}/kit/python/lib", f"quality {before}"]


def test_without_steps_it_runs_them_all_and_called_again_it_unpacks_nothing(parts: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    count = len(list(parts.glob("part.*")))
    for _ in range(2):
        running = lease(parts, count, Path(os.path.relpath(work)), 200)
        said = running.communicate(timeout=200)[0]
        assert running.returncode == 0
        for part in parts.glob("part.*"):
            part.unlink()
    steps = [line.split(": ")[1] for line in said.splitlines()]
    assert steps[0] == "train --run models/runs.json"  # the first alone
    assert "train --run models/runs.json --run paper-SHIP" in steps
    assert {step.split()[0] for step in steps} == set(PARTS) - {"quality"}
    assert len(noted(work)) == 2 * (len(steps) + 1)


def test_a_step_that_does_not_end_is_ended_with_the_time(parts: Path, tmp_path: Path) -> None:
    hangs = CHECK + "import time\ntime.sleep(600 * (sys.argv[2] == 'accuracy'))\n"
    (parts / "tree/irvis/benchmarks/gpu_check/__main__.py").write_text(hangs)
    work, begun = tmp_path / "work", time.monotonic()
    count = len(list(pack(parts).glob("part.*")))
    running = lease(parts, count, work, 30, "build", "accuracy", "latency")
    said = running.communicate(timeout=120)[0].splitlines()
    assert time.monotonic() - begun < 90
    assert [line.split()[2] for line in said if " s: " in line] == ["build", "accuracy"]
    assert said[-1] == "the time is up"
    with tarfile.open(work / "out.tgz") as archive:
        assert "out/noted" in archive.getnames()


def test_it_does_not_wait_beyond_the_time_for_a_part_that_does_not_arrive(parts: Path, tmp_path: Path) -> None:
    arrived, work = tmp_path / "arrived", tmp_path / "work"
    arrived.mkdir()
    names = sorted(path.name for path in parts.glob("part.*"))
    for name in names[:-1]:
        (parts / name).rename(arrived / name)
    running = lease(arrived, len(names), work, 10)
    said = running.communicate(timeout=60)[0]
    assert f"{names[-1]} did not arrive in time" in said
    assert "the parts could not be unpacked" in said
    assert running.returncode == 1
    with tarfile.open(work / "out.tgz") as archive:
        assert archive.getnames() == ["out"]


def test_parts_that_are_no_archive_end_it(tmp_path: Path) -> None:
    (tmp_path / "part.00").write_bytes(b"no archive")
    running = lease(tmp_path, 1, tmp_path / "work", 50)
    assert "the parts could not be unpacked" in running.communicate(timeout=60)[0]
    assert running.returncode == 1


def test_its_steps_name_engines_that_there_are() -> None:
    named = re.findall(r"--engine '([^']+)'", LEASE.read_text().partition("# Most important first")[2])
    assert len(named) > 8
    assert set(named) <= {spec.name for spec in ENGINES}
