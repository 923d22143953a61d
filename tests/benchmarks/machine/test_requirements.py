import os

import pytest

from irvis.benchmarks.machine.board import read_board
from irvis.benchmarks.machine.requirements import find_doubts, require_locked_clocks, require_mode, set_mode
from irvis.runtime import IrvisError

pytestmark = pytest.mark.usefixtures("no_jtop")


@pytest.fixture
def board(tmp_path, machines):
    def read(mode=0, locked=True, output=None):
        root = machines.plant(tmp_path / f"{mode}-{locked}", machines.xavier_tree(mode, locked=locked))
        return read_board(root, machines.prints(output or machines.MODES[mode][-1]))

    return read


@pytest.fixture
def as_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def must_not_run(*_):
    raise AssertionError("asked or called")


@pytest.mark.parametrize("mode", [0, 2, 7])
def test_a_mode_is_verified_by_name_and_by_id(board, machines, mode):
    require_mode(board(mode), machines.MODES[mode][0])
    require_mode(board(mode), str(mode))
    with pytest.raises(IrvisError, match="not 5; run `sudo nvpmodel -m 5`"):
        require_mode(board(mode), "5")


def test_an_id_that_no_mode_has_is_answered_with_the_modes(board):
    for mode in ("9", "²", "٣"):  # the last two are digits to Python, too
        for demand in (require_mode, lambda *given: set_mode(*given, must_not_run, must_not_run)):
            with pytest.raises(IrvisError, match=r"the AGX Xavier's modes are MAXN, .*, ids 0 to 7"):
                demand(board(), mode)


def test_a_mode_is_set_by_nvpmodel(board, as_root):
    calls = []
    set_mode(board(7), "MAXN", must_not_run, lambda command: calls.append(command) or 0)
    set_mode(board(0), "2", must_not_run, lambda command: calls.append(command) or 0)
    assert calls == [["nvpmodel", "-m", "0"], ["nvpmodel", "-m", "2"]]


def test_nothing_is_set_where_the_mode_is_right_already(board):
    set_mode(board(0), "MAXN", must_not_run, must_not_run)


def test_setting_needs_root(board, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(IrvisError, match="needs root; run `sudo nvpmodel -m 0`"):
        set_mode(board(7), "MAXN", must_not_run, must_not_run)


@pytest.mark.parametrize(("mode", "wanted"), [(0, "MODE_10W"), (0, "1")])
def test_what_needs_a_reboot_is_asked_first(board, as_root, mode, wanted):
    with pytest.raises(IrvisError, match=r"left as it was: MAXN \(id 0\)"):
        set_mode(board(mode), wanted, lambda question: False, must_not_run)
    calls = []
    set_mode(board(mode), wanted, lambda question: "reboot" in question, lambda command: calls.append(command) or 0)
    assert calls == [["nvpmodel", "-m", "1"]]  # no answer is fed to it: whether it reboots is between it and its user


def test_leaving_10_watt_is_asked_too(board, as_root):
    with pytest.raises(IrvisError, match="left as it was"):
        set_mode(board(0, output="NV Power Mode: MODE_10W\n1\n"), "MAXN", lambda question: False, must_not_run)


def test_an_nvpmodel_that_fails_or_is_missing_is_one_line(board, as_root):
    with pytest.raises(IrvisError, match="failed with exit code 3"):
        set_mode(board(7), "MAXN", must_not_run, lambda command: 3)

    def missing(command):
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(IrvisError, match="cannot run nvpmodel"):
        set_mode(board(7), "MAXN", must_not_run, missing)


def test_a_machine_that_is_no_jetson_has_no_mode_to_set(tmp_path, as_root):
    with pytest.raises(IrvisError, match="needs a Jetson"):
        set_mode(read_board(tmp_path), "MAXN", must_not_run, must_not_run)


def test_locked_clocks_are_required(board, tmp_path):
    require_locked_clocks(board())
    with pytest.raises(IrvisError, match="free to move: GPU, CPU; run `sudo jetson_clocks`"):
        require_locked_clocks(board(locked=False))
    with pytest.raises(IrvisError, match="for a Jetson"):
        require_locked_clocks(read_board(tmp_path))


def test_the_watermark_says_what_is_not_held(board, tmp_path):
    assert find_doubts(board(), "MAXN") == []
    assert find_doubts(board(), None) == ["power mode not verified"]
    assert find_doubts(board(locked=False), "MAXN") == ["clocks not locked (GPU, CPU)"]
    assert find_doubts(read_board(tmp_path), None) == ["a machine without power modes", "clocks unknown"]
