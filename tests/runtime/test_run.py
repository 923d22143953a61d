import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from irvis.runtime import run as run_module
from irvis.runtime.cli import main
from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import write_image
from irvis.runtime.loop import FusionLoop
from irvis.runtime.samples import make_scene
from irvis.runtime.video import VideoReader, video_writer

SCENE = "test://street?width=64&height=48&fps=20"
PAIR = ["--infrared", SCENE, "--visible", SCENE]


def run(capsys, *arguments):
    """Return the exit code, stdout and the lines on stderr."""
    code = main(["run", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, [line for line in captured.err.splitlines() if line.startswith("irvis run:")]


@contextlib.contextmanager
def closing_with(work, value):
    yield value
    work()


def is_recording(folder):
    """Tell whether a recording has been begun there, and some frames of it are on the disk."""
    return any(path.stat().st_size > 20_000 for path in folder.glob(".*.avi"))


def frames_of(path):
    with VideoReader(path) as video:
        return list(video)


def test_so_many_frames_and_the_figures_at_the_end(tmp_path, capsys):
    code, out, errors = run(capsys, *PAIR, "--frames", 5, "--json", tmp_path / "run.json", "--deadline-ms", "60000")
    assert (code, errors) == (0, [])
    figures = json.loads((tmp_path / "run.json").read_text())
    assert figures["fused"] == 5
    assert figures["missed_deadlines"] == 0
    assert figures["infrared"]["state"] == "streaming"
    assert 0 < figures["latency_p50_ms"] <= figures["latency_max_ms"]
    assert "fused     5 pairs in" in out
    assert "deadline  of 60000 ms missed by 0 (0.0 %)" in out


def test_two_folders_into_a_video(tmp_path, capsys):
    infrared, visible = make_scene("street", 48, 64)
    for number in range(6):
        write_image(tmp_path / f"ir/{number}.png", np.roll(infrared, 5 * number, axis=1))
        write_image(tmp_path / f"vi/{number}.png", np.roll(visible, 5 * number, axis=1))
    folders = ["--infrared", tmp_path / "ir", "--visible", tmp_path / "vi"]
    code, out, _ = run(capsys, *folders, "--every-frame", "-o", tmp_path / "fused.avi")
    assert code == 0
    assert "latency" not in out
    frames = frames_of(tmp_path / "fused.avi")
    assert len(frames) == 6
    with Fuser() as fuser:
        wanted = fuser(np.roll(infrared, 20, axis=1), np.roll(visible, 20, axis=1))
    assert abs(frames[4].astype(int) - wanted).mean() < 6  # the codec is lossy


def test_two_recordings_of_different_rates_play_at_the_speed_of_the_scene(tmp_path, capsys):
    for name, fps in (("ir", 10.0), ("vi", 30.0)):
        with video_writer(tmp_path / f"{name}.avi", fps) as write:
            for _ in range(int(fps)):
                write(make_scene("street", 48, 64)[1])
    halves = ["--infrared", tmp_path / "ir.avi", "--visible", tmp_path / "vi.avi"]
    code, _, _ = run(capsys, *halves, "--every-frame", "-o", tmp_path / "fused.avi")
    assert code == 0
    with VideoReader(tmp_path / "fused.avi") as video:
        assert (len(list(video)), video.fps) == (10, 10.0)


@pytest.mark.parametrize(("role", "skew_ms"), [("infrared", -100), ("visible", 100)])
def test_a_delay_is_of_its_camera_and_like_the_slop_in_milliseconds(tmp_path, capsys, role, skew_ms):
    slow = SCENE.replace("fps=20", "fps=4")
    delayed = ["--infrared", slow, "--visible", slow, f"--{role}-delay-ms", 100]
    assert run(capsys, *delayed, "--slop-ms", 120, "--frames", 2, "--json", tmp_path / "run.json")[0] == 0
    assert json.loads((tmp_path / "run.json").read_text())["skew_ms"] == pytest.approx(skew_ms, abs=1)
    code, _, errors = run(capsys, *delayed, "--slop-ms", 80, "--duration", 0.7)
    assert (code, len(errors)) == (1, 1)
    assert "no pair was fused" in errors[0]


def test_frames_are_resized_for_a_model_of_another_size_where_that_is_asked_for(small_model, capsys):
    code, _, errors = run(capsys, *PAIR, "--model", small_model, "--frames", 1)
    assert code == 1
    assert "frames are 48x64, small.onnx takes 24x32" in errors[0]
    assert run(capsys, *PAIR, "--model", small_model, "--frames", 1, "--resize")[0] == 0


def test_a_log_on_a_full_disk_costs_no_fusing(tmp_path, monkeypatch):
    figures = tmp_path / "figures.json"
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["run", *PAIR, "--frames", "2", "--json", str(figures)]) == 1  # the figures could not be printed
    assert json.loads(figures.read_text())["fused"] == 2


def test_warnings_into_a_pipe_that_nobody_empties_hold_up_nothing(tmp_path):
    for role in ("ir", "vi"):
        for name in "abc":
            write_image(tmp_path / role / f"{name}.png", make_scene("street", 48, 64)[0])
        (tmp_path / role / "b.png").write_bytes(b"no picture")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "irvis.runtime.cli", "run", "--every-frame", "--json", str(tmp_path / "run.json")]
    command += ["--infrared", str(tmp_path / "ir"), "--visible", str(tmp_path / "vi")]
    try:
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=writing, timeout=60).returncode == 0
    finally:
        os.close(reading)
        os.close(writing)
    status = json.loads((tmp_path / "run.json").read_text())
    assert (status["fused"], status["infrared"]["bad"], status["visible"]["bad"]) == (2, 1, 1)


