import gc
import os
import subprocess
import sys
import time

import pytest

from irvis.benchmarks.machine import system_files
from irvis.benchmarks.machine.system_files import NumberFile, open_number, read_number, read_text, run_command


def test_a_file_that_stays_open_gives_what_is_in_it_now(tmp_path):
    (tmp_path / "temp").write_text("41500\n")
    file = NumberFile(tmp_path / "temp")
    assert file() == 41500
    (tmp_path / "temp").write_text("-3")
    assert file() == -3
    (tmp_path / "temp").write_text("")
    with pytest.raises(ValueError, match="invalid literal"):
        file()


def test_its_descriptor_is_given_back(tmp_path):
    (tmp_path / "temp").write_text("1")
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    files = [NumberFile(tmp_path / "temp") for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == before + 10
    del files
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("content", [None, "", "12 mA", "N/A"])
def test_what_holds_no_number_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "file").write_text(content)
    assert open_number(tmp_path / "file") is None
    assert read_number(tmp_path / "file") is None


def test_the_nul_that_ends_a_device_trees_text_is_left_out(tmp_path):
    (tmp_path / "model").write_bytes(b"Jetson-AGX\0")
    assert read_text(tmp_path / "model") == "Jetson-AGX"
    assert read_text(tmp_path) is None
    (tmp_path / "model").write_bytes(b"caf\xe9")
    assert read_text(tmp_path / "model") == "caf\ufffd"


def test_a_command_runs_with_its_warnings_apart_and_its_exit_code_ignored():
    script = "import sys; print('NV Power Mode: MAXN\\n0'); sys.stderr.write('NVPM WARN'); sys.exit(3)"
    assert run_command([sys.executable, "-c", script]).split() == ["NV", "Power", "Mode:", "MAXN", "0"]


def test_a_command_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(system_files, "COMMAND_TIMEOUT_S", 0.2)
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run_command([sys.executable, "-c", "import time; time.sleep(60)"])
    assert time.monotonic() - started < 30


def test_a_command_that_is_not_there_is_an_oserror():
    with pytest.raises(OSError, match="irvis-has-no-such-command"):
        run_command(["irvis-has-no-such-command"])
