import csv
from pathlib import Path

import numpy as np
import pytest

from irvis.benchmarks import loop_cost
from irvis.benchmarks.loop_cost import cost_ms, main, memory_mb, open_loop


def test_what_the_loop_costs_is_measured():
    with open_loop((48, 64)) as loop:
        wall_ms, cpu_ms = cost_ms(loop, 20)
        assert loop.latencies.count == 20 + loop_cost.WARMUP
    assert 0 < wall_ms < 1000
    assert 0 < cpu_ms < 1000


def test_no_network_gives_the_visible_back():
    with open_loop((48, 64), bits=16, registered=True) as loop:
        frame = loop.read()
        np.testing.assert_array_equal(frame.fused, frame.visible)


def test_memory_is_that_of_the_process():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    assert memory_mb() == pytest.approx(int(line.split()[1]) * 1024 / 1e6, rel=0.02)


def test_a_soak_writes_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop_cost, "SAMPLE_S", 0.1)
    assert main(["--size", "48x64", "--minutes", "0.02", "--csv", str(tmp_path / "soak.csv")]) == 0
    with open(tmp_path / "soak.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) > 3
    assert int(float(rows[-1]["frames"])) > 10
    assert float(rows[-1]["memory_mb"]) > 10
    assert "threads left after close: 0" in capsys.readouterr().out


def test_a_soak_without_a_frame_tells_no_latency(capsys):
    assert main(["--size", "48x64", "--minutes", "1e-9"]) == 0
    assert "0 frames, 0 skipped, p99 nan ms, max nan ms" in capsys.readouterr().out


def test_a_cost_of_no_frames_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--frames", "0"])
    assert "must be a whole number, 1 or more. Got '0'" in capsys.readouterr().err