def test_a_file_of_figures_that_cannot_be_written_costs_none_on_stdout(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise FileError("cannot write run.json: No space left on device")

    monkeypatch.setattr(run_module, "write_json", fails)
    code, out, errors = run(capsys, *PAIR, "--frames", 2, "--json", tmp_path / "run.json")
    assert (code, errors) == (1, ["irvis run: cannot write run.json: No space left on device"])
    assert "fused     2 pairs in" in out


def test_a_recording_that_cannot_be_completed_costs_no_figures(tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise FileError("cannot write run.avi")

    monkeypatch.setattr("irvis.runtime.video.replacing", lambda path: closing_with(fails, tmp_path / "hidden.avi"))
    options = ["--frames", 2, "-o", tmp_path / "run.avi", "--json", tmp_path / "run.json"]
    code, out, errors = run(capsys, *PAIR, *options)
    assert (code, errors) == (1, ["irvis run: cannot write run.avi"])
    assert "fused     2 pairs in" in out
    assert json.loads((tmp_path / "run.json").read_text())["fused"] == 2


def test_a_duration_ends_it(capsys):
    started = time.monotonic()
    code, out, _ = run(capsys, *PAIR, "--duration", "2")
    assert code == 0
    assert "fused " in out
    assert time.monotonic() - started >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--infrared", "nowhere", "--visible", SCENE], "not found: nowhere"),
        (["--infrared", SCENE, "--visible", "http://x"], "unknown kind of source"),
        ([*PAIR, "--model", "none.onnx"], "model not found"),
        ([*PAIR, "--registration", "none.json"], "registration not found"),
        ([*PAIR, "--crop"], "crop needs a registration"),
        ([*PAIR, "-o", "x.txt"], "its suffix must be one of"),
        ([*PAIR, "--token", "secret"], "add --web"),
        ([*PAIR, "--engine-size", "48x64"], "add --engine-cache DIR"),
        ([*PAIR, "--smoothing", "2"], "smoothing must be"),
        ([*PAIR, "--slop-ms", "0"], "slop must be"),
        (["--infrared", SCENE, "--visible", SCENE.replace("64", "80")], "differ in size: 48x64 and 48x80"),
    ],
)
def test_what_goes_wrong_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run(capsys, *arguments)
    assert code == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_was_fused_no_latency_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, *PAIR, "--infrared-delay-ms", 25, "--slop-ms", 1, "--duration", 0.5, "--json", "n.json")
    figures = json.loads((tmp_path / "n.json").read_text())
    assert code == 1
    assert figures["fused"] == 0
    assert {name for name, value in figures.items() if value is None} == {
        "skew_ms",
        "latency_max_ms",
        *(f"latency_p{percent}_ms" for percent in (50, 90, 99)),
    }
    assert "fused     0 pairs in" in out
    assert "latency" not in out
    assert "deadline" not in out


