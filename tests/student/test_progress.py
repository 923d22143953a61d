import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time

import pytest

pytest.importorskip("torch")

from irvis.student import progress

COUNT = """
import time
from irvis.student.progress import progress

with progress(total=40, initial=10, desc="training", unit="step") as bar:
    for _ in range(30):
        time.sleep(0.02)
        bar.set_postfix(loss="0.5", refresh=False)
        bar.update(1)
"""


def test_a_log_gets_a_few_whole_lines():
    log = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stderr
    assert "\r" not in log
    first, last = filter(None, log.split("\n"))
    assert first.startswith("training: 10 of 40 [")
    assert last.startswith("training: 40 of 40 [")
    assert last.endswith("step/s, loss=0.5]")


def test_long_work_writes_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.2)
    with progress.progress(total=10, desc="training", unit="step") as bar:
        for _ in range(10):
            time.sleep(0.1)
            bar.update(1)
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) > 2


def test_a_terminal_gets_a_bar():
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    subprocess.run([sys.executable, "-c", COUNT], stderr=end, check=True)
    os.close(end)
    shown = os.read(terminal, 10000)
    os.close(terminal)
    assert shown.count(b"\rtraining:") > 3
    assert b"40/40" in shown
