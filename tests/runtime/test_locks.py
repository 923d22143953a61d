import errno
import fcntl
import subprocess
import sys
import threading
import time

import pytest

from irvis.runtime import locks
from irvis.runtime.errors import FileError
from irvis.runtime.locks import claimed, lock, try_lock

HOLD = """
import sys
from pathlib import Path
from irvis.runtime.locks import claimed

with claimed(Path(sys.argv[1])):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Start another process that has ``tmp_path / "made"`` to itself."""
    program = [sys.executable, "-c", HOLD, str(tmp_path / "made")]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"has it\n"
    yield process
    process.kill()
    process.communicate()


def test_what_another_process_writes_is_refused_until_it_ends(other, tmp_path):
    with pytest.raises(FileError, match=r"another process is writing .*made; wait for it"), claimed(tmp_path / "made"):
        pass
    other.communicate(b"")
    assert list(tmp_path.iterdir()) == []
    with claimed(tmp_path / "made"):
        assert [path.name for path in tmp_path.iterdir()] == ["made.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["made2", "new folder/made"])
def test_another_output_is_free(other, tmp_path, name):
    with claimed(tmp_path / name):
        assert (tmp_path / f"{name}.lock").exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_on_a_file_that_was_removed_since_it_was_opened_is_worth_nothing(tmp_path, monkeypatch, replaced):
    """The previous holder ended in between, and a third process may hold the next file of that name."""
    path = tmp_path / "made.lock"

    def lock_late(stream):
        path.unlink()
        if replaced:
            path.touch()
        return try_lock(stream)

    monkeypatch.setattr(locks, "try_lock", lock_late)
    with pytest.raises(FileError, match=r"another process is writing .*made; wait for it"), claimed(tmp_path / "made"):
        pass
    assert path.exists() == replaced


def test_a_process_that_is_killed_hinders_nobody(other, tmp_path):
    other.kill()
    other.wait()
    assert (tmp_path / "made.lock").exists()
    with claimed(tmp_path / "made"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot write .*made\.lock"), claimed(tmp_path / "file" / "made"):
        pass


def test_a_file_system_without_locks_is_told_and_no_reason_to_stop(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (tmp_path / "lock").open("w") as stream:
        assert try_lock(stream)
    assert capsys.readouterr().err.startswith("no locks on the file system of ")


def test_a_lock_that_fails_in_another_way_is_an_error(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (tmp_path / "lock").open("w") as stream, pytest.raises(OSError, match="Input/output error"):
        try_lock(stream)


def test_who_waits_has_it_when_the_other_ends(other, tmp_path):
    with (tmp_path / "made.lock").open("a") as stream:
        threading.Timer(0.3, other.kill).start()
        started = time.monotonic()
        lock(stream)
        assert time.monotonic() - started >= 0.25