def test_without_a_terminal_a_line_a_minute_tells_how_it_goes(monkeypatch, capfd):
    monkeypatch.setattr("irvis.runtime.outputs.JOURNAL_S", 0.5)
    started = time.monotonic()
    assert main(["run", *PAIR, "--duration", "2.5"]) == 0
    lasted_s = time.monotonic() - started
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("fused")]
    assert 2 <= len(lines) <= lasted_s / 0.5
    assert all("infrared streaming; visible streaming" in line for line in lines)


def test_recordings_of_which_nothing_can_be_fused_are_a_failure(tmp_path, capsys):
    for half in ("ir", "vi"):
        (tmp_path / half).mkdir()
        (tmp_path / half / "a.png").write_bytes(b"no image")
    folders = ["--infrared", tmp_path / "ir", "--visible", tmp_path / "vi"]
    code, out, errors = run(capsys, *folders, "--every-frame", "-o", tmp_path / "fused.avi")
    assert code == 1
    assert len(errors) == 1
    assert "no pair was fused" in errors[0]
    assert "1 bad" in out
    assert not (tmp_path / "fused.avi").exists()


@pytest.mark.parametrize("pace", [["--every-frame"], []])
def test_a_recording_that_is_cut_off_is_fused_so_far_and_told(tmp_path, capsys, cut_avi, pace):
    path = tmp_path / "cut.avi"
    with video_writer(path, 50.0) as write:
        for _ in range(40):
            write(make_scene("street", 48, 64)[1])
    cut_avi(path, 15)
    output = tmp_path / "fused.avi"
    code, out, errors = run(capsys, "--infrared", path, "--visible", f"file://{path}", *pace, "-o", output)
    assert (code, len(errors)) == (1, 1)
    assert "cut.avi ends after 15 of its 40 frames" in errors[0]
    assert "pairs in" in out
    assert len(frames_of(output)) == 15 if pace else frames_of(output)


class SlowWhenIdle:
    """An output, such as a browser far away, that takes longer over being idle than the rest of a run."""

    def __init__(self):
        self.numbers, self.asleep = [], threading.Event()

    def show(self, frame, status):
        self.numbers.append(frame.number)
        return True

    def idle(self, status):
        self.asleep.set()
        time.sleep(0.5)
        return True


class LastWhileIdle(FusionLoop):
    """A loop whose end comes while the outputs are idle: a last frame, or a failure."""

    def __init__(self, output, last):
        self.threads_alive, self.last = True, last

        def end():
            output.asleep.wait(10)
            self.threads_alive = False

        threading.Thread(target=end).start()

    @property
    def ended(self):
        return not self.threads_alive

    def read(self, timeout_s=None):
        if not self.ended:
            return None
        last, self.last = self.last, None
        if isinstance(last, Exception):
            raise last
        return last

    def status(self):
        return {"latency_p99_ms": 1.0, "missed_deadlines": 0}


@pytest.mark.parametrize("last", [SimpleNamespace(number=7), FrameError("the last could not be fused")])
def test_what_comes_while_the_outputs_are_idle_is_not_lost(last):
    output = SlowWhenIdle()
    loop = LastWhileIdle(output, last)
    arguments, interrupts = SimpleNamespace(frames=None, duration=None), SimpleNamespace(came=False)
    if isinstance(last, Exception):
        with pytest.raises(FrameError, match="the last could not be fused"):
            run_module._run(loop, [output], arguments, time.monotonic(), interrupts)
    else:
        run_module._run(loop, [output], arguments, time.monotonic(), interrupts)
        assert output.numbers == [7]


@pytest.mark.parametrize(
    "arguments",
    [["--infrared", SCENE], [*PAIR, "--frames", "0"], [*PAIR, "--slop-ms", "x"], [*PAIR, "--duration", "-1"]],
)
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit, match="2"):
        main(["run", *arguments])


