"""Cameras that change, flood or give rubbish, and a clock that jumps, under ``irvis run``."""

import ast
import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

import irvis.runtime.cli
from irvis.runtime.cameras import source
from irvis.runtime.cameras.reader import INFRARED, Reading, as_role
from irvis.runtime.samples import make_scene
from irvis.runtime.video import VideoReader

SMALL, LARGE = make_scene("street", 48, 64), make_scene("street", 60, 80)
GREY = SMALL[0], np.ascontiguousarray(SMALL[1][:, :, 1])
BITS = (7000 + 12 * SMALL[0].astype(np.uint16)), SMALL[1]


class Camera:
    """A live camera that gives ten frames of each kind, then the last kind for ever."""

    live, fps = True, 100.0

    def __init__(self, frames, interval_s=0.01):
        self.frames, self.interval_s, self.count = frames, interval_s, 0

    def read(self, buffers):
        time.sleep(self.interval_s)
        frame = self.frames[min(self.count // 10, len(self.frames) - 1)]
        self.count += 1
        return Reading(as_role(frame, self.role, buffers).copy(), time.monotonic())

    def close(self):
        pass


@pytest.fixture
def run(command, monkeypatch, tmp_path):
    """A function that runs ``irvis run`` with these kinds of pairs, and gives exit code, errors and figures."""
    monkeypatch.chdir(tmp_path)

    def run(pairs, *arguments, interval_s=0.01):
        def open_reader(uri, role):
            camera = Camera([pair[role != INFRARED] for pair in pairs], interval_s)
            camera.role = role
            return camera

        monkeypatch.setattr(source, "open_reader", open_reader)
        code, errors = command(
            "run",
            "--infrared",
            "test://a",
            "--visible",
            "test://b",
            "--json",
            "figures.json",
            "--duration",
            "60",
            *arguments,
        )
        errors = [line for line in errors if line.startswith("irvis run: ")]
        return code, errors, json.loads(Path("figures.json").read_text())

    return run


@pytest.mark.parametrize("then", [GREY, BITS], ids=["grey", "16 bits"])
def test_two_that_change_together_are_fused_on(run, then):
    code, errors, figures = run([SMALL, then, SMALL], "--frames", "25")
    assert (code, errors) == (0, [])
    assert figures["fused"] == 25


def test_one_that_changes_its_size_ends_the_run_and_keeps_the_recording(run):
    code, errors, figures = run([SMALL, (LARGE[0], SMALL[1])], "-o", "made.avi")
    assert code == 1
    assert len(errors) == 1
    assert "infrared and visible differ in size: 60x80 and 48x64" in errors[0]
    with VideoReader(Path("made.avi")) as video:
        assert len(list(video)) >= figures["fused"] > 0


RUBBISH = {
    "floats": np.full((48, 64), np.nan, np.float32),
    "four channels": np.zeros((48, 64, 4), np.uint8),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish_is_counted_and_passed_over(run, name):
    code, errors, figures = run([SMALL, (RUBBISH[name], RUBBISH[name]), SMALL], "--frames", "12")
    assert (code, errors) == (0, [])
    assert figures["infrared"]["bad"] == figures["visible"]["bad"] == 10


@pytest.mark.parametrize("shape", [(0, 0), (0, 64), (1, 1), (15, 64)])
def test_frames_too_small_to_fuse_end_the_run_in_one_line(run, shape):
    code, errors, figures = run([(np.zeros(shape, np.uint8), np.zeros((*shape, 3), np.uint8))])
    assert (code, len(errors), figures["fused"]) == (1, 1, 0)


def test_a_flood_costs_the_newest_nothing(run):
    code, errors, figures = run([SMALL], "--frames", "20", interval_s=0)
    assert (code, errors) == (0, [])
    assert figures["infrared"]["frames"] > 40
    assert figures["fused"] == 20


def test_a_clock_that_jumps_changes_nothing(run, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: random.uniform(-1e9, 4e9))
    code, errors, figures = run([SMALL], "--frames", "20")
    assert (code, errors) == (0, [])
    assert 0 < figures["latency_max_ms"] < 60_000
    assert 0 < figures["seconds"] < 60


def test_nothing_that_runs_live_asks_for_the_time_of_day():
    runtime = Path(irvis.runtime.cli.__file__).parent
    asked = set()
    for path in runtime.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "value", None), "id", None), getattr(node, "attr", None)
            if name in (("time", "time"), ("time", "time_ns"), ("datetime", "now")):
                asked.add(str(path.relative_to(runtime)))
    assert asked <= {"web/live_view.py"}  # the name of a snapshot that a person takes
