import subprocess
import sys

import pytest

from irvis.runtime.samples import make_scene
from irvis.runtime.video import video_writer

USES = {
    "a loop": "FusionLoop(SCENE, SCENE, 'fast', threads=1)",
    "a loop over recordings": "FusionLoop(VIDEO, VIDEO, 'fast', threads=1)",
    "paired sources": "PairedSources(VIDEO, VIDEO)",
    "a source": "open_source(VIDEO, 'visible')",
}
PROGRAM = """
import itertools
from irvis.runtime import FusionLoop
from irvis.runtime.cameras import PairedSources, open_source
SCENE, VIDEO = "test://street?width=64&height=48", "file://scene.avi?fps=1000&loop=1"
opened = {opened}
for frame in itertools.islice(opened, 3):
    pass
1 / 0
"""


@pytest.mark.parametrize("use", USES)
def test_a_program_that_fails_without_closing_ends_with_its_own_error(tmp_path, use):
    with video_writer(tmp_path / "scene.avi", 30) as write:
        for _ in range(10):
            write(make_scene("street", 48, 64)[1])
    program = PROGRAM.format(opened=USES[use])
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1, ended.stderr  # -6 where Python ended a thread inside OpenCV or ONNX Runtime
    assert ended.stderr.rstrip().endswith("ZeroDivisionError: division by zero")


DAEMON = """
import threading
from irvis.runtime import Fuser
from irvis.runtime.samples import make_scene
def fuse():
    with Fuser("fast", threads=1) as fuser:
        while True:
            fuser(*make_scene("street", 96, 128))
            fused.set()
fused = threading.Event()
threading.Thread(target=fuse, daemon=True).start()
fused.wait()
{end}
"""


@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise SystemExit(3)", 3)])
def test_a_program_whose_daemon_thread_fuses_on_ends_with_its_own_code(end, code):
    program = DAEMON.format(end=end)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (code, "")  # -6 where Python ended the thread inside ONNX Runtime
