"""Commands that are interrupted, killed, or run twice at once: what is there is whole, and what was there is kept.

They run in forks of this process, which has imported everything already; but PyTorch may hang in a fork, and has
a process of its own. Training has tests of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from irvis.runtime.images import read_image, write_image
from irvis.runtime.samples import make_scene
from irvis.runtime.video import VideoReader

TIMEOUT_S = 120
SCENE = "test://street?width=64&height=48&fps=100"
RUN = ["run", "--infrared", SCENE, "--visible", SCENE, "-o", "out/made.avi", "--json", "out/made.json"]
FUSE = ["fuse", "ir", "vi", "-o", "out"]
EXPORT = ["export", "student.safetensors", "--size", "32x32", "-o", "out/made.onnx"]


@pytest.fixture
def place(tmp_path, monkeypatch, good):
    """The folder in which the commands run: pairs, a checkpoint, and out/ with older files."""
    infrared, visible = make_scene("street", 48, 64)
    for number in range(24):
        write_image(tmp_path / f"ir/{number:02}.png", infrared)
        write_image(tmp_path / f"vi/{number:02}.png", visible)
    (tmp_path / "student.safetensors").write_bytes(good.files[".safetensors"].read_bytes())
    (tmp_path / "out").mkdir()
    for name in ("made.avi", "made.json", "made.onnx", "23.png"):
        (tmp_path / "out" / name).write_bytes(b"older")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Command:
    """A command in a process of its own, its messages in a file."""

    def __init__(self, fork, arguments, messages):
        self.messages = messages
        if arguments is EXPORT:
            with messages.open("w") as stream:
                program = [sys.executable, "-m", "irvis.runtime.cli", *arguments]
                self.started = subprocess.Popen(program, stdout=stream, stderr=stream)
            self.process = self.started.pid
            return
        self.process = fork(arguments, messages, lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

    def wait(self):
        """Return the exit code, negative where a signal ended it."""
        for _ in range(100 * TIMEOUT_S):
            ended, status = os.waitpid(self.process, os.WNOHANG)
            if ended:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            time.sleep(0.01)
        os.kill(self.process, signal.SIGKILL)
        raise AssertionError(f"it did not end: {self.messages.read_text()}")


def hidden(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def visible_files(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_fusing_a_folder(place, fork, number, wait_for):
    out = place / "out"
    process = Command(fork, FUSE, place / "said")
    wait_for(lambda: (out / "05.png").exists())
    os.kill(process.process, number)
    code = process.wait()
    assert code == (-9 if number == signal.SIGKILL else 130)
    done = [path for path in visible_files(out) if path.suffix == ".png" and path.name != "23.png"]
    assert 6 <= len(done) < 23
    assert all(read_image(path).shape == (48, 64, 3) for path in done)
    assert (out / "23.png").read_bytes() == b"older"
    if code == 130:
        assert place.joinpath("said").read_text() == "irvis fuse: interrupted\n"
        assert hidden(out) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_running_live(place, fork, number, wait_for):
    out = place / "out"
    process = Command(fork, RUN, place / "said")
    wait_for(lambda: any(path.stat().st_size > 20_000 for path in hidden(out)))
    os.kill(process.process, number)
    assert process.wait() == (-9 if number == signal.SIGKILL else 130)
    assert "Traceback" not in place.joinpath("said").read_text()
    if number == signal.SIGKILL:
        assert {(out / name).read_bytes() for name in ("made.avi", "made.json")} == {b"older"}
        assert len(hidden(out)) == 1
    else:
        assert hidden(out) == []
        with VideoReader(out / "made.avi") as video:
            assert len(list(video)) > 1
        assert json.loads((out / "made.json").read_text())["fused"] > 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_exporting(place, fork, number, wait_for):
    pytest.importorskip("torch")
    out = place / "out"
    process = Command(fork, EXPORT, place / "said")
    wait_for(lambda: hidden(out))
    os.kill(process.process, number)
    assert process.wait() == (-9 if number == signal.SIGKILL else 130), place.joinpath("said").read_text()
    assert (out / "made.onnx").read_bytes() == b"older"
    if number != signal.SIGKILL:
        assert place.joinpath("said").read_text() == "irvis export: interrupted\n"
        assert hidden(out) == []


@pytest.mark.parametrize("arguments", [FUSE, [*RUN, "--frames", "20"], EXPORT], ids=lambda arguments: arguments[0])
def test_two_at_once_on_the_same_output(place, fork, arguments):
    if arguments is EXPORT:
        pytest.importorskip("torch")
    out = place / "out"
    processes = [Command(fork, arguments, place / f"said{number}") for number in range(2)]
    codes = [process.wait() for process in processes]
    assert codes == [0, 0], [process.messages.read_text() for process in processes]
    assert hidden(out) == []
    if arguments is FUSE:
        assert all(read_image(path).shape == (48, 64, 3) for path in out.glob("*.png"))
        assert len(list(out.glob("*.png"))) == 24
    elif arguments is EXPORT:
        from irvis.runtime.fuser import Fuser

        with Fuser(out / "made.onnx", threads=1) as fuser:
            assert fuser.size == (32, 32)
    else:
        with VideoReader(out / "made.avi") as video:
            assert len(list(video)) >= 20
        assert json.loads((out / "made.json").read_text())["fused"] == 20
