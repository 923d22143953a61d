import signal
from pathlib import Path

import pytest

from irvis.benchmarks.gpu_check import endurance
from irvis.benchmarks.gpu_check.endurance import check_runtime
from irvis.export.trt_network import fix_size
from irvis.runtime.errors import IrvisError
from irvis.runtime.shipped import SHIPPED_MODEL


def test_without_an_engine_it_says_which_to_build(tmp_path: Path) -> None:
    with pytest.raises(IrvisError, match="build one of deploy frames FP16, deploy planes FP16"):
        check_runtime(tmp_path)


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
