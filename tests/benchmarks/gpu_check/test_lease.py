"""The shell script that uses a lent machine: what it starts, when and in which order, with programs that note it."""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import List

import pytest

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
TRAIN = """
import pathlib, signal, sys
note = pathlib.Path(sys.argv[3])
note.mkdir(exist_ok=True)
def stop(*_):
    with open(note.parent / "noted", "a") as file:
        file.write("trained\\n")
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
(note / "began").write_text(" ".join(sys.argv[1:]))
signal.alarm(60) if float(sys.argv[-1]) > 100 else stop()
signal.pause()
"""


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """The parts of a tree in which the programs only note how they were called."""
    made = tmp_path / "made"
    benchmarks = made / "tree/irvis/benchmarks"
    (benchmarks / "gpu_check").mkdir(parents=True)
    (benchmarks / "gpu_check/__main__.py").write_text(CHECK)
    (benchmarks / "gpu_train.py").write_text(TRAIN)
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


def lease(arrived: Path, count: int, work: Path, seconds: int, queue: str = "timed") -> subprocess.Popen:
    environment = {**os.environ, "TORCH_PYTHON": sys.executable, "QUEUE": queue}
    command = [str(LEASE), str(arrived), str(count), str(work), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def noted(work: Path) -> List[str]:
    return (work / "out/noted").read_text().splitlines()


def test_it_trains_until_all_parts_are_there_and_then_runs_the_queue(parts: Path, tmp_path: Path) -> None:
    arrived, work = tmp_path / "arrived", tmp_path / "work"
    arrived.mkdir()
    names = sorted(path.name for path in parts.glob("part.*"))
    running = lease(arrived, len(names), work, 1000)
    for name in names[:-1]:
        (parts / name).rename(arrived / name)
    began, limit_s = work / "out/train/began", time.monotonic() + 60
    while not began.exists():
        assert running.poll() is None, running.stdout.read()  # type: ignore[union-attr]
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    assert "--runs models/runs.json paper-SHIP --teachers models" in began.read_text()
    assert not (work / "out/noted").exists()  # a part is still missing
    (parts / names[-1]).rename(arrived / names[-1])
    while not (work / "out/noted").exists() or len(noted(work)) < 9:
        assert time.monotonic() < limit_s + 60
        time.sleep(0.05)
    said = noted(work)
    assert said[0] == "trained"  # it was stopped before anything was built
    assert said[1].startswith("build --engine fast planes FP16 --engine fast frames FP16 --data data --models models")
    assert "quality" in said[3:]  # of what accuracy fused, while the next engines are built
    said.remove("quality")
    assert [line.split()[0] for line in said[2:7]] == ["accuracy", "build", "latency", "peaks", "runtime"]
    end(running)
    with tarfile.open(work / "out.tgz") as archive:
        assert "out/noted" in archive.getnames()
        assert not any("engines" in name for name in archive.getnames())


def end(running: subprocess.Popen) -> None:
    """End a lease and what it started."""
    running.terminate()
    subprocess.run(["pkill", "-TERM", "-P", str(running.pid)], check=False)
    running.communicate(timeout=60)


def test_what_needs_no_timings_runs_beside_a_training_that_goes_on(parts: Path, tmp_path: Path) -> None:
    work, limit_s = tmp_path / "work", time.monotonic() + 120
    running = lease(parts, len(list(parts.glob("part.*"))), work, 1000, "untimed")
    while not (work / "out/noted").exists() or len(noted(work)) < 9:
        assert running.poll() is None, running.stdout.read()  # type: ignore[union-attr]
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    said = [line.split()[0] for line in noted(work)]
    assert "trained" not in said
    assert said[0] == "build"
    assert sorted(said[1:3]) == ["accuracy", "tests"]
    assert sorted(said[3:5]) == ["endurance", "quality"]
    assert said[5:] == ["build", "accuracy", "quality", "build"]
    assert (work / "out/train/began").exists()
    end(running)
    (work / "out/train/began").unlink()
    running = lease(parts, 0, work, 1000, "untimed")
    while not (work / "out/train/began").exists():  # called again, it trains again
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    end(running)
    assert "QUEUE must be timed or untimed. Got none" in lease(parts, 0, work, 9, "none").communicate(timeout=60)[0]


def test_called_again_it_unpacks_nothing_and_trains_last(parts: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    count = len(list(parts.glob("part.*")))
    for _ in range(2):
        running = lease(parts, count, Path(os.path.relpath(work)), 99)
        assert running.communicate(timeout=120)[0].count(" s: ") == 10
        assert running.returncode == 130  # of the training, which can go on
        for part in parts.glob("part.*"):
            part.unlink()
    assert noted(work)[-1] == "trained"
    assert sum(line != "trained" for line in noted(work)) == 2 * 11
    with tarfile.open(work / "out.tgz") as archive:
        last = archive.extractfile("out/noted")
        assert last is not None
        assert last.read().splitlines()[-1] == b"trained"  # what was trained last can be fetched too


def test_a_step_that_does_not_end_is_ended_with_the_time(parts: Path, tmp_path: Path) -> None:
    hangs = CHECK + "import time\ntime.sleep(600 * (sys.argv[2] == 'accuracy'))\n"
    (parts / "tree/irvis/benchmarks/gpu_check/__main__.py").write_text(hangs)
    work, begun = tmp_path / "work", time.monotonic()
    running = lease(pack(parts), len(list(parts.glob("part.*"))), work, 30)
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
        assert "out/train/began" in archive.getnames()


def test_parts_that_are_no_archive_end_it(tmp_path: Path) -> None:
    (tmp_path / "part.00").write_bytes(b"no archive")
    running = lease(tmp_path, 1, tmp_path / "work", 50)
    assert "the parts could not be unpacked" in running.communicate(timeout=60)[0]
    assert running.returncode == 1


def test_its_queue_names_engines_that_there_are() -> None:
    text = LEASE.read_text()
    queued = text[text.index("# Most important first") :].replace("\\\n", " ")
    named = [name for line in queued.splitlines() if line.startswith("  build ") for name in line.split('"')[1::2]]
    assert len(named) > 10
    assert set(named) <= {spec.name for spec in ENGINES}
