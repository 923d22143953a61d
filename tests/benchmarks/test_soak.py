import csv
import itertools
import os
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from irvis.benchmarks import soak
from irvis.benchmarks.loop_cost import memory_mb
from irvis.benchmarks.soak import DISTINCT, Sample, Written, held_by, main, read_samples, report, watch, write_pairs
from irvis.runtime.errors import IrvisError
from irvis.runtime.images import read_infrared, read_visible


def samples(count=100, seconds=3600.0, memory=lambda share: 100.0, **changes):
    """Samples of a run whose memory is a function of the share of it that has passed, in 0..1."""
    return [
        Sample(
            **{
                "seconds": seconds * (index + 1) / count,
                "frames": 10 * (index + 1),
                "memory_mb": memory((index + 1) / count),
                "descriptors": 9,
                "threads": 5,
                "processor_ms": 2.0,
                "latency_ms": 4.0,
                **{name: values(index) for name, values in changes.items()},
            }
        )
        for index in range(count)
    ]


def test_a_level_run_is_called_level():
    assert report(samples()).splitlines() == [
        "1000 frames in 3600 s; the lines below leave out the first 20 %",
        "memory       100.0 MB, at the end 100.0, at most 100.0; slope +0.00 MB an hour, +0.00 MB in all: level",
        "descriptors  9 to 9 in the first tenth, 9 to 9 in the last",
        "threads      5 to 5 in the first tenth, 5 to 5 in the last",
        "latency      4.00 ms a frame in the first tenth, 4.00 in the last: 1.000",
        "processor    2.00 ms a frame in the first tenth, 2.00 in the last: 1.000",
    ]


def test_a_command_that_ends_badly_is_a_failure(monkeypatch, capfd):
    ends = [sys.executable, "-c", "import time; time.sleep(0.3); raise SystemExit(3)"]
    start = partial(subprocess.Popen, ends, stdout=subprocess.PIPE, text=True)
    monkeypatch.setattr(soak, "_start", lambda arguments: start())
    monkeypatch.setattr(soak, "report", lambda seen: "what was seen")
    assert main(["fuse", "--frames", "1"]) == 1
    assert capfd.readouterr() == ("\nwhat was seen\n", "soak: irvis fuse ended with 3\n")


def test_what_a_run_makes_at_its_start_is_not_a_slope():
    assert "slope +0.00 MB" in report(samples(memory=lambda share: 50 + 50 * min(share / soak.SETTLING, 1)))


@pytest.mark.parametrize(("hourly", "verdict"), [(1.0, "level"), (2.0, "NOT LEVEL"), (-2.0, "NOT LEVEL")])
def test_a_slope_is_told_in_mb_an_hour(hourly, verdict):
    said = report(samples(memory=lambda share: 100 + hourly * share))
    assert f"slope {hourly:+.2f} MB an hour, {hourly * 0.8:+.2f} MB in all: {verdict}\n" in said


