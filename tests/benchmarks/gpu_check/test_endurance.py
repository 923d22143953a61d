import csv
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from irvis.benchmarks.gpu_check import endurance
from irvis.benchmarks.gpu_check.endurance import check_endurance, measure_runtime
from irvis.benchmarks.loop_cost import memory_mb
from irvis.export.trt_network import fix_size
from irvis.runtime.errors import IrvisError
from irvis.runtime.shipped import SHIPPED_MODEL


def test_without_an_engine_it_says_which_to_build(tmp_path: Path) -> None:
    for part in (measure_runtime, check_endurance):
        with pytest.raises(IrvisError, match="build one of deploy frames FP16, deploy planes FP16"):
            part(tmp_path)


def test_bench_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(IrvisError, match=r"bench\.py ended with 1: .*none\.engine"):
        endurance._bench(tmp_path / "none.engine")


def test_ctrl_c_ends_the_loop_even_if_a_shell_in_the_background_started_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.onnx"  # there is no GPU: the loop runs on the CPU
    small.write_bytes(fix_size(SHIPPED_MODEL.read_bytes(), (48, 64))[1])
    monkeypatch.setattr(endurance, "_device_bytes", lambda: 0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of every program that `lease.sh ... &` starts
    try:
        found = endurance._interrupted(small)
    finally:
        signal.signal(signal.SIGINT, before)
    assert found["exit"] == -signal.SIGINT
    assert found["last_line"] == ["KeyboardInterrupt"]


class Slow:
    """Fuses as an engine does, in 5 ms or more; the second that is opened is three levels off in its later calls."""

    size = (16, 24)
    opened = 0

    def __init__(self, engine: Path) -> None:
        Slow.opened += 1
        self.off, self.calls = 3 * (Slow.opened % 2 == 0), 0

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, infrared: np.ndarray, visible: np.ndarray, out: object = None) -> np.ndarray:
        time.sleep(0.005)
        self.calls += 1
        return np.full(visible.shape, 7 + (self.off if self.calls > 10 else 0), np.uint8)


def test_a_frame_of_many_takes_as_long_as_one_and_the_largest_difference_of_two_fusers_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endurance, "Fuser", Slow)
    monkeypatch.setattr(Slow, "opened", 0)
    assert endurance._two(Path()) == {"runs": 40, "largest_difference": 3}
    for name, value in (("FRAMES", 20), ("SAMPLES", 4), ("_device_bytes", lambda: 9)):
        monkeypatch.setattr(endurance, name, value)
    found = endurance._frames(Path(), tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open() as file:
        assert [float(row["device_bytes"]) for row in csv.DictReader(file)] == [9] * 4
    assert found["count"] == 20
    assert found["mean_ms least, most"][0] >= 5
    assert found["device_bytes first, last"] == [9, 9]
    monkeypatch.setattr(endurance, "_own_device_bytes", lambda: 5)  # by this process alone, beside others
    assert endurance._frames(Path(), tmp_path / "frames.csv")["device_bytes first, last"] == [5, 5]
    assert endurance._host_bytes() == pytest.approx(1e6 * memory_mb(), rel=0.01)


def test_stages_are_those_of_8_and_of_16_bit_infrared(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []

    def measured(fuser: Slow, infrared: np.ndarray, visible: np.ndarray, iterations: int, warmup: int) -> dict:
        kinds.append((infrared.dtype, warmup > 0))
        return {"h2d": None, "total": list(range(1, 102))}

    monkeypatch.setattr(endurance, "Fuser", Slow)
    monkeypatch.setattr(endurance, "measure", measured)
    found = endurance._stages(Path())
    assert kinds == [(np.uint8, True), (np.uint16, True)]
    assert found["16 bits, colour"] == {"total": {"p50": 51.0, "p99": 100.0, "max": 101.0}}


def test_what_cycles_hold_is_told_after_1_10_50_and_100(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles = []
    for name, factor in (("_host_bytes", 1), ("_device_bytes", 10), ("_descriptors", 100)):
        monkeypatch.setattr(endurance, name, lambda factor=factor: factor * len(cycles))
    found = endurance._grown(lambda: cycles.append(1))
    assert found["host_bytes after 1, 10, 50, 100"] == [1, 10, 50, 100]
    assert found["device_bytes after 1, 10, 50, 100"] == [10, 100, 500, 1000]
    assert found["descriptors after 1, 10, 50, 100"] == [100, 1000, 5000, 10000]
