"""Too little memory: one line and exit code 1, and nothing written."""

import os
import resource
import signal

import numpy as np
import pytest

from irvis.runtime.fuser import Fuser
from irvis.runtime.images import write_image

MIB = 1 << 20


def allow(room):
    """Let this process take ``room`` bytes more than it has, for two minutes at most."""
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))
    signal.alarm(120)


@pytest.mark.parametrize("room", [1, 8, 16, 32, 64, 128, 200])
def test_a_frame_that_is_too_large_for_the_memory(tmp_path, fork, room):
    """Wherever it runs out: reading, preparing, in the model, writing."""
    with Fuser(threads=1) as fuser:  # so that what is loaded once is there
        fuser(np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.uint8))
    picture = np.zeros((2000, 2000), np.uint8)
    write_image(tmp_path / "ir.png", picture)
    write_image(tmp_path / "vi.png", np.dstack([picture] * 3))
    arguments = ["fuse", str(tmp_path / "ir.png"), str(tmp_path / "vi.png"), "-o", str(tmp_path / "out" / "o.png")]
    _, status = os.waitpid(fork(arguments, tmp_path / "said", lambda: allow(room * MIB)), 0)
    said = (tmp_path / "said").read_text()
    print(said)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 1
    assert said.startswith("irvis fuse: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
