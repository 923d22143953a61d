"""The examples, run as their users run them."""

import os
import subprocess
import sys
from pathlib import Path

from irvis.runtime.images import read_image
from irvis.runtime.video import VideoReader

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = "test://{}?width=64&height=48&fps=10"


def run(name, *arguments, folder):
    program = [sys.executable, str(EXAMPLES / name), *arguments]
    result = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_the_robots_loop_tells_the_latency_of_each_frame(tmp_path):
    lines = run("robot_loop.py", SMALL.format("street"), SMALL.format("street"), folder=tmp_path)
    assert len(lines) == 31
    assert all(f"frame {number}: " in line for number, line in enumerate(lines[:30]))
    assert "of 30 past the deadline" in lines[-1]


def test_what_was_recorded_is_fused_frame_by_frame(tmp_path):
    scenes = SMALL.format("smoke") + "&bits=16", SMALL.format("smoke")
    lines = run("record_and_replay.py", "take one", *scenes, "8", folder=tmp_path)
    assert sum(line.startswith("pair ") for line in lines) == 8
    names = [f"{number:06}.png" for number in range(8)]
    for half in ("ir", "vi"):
        assert sorted(path.name for path in (tmp_path / "take one" / half).iterdir()) == names
    assert read_image(tmp_path / "take one/ir/000000.png").dtype == "uint16"
    with VideoReader(tmp_path / "take one/fused.mp4") as video:
        assert [frame.shape for frame in video] == [(48, 64, 3)] * 8


def test_a_recording_is_not_mixed_into_another(tmp_path):
    (tmp_path / "take/ir").mkdir(parents=True)
    (tmp_path / "take/ir/000005.png").write_bytes(b"older")
    program = [sys.executable, str(EXAMPLES / "record_and_replay.py"), "take", "test://smoke", "test://smoke", "2"]
    result = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, [path.name for path in tmp_path.rglob("*.png")]) == (1, ["000005.png"])
    assert "take holds a recording already" in result.stderr