def test_a_leak_and_a_drift_show():
    assert ", at the end 100.0, at most 150.0; " in report(samples(memory=lambda share: 150 if share == 0.5 else 100))
    said = report(samples(descriptors=lambda index: index, threads=lambda index: 5 + index // 95, latency_ms=float))
    assert "descriptors  19 to 26 in the first tenth, 92 to 99 in the last: MORE\n" in said
    assert "threads      5 to 5 in the first tenth, 5 to 6 in the last\n" in said
    assert "latency      22.50 ms a frame in the first tenth, 95.50 in the last: 4.244" in said


def test_stretches_without_a_frame_are_left_out():
    said = report(
        samples(
            latency_ms=lambda index: np.nan if index % 2 else 400.0 if index == 22 else 4.0,
            processor_ms=lambda index: np.nan,
        )
    )
    assert "latency      4.00 ms" in said
    assert "processor" not in said


@pytest.mark.parametrize("count", [0, 1, 10])
def test_a_run_too_short_to_tell_says_so(count):
    with pytest.raises(IrvisError, match=r"the run was too short to tell: \d samples after its start; 10 are needed"):
        report(samples(count))


def test_a_process_is_seen_from_outside(monkeypatch):
    monkeypatch.setattr(soak, "SAMPLE_S", 0.1)
    program = "import os, threading, time; held = [open('/dev/null') for _ in range(20)]; kept = bytearray(50 << 20)\n"
    program += "threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); print(1, flush=True)\n"
    program += "time.sleep(1); os._exit(0)  # or it would be seen while it closes its files\n"
    seen = []
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        watch(process, lambda: (3, 7.0), seen)
    assert len(seen) >= 2
    for number, sample in enumerate(seen, 1):
        assert sample.descriptors >= 23
        assert sample.threads == 2
        assert sample.memory_mb > 50
        assert (sample.frames, sample.latency_ms) == (3 * number, 7.0)


def test_processor_time_is_that_of_the_interval_for_each_of_its_frames(monkeypatch):
    spent_s, seen = itertools.count(1.0, 0.25), []
    monkeypatch.setattr(soak, "SAMPLE_S", 0.05)
    monkeypatch.setattr(soak, "held_by", lambda pid: (60.0, 9, 2, next(spent_s)))
    with subprocess.Popen(["sleep", "0.5"], text=True) as process:
        watch(process, lambda: (5, 7.0), seen)
    assert [sample.processor_ms for sample in seen] == pytest.approx([200.0, *[50.0] * (len(seen) - 1)])
    assert len(seen) > 1
    assert next(spent_s) == 1.0 + 0.25 * (len(seen) + 1)  # the last is left out: the process may have been ending


def test_a_process_that_is_not_there_is_an_error_of_the_system():
    with pytest.raises(FileNotFoundError):
        held_by(2**22 + 1)
    assert held_by(os.getpid())[0] == pytest.approx(memory_mb(), rel=0.05)
    assert held_by(os.getpid())[3] == pytest.approx(time.process_time(), abs=0.1)  # in user mode and in the kernel


def test_pairs_are_as_many_as_asked_and_no_two_neighbours_alike(tmp_path):
    write_pairs(tmp_path / "infrared", tmp_path / "visible", DISTINCT + 3)
    names = sorted(os.listdir(tmp_path / "infrared"))
    assert names == sorted(os.listdir(tmp_path / "visible"))
    assert len(names) == DISTINCT + 3
    first, second, again = (read_infrared(tmp_path / "infrared" / names[index]) for index in (0, 1, DISTINCT))
    assert first.shape == soak.SIZE == read_visible(tmp_path / "visible" / names[0]).shape[:2]
    np.testing.assert_array_equal(np.roll(first, 1, axis=1), second)
    np.testing.assert_array_equal(first, again)


def test_files_are_counted_as_they_come(tmp_path):
    written = Written(tmp_path)
    assert written()[0] == 0
    for name in ("a.png", "b.png", ".half-written.png"):
        (tmp_path / name).touch()
    time.sleep(0.02)
    count, latency_ms = written()
    assert count == 2
    assert latency_ms >= 10
    assert written()[0] == 0


@pytest.mark.parametrize("command", [["run", "--minutes", "0.05"], ["fuse", "--frames", "60"]])
def test_the_real_command_is_watched(command, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(soak, "SAMPLE_S", 0.05)
    assert main([*command, "--csv", str(tmp_path / "soak.csv")]) == 0
    said = capfd.readouterr().out
    assert "fused" in said
    assert " MB an hour" in said
    with open(tmp_path / "soak.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == Sample._fields
    assert float(rows[-1]["frames"]) > 0
    assert all(float(row["memory_mb"]) > 0 for row in rows)


def test_a_command_that_fails_is_told_in_a_line(monkeypatch, capfd):
    monkeypatch.setattr(soak, "_run_command", lambda minutes: ["run", "--infrared", "none://", "--visible", "test://"])
    assert main(["run"]) == 1
    error = capfd.readouterr().err.splitlines()
    assert error[-1] == "soak: irvis run ended with 1 before its live view was up"


def test_runs_are_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    runs = [tmp_path / "run.csv", tmp_path / "fuse.csv"]
    for run, slope in zip(runs, (0, 9)):
        rows = [Sample._fields, *samples(memory=lambda share, slope=slope: 100 + slope * share)]
        with run.open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    assert [sample.memory_mb for sample in read_samples(runs[1])][-1] == 109
    assert main(["plot", *map(str, runs), "-o", str(tmp_path / "soak.png")]) == 0
    assert read_visible(tmp_path / "soak.png").shape == (600, 1000, 3)
    assert capsys.readouterr().out == f"wrote {tmp_path / 'soak.png'}\n"


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", ",".join(Sample._fields).encode(), b"\xff"])
def test_what_holds_no_samples_is_one_line(tmp_path, content, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "a.csv").write_bytes(content)
    assert main(["plot", str(tmp_path / "a.csv")]) == 1
    assert "has no samples of a soak; make one by soak run --csv" in capsys.readouterr().err
