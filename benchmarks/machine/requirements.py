"""What a run may require of its machine before it is measured, and the watermark of its report otherwise."""

import os
import subprocess
from typing import Callable, List, Optional, Sequence

from irvis.benchmarks.machine.board import Board
from irvis.benchmarks.machine.power_mode import AGX_XAVIER_MODES, NEEDS_REBOOT
from irvis.runtime.errors import IrvisError

CLOCKS_COMMAND = "sudo jetson_clocks"


def require_mode(board: Board, mode: str) -> None:
    """Raise IrvisError, saying what to run, unless ``board`` is a Jetson known to be in ``mode``, a name or an id."""
    if not board.is_jetson:
        raise IrvisError(
            f"--mode {mode} needs a Jetson. Found {board.host} ({board.cpu}, {board.os}); "
            "drop --mode to measure this machine under its own name"
        )
    if (board.mode_id if _is_id(mode) else board.mode_name) is None:
        raise IrvisError(
            f"cannot verify that this {board.module or 'Jetson'} is in {mode}: its power mode is {board.mode}; run "
            "`nvpmodel -q` and check that it prints one (in a container, mount the host's /var/lib/nvpmodel)"
        )
    if not is_in_mode(board, mode):
        raise IrvisError(f"power mode is {board.mode}, not {mode}; {_how_to_set(board, mode)}")


def is_in_mode(board: Board, mode: str) -> bool:
    """Return whether the power mode is the one of that name or id."""
    return board.mode_id == int(mode) if _is_id(mode) else board.mode_name == mode


def set_mode(
    board: Board, mode: str, confirm: Callable[[str], bool], call: Optional[Callable[[Sequence[str]], int]] = None
) -> None:
    """Set the power mode of an AGX Xavier with nvpmodel; the caller has to read the result back.

    Args:
        board: as it is now; nothing is done if it is already in ``mode``.
        mode: a name or an id.
        confirm: asks the user. Called before a change that needs a reboot; nothing here reboots, but nvpmodel asks
            again, and reboots if the answer is YES.
        call: runs a command on this terminal and returns its exit code; None: ``subprocess.call``.

    Raises IrvisError if it cannot be set, or if ``confirm`` returns False.
    """
    if board.is_jetson and is_in_mode(board, mode):
        return
    number = _mode_id(mode)
    if not board.is_agx_xavier or number is None:
        require_mode(board, mode)  # raises, with what is wrong and what to run
    if os.geteuid() != 0:
        raise IrvisError(f"setting a power mode needs root; run `sudo nvpmodel -m {number}`, or bench.py with sudo")
    if _needs_reboot(board, number) and not confirm(
        f"To or from {NEEDS_REBOOT} the board must reboot. Go on? nvpmodel asks again before it reboots."
    ):
        raise IrvisError(f"power mode left as it was: {board.mode}")
    try:
        code = (call or subprocess.call)(["nvpmodel", "-m", str(number)])
    except OSError as error:
        raise IrvisError(f"cannot run nvpmodel: {error.strerror}; in a container, set the mode on the host") from error
    if code != 0:
        raise IrvisError(f"`nvpmodel -m {number}` failed with exit code {code}; what it printed says why")


def require_locked_clocks(board: Board) -> None:
    """Raise IrvisError unless the clocks are locked. One that cannot be read (the EMC's without root) is ignored."""
    if board.clocks_locked:
        return
    if not board.is_jetson:
        raise IrvisError(
            "--require-locked-clocks is for a Jetson, or a CPU whose cpufreq range is one clock. "
            f"Found {board.host} ({board.cpu}); drop it, or set scaling_min_freq to scaling_max_freq"
        )
    found = f"free to move: {', '.join(board.free_clocks)}" if board.free_clocks else "not known to be locked"
    raise IrvisError(f"clocks are {found}; run `{CLOCKS_COMMAND}` after setting the power mode")


def find_doubts(board: Board, verified_mode: Optional[str]) -> List[str]:
    """Return what is not known or not locked in the machine's state: the watermark of a report. Empty: nothing."""
    doubts = []
    if not board.is_jetson:
        doubts.append("a machine without power modes")
    elif verified_mode is None:
        doubts.append("power mode not verified")
    if board.clocks_locked is None:
        doubts.append("clocks unknown")
    elif not board.clocks_locked:
        doubts.append(f"clocks not locked ({', '.join(board.free_clocks) or 'according to jtop'})")
    return doubts


def _is_id(mode: str) -> bool:
    return mode.isascii() and mode.isdecimal()


def _mode_id(mode: str) -> Optional[int]:
    if _is_id(mode):
        return int(mode) if int(mode) in AGX_XAVIER_MODES else None
    return next((number for number, name in AGX_XAVIER_MODES.items() if name == mode), None)


def _needs_reboot(board: Board, number: Optional[int]) -> bool:
    return NEEDS_REBOOT in (AGX_XAVIER_MODES.get(-1 if number is None else number), board.mode_name)


def _how_to_set(board: Board, mode: str) -> str:
    if not board.is_agx_xavier:
        return f"run `sudo nvpmodel -m ID` with the ID that /etc/nvpmodel.conf gives to {mode}"
    number = _mode_id(mode)
    if number is None:
        return f"the AGX Xavier's modes are {', '.join(AGX_XAVIER_MODES.values())}, ids 0 to 7"
    return f"run `sudo nvpmodel -m {number}`" + (", which asks for a reboot" if _needs_reboot(board, number) else "")