@pytest.mark.usefixtures("heeds_hang_ups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_keeps_the_recording_and_tells_the_figures(tmp_path, number, wait_for):
    program = [sys.executable, "-m", "irvis.runtime.cli", "run", *PAIR, "-o", "fused.avi"]
    process = subprocess.Popen(program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith("model:")
        wait_for(lambda: is_recording(tmp_path))
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "pairs in" in out
    assert [path.name for path in tmp_path.iterdir()] == ["fused.avi"]
    assert len(frames_of(tmp_path / "fused.avi")) > 2


@pytest.mark.usefixtures("heeds_hang_ups")
def test_a_terminal_that_goes_ends_it_like_ctrl_c(tmp_path, wait_for):
    """As an ssh that is cut does: the hang-up, and nothing can be written to the terminal any more."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        program = [sys.executable, "-m", "irvis.runtime.cli", "run", *PAIR, "-o", "fused.avi", "--json", "run.json"]
        os.execv(sys.executable, program)
    said = b""
    while b"model:" not in said:
        said += os.read(terminal, 1000)
    wait_for(lambda: is_recording(tmp_path))
    os.close(terminal)
    try:
        wait_for(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    finally:
        os.kill(child, signal.SIGKILL)  # which no longer matters to one that has ended
        _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fused.avi", "run.json"]
    assert len(frames_of(tmp_path / "fused.avi")) > 2


def test_ctrl_c_where_python_loses_its_exception_ends_the_run_all_the_same(tmp_path, monkeypatch, capsys):
    class Dropped:
        pass

    @contextlib.contextmanager
    def writer(path, fps):
        with video_writer(path, fps) as write:

            def write_one(frame):
                write(frame)
                dropped = Dropped()
                called_back = weakref.ref(dropped, lambda _: signal.raise_signal(signal.SIGINT))
                del dropped
                assert called_back() is None

            yield write_one

    monkeypatch.setattr(run_module, "video_writer", writer)
    code, out, errors = run(capsys, *PAIR, "--frames", 50, "-o", tmp_path / "fused.avi")
    assert (code, errors) == (130, [])
    assert "fused     1 pairs in" in out
    assert len(frames_of(tmp_path / "fused.avi")) == 1


def interrupt_while_saving(monkeypatch, number, also_running):
    """Send this process a signal while the video is completed and while the figures are written, and once before."""
    signals = [signal.raise_signal] if also_running else []
    writes_json = run_module.write_json

    @contextlib.contextmanager
    def writer(path, fps):
        with video_writer(path, fps) as write:

            def write_one(frame):
                write(frame)
                while signals:
                    signals.pop()(number)

            yield write_one
            signal.raise_signal(number)

    def write_json(path, document):
        signal.raise_signal(number)
        writes_json(path, document)

    monkeypatch.setattr(run_module, "video_writer", writer)
    monkeypatch.setattr(run_module, "write_json", write_json)


@pytest.mark.usefixtures("heeds_hang_ups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("also_running", [True, False])
def test_ctrl_c_while_the_files_are_completed_costs_nothing(tmp_path, monkeypatch, capsys, number, also_running):
    interrupt_while_saving(monkeypatch, number, also_running)
    before = signal.getsignal(number)
    files = ["-o", tmp_path / "fused.avi", "--json", tmp_path / "run.json"]
    code, out, errors = run(capsys, *PAIR, "--frames", 3, *files)
    assert (code, errors) == (130 if also_running else 0, [])
    assert "pairs in" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fused.avi", "run.json"]
    assert frames_of(tmp_path / "fused.avi")
    assert json.loads((tmp_path / "run.json").read_text())["fused"] > 0
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("also_running", [True, False])
def test_ctrl_c_ends_even_the_saving_if_that_takes_too_long(tmp_path, monkeypatch, capsys, also_running):
    monkeypatch.setattr(run_module, "SAVING_S", 0.0)
    interrupt_while_saving(monkeypatch, signal.SIGINT, also_running)
    files = ["-o", tmp_path / "fused.avi", "--json", tmp_path / "run.json"]
    code, _, errors = run(capsys, *PAIR, "--frames", 3, *files)
    assert (code, errors) == (130, ["irvis run: interrupted"])
    assert list(tmp_path.iterdir()) == []
