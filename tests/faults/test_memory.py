"""Too little memory: one line and exit code 1, and nothing written."""

import os
import resource
import signal
import sys
import traceback

import numpy as np
import pytest

from irvis.runtime import cli
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import write_image

MIB = 1 << 20


def in_so_much(arguments, room, messages):
    """Run a command in a fork that may take ``room`` bytes more than this process has; give exit code and messages."""
    child = os.fork()
    if not child:
        code = 70
        try:
            sys.stdout = sys.stderr = messages.open("w", buffering=1)
            with open("/proc/self/statm") as statm:
                taken = int(statm.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))
            signal.alarm(120)
            code = cli.main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)), messages.read_text()


@pytest.mark.parametrize("room", [1, 8, 16, 32, 64, 128, 200])
def test_a_frame_that_is_too_large_for_the_memory(tmp_path, room):
    """Wherever it runs out: reading, preparing, in the model, writing."""
    with Fuser(threads=1) as fuser:  # so that what is loaded once is there
        fuser(np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.uint8))
    picture = np.zeros((2000, 2000), np.uint8)
    write_image(tmp_path / "ir.png", picture)
    write_image(tmp_path / "vi.png", np.dstack([picture] * 3))
    arguments = ["fuse", str(tmp_path / "ir.png"), str(tmp_path / "vi.png"), "-o", str(tmp_path / "out" / "o.png")]
    code, said = in_so_much(arguments, room * MIB, tmp_path / "said")
    print(said)
    assert code == 1
    assert said.startswith("irvis fuse: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
