"""What machine this is, and in which power mode: a latency without them means nothing.

Reads plain files and ``nvpmodel -q``, needs no root, and never looks at a serial number.
"""

import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence, Tuple

from irvis.runtime.errors import IrvisError

# Power modes of the Jetson AGX Xavier; the ids mean other things on other modules.
AGX_XAVIER_MODES = {
    0: "MAXN",
    1: "MODE_10W",
    2: "MODE_15W",
    3: "MODE_30W_ALL",
    4: "MODE_30W_6CORE",
    5: "MODE_30W_4CORE",
    6: "MODE_30W_2CORE",
    7: "MODE_15W_DESKTOP",
}
# What the device tree calls the AGX Xavier: L4T 32.1, and every later one.
AGX_XAVIER_MODELS = ("jetson-xavier", "jetson-agx")
GPU_FOLDER = "sys/devices/17000000.gv11b/devfreq/17000000.gv11b"
COMMAND_TIMEOUT_S = 5.0

Runner = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class GpuClock:
    """The GPU's clock and the range it may move in, in Hz."""

    current_hz: int
    minimum_hz: int
    maximum_hz: int

    @property
    def locked(self) -> bool:
        """True when it cannot move, which is what ``jetson_clocks`` brings about."""
        return self.minimum_hz == self.current_hz == self.maximum_hz


@dataclass(frozen=True)
class Board:
    """A machine and its state. None: cannot be told here."""

    host: str
    cpu: str
    architecture: str
    os: str
    python: str
    is_jetson: bool
    module: Optional[str] = None  # as the device tree names it
    l4t: Optional[str] = None  # such as "35.4.1"
    mode_name: Optional[str] = None
    mode_id: Optional[int] = None
    gpu_clock: Optional[GpuClock] = None
    clocks_locked: Optional[bool] = None  # of the GPU

    @property
    def mode(self) -> str:
        """The power mode for people, such as ``MAXN (id 0)``."""
        if self.mode_name is None:
            return "unknown" if self.mode_id is None else f"id {self.mode_id}, of a name unknown here"
        return self.mode_name if self.mode_id is None else f"{self.mode_name} (id {self.mode_id})"

    @property
    def is_agx_xavier(self) -> bool:
        """True for the board of the paper; not for the Xavier NX, nor the Industrial, whose clocks are lower."""
        return self.is_jetson and _is_agx_xavier(self.module)


def read_board(root: Path = Path("/"), run: Optional[Runner] = None) -> Board:
    """Tell what machine this is.

    Args:
        root: the folder whose ``proc``, ``sys``, ``etc`` and ``var`` are read.
        run: runs a command and gives its stdout, or raises OSError or subprocess.SubprocessError; None is
            ``run_command``, on this machine.
    """
    # /sys/firmware, where /proc/device-tree points, is hidden in a container; soc0 is not.
    model = _text(root / "proc/device-tree/model") or _text(root / "sys/devices/soc0/machine")
    release = _text(root / "etc/nv_tegra_release")
    is_jetson = "jetson" in (model or "").lower() or release is not None or (root / GPU_FOLDER).is_dir()
    mode_name, mode_id = _read_mode(root, run or run_command, model) if is_jetson else (None, None)
    clock = _read_gpu_clock(root / GPU_FOLDER) if is_jetson else None
    return Board(
        host=_text(root / "proc/sys/kernel/hostname") or "unnamed host",
        cpu=_read_cpu(root),
        architecture=platform.machine(),
        os=_read_os(root),
        python=platform.python_version(),
        is_jetson=is_jetson,
        module=model if is_jetson else None,
        l4t=_parse_l4t(release or ""),
        mode_name=mode_name,
        mode_id=mode_id,
        gpu_clock=clock,
        clocks_locked=clock.locked if clock else None,
    )


def require_mode(board: Board, mode: str) -> None:
    """Raise IrvisError, saying what to run, unless ``board`` is a Jetson known to be in the power mode ``mode``."""
    if not board.is_jetson:
        raise IrvisError(
            f"--mode {mode} needs a Jetson. Found {board.host} ({board.cpu}, {board.os}); "
            "drop --mode to measure this machine under its own name"
        )
    if board.mode_name is None:
        raise IrvisError(
            f"cannot verify that this {board.module or 'Jetson'} is in {mode}: its power mode is {board.mode}; run "
            "`nvpmodel -q` and see that it prints one (in a container, mount the host's /var/lib/nvpmodel)"
        )
    if board.mode_name != mode:
        raise IrvisError(f"power mode is {board.mode}, not {mode}; {_how_to_set(board, mode)}")


def run_command(command: Sequence[str]) -> str:
    """Run a command for at most five seconds and give its stdout, whatever its exit code.

    Raises OSError where it cannot be started, subprocess.TimeoutExpired where it does not end in time.
    """
    result = subprocess.run(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    return result.stdout.decode(errors="replace")


def _read_mode(root: Path, run: Runner, model: Optional[str]) -> Tuple[Optional[str], Optional[int]]:
    """Give (name, id) of the power mode: from ``nvpmodel -q``, else from the file it keeps."""
    try:
        name, number = _parse_nvpmodel(run(["nvpmodel", "-q"]))
    except (OSError, subprocess.SubprocessError):
        name, number = None, None
    if name is not None:
        return name, number
    status = re.search(r"^pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "", re.MULTILINE)
    if status is None:
        return None, None
    number = int(status.group(1))
    return _mode_names(root, model).get(number), number


def _parse_nvpmodel(output: str) -> Tuple[Optional[str], Optional[int]]:
    """Give (name, id) out of ``nvpmodel -q``: warnings, then ``NV Power Mode: MAXN`` and the id on the next line."""
    match = re.search(r"NV Power Mode:[ \t]*(\S+)[ \t]*\r?(?:\n[ \t]*(\d+)[ \t]*\r?$)?", output, re.MULTILINE)
    if match is None:
        return None, None
    return match.group(1), int(match.group(2)) if match.group(2) else None


def _mode_names(root: Path, model: Optional[str]) -> Dict[int, str]:
    """Give the board's modes: as its own configuration names them, else those of the AGX Xavier if it is one."""
    configured = re.findall(
        r"^[ \t]*<[ \t]*POWER_MODEL[ \t]+ID=(\d+)[ \t]+NAME=([^\s>]+)",
        _text(root / "etc/nvpmodel.conf") or "",
        re.MULTILINE,
    )
    if configured:
        return {int(number): name for number, name in configured}
    return AGX_XAVIER_MODES if _is_agx_xavier(model) else {}


def _how_to_set(board: Board, mode: str) -> str:
    if not board.is_agx_xavier:
        return f"run `sudo nvpmodel -m ID` with the ID that /etc/nvpmodel.conf gives to {mode}"
    for number, name in AGX_XAVIER_MODES.items():
        if name == mode:
            reboot = ", which asks for a reboot" if "MODE_10W" in (mode, board.mode_name) else ""
            return f"run `sudo nvpmodel -m {number}`{reboot}"
    return f"the AGX Xavier's modes are {', '.join(AGX_XAVIER_MODES.values())}"


def _is_agx_xavier(model: Optional[str]) -> bool:
    name = (model or "").lower()
    return name in AGX_XAVIER_MODELS or ("agx xavier" in name and "industrial" not in name)


def _parse_l4t(release: str) -> Optional[str]:
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"{match.group(1)}.{match.group(2)}" if match else None


def _read_gpu_clock(folder: Path) -> Optional[GpuClock]:
    texts = [_text(folder / f"{name}_freq") for name in ("cur", "min", "max")]
    if any(text is None or not text.isdigit() for text in texts):
        return None
    current, minimum, maximum = (int(text) for text in texts if text)
    return GpuClock(current, minimum, maximum)


def _read_cpu(root: Path) -> str:
    match = re.search(r"^model name\s*:\s*(\S.*)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return match.group(1).strip() if match else f"{platform.machine()} CPU"


def _read_os(root: Path) -> str:
    match = re.search(r"^PRETTY_NAME=(.+)$", _text(root / "etc/os-release") or "", re.MULTILINE)
    return match.group(1).strip("\"'") if match else platform.system()


def _text(path: Path) -> Optional[str]:
    """Give the content of a small system file without the NUL that ends a device tree's strings; None: unreadable."""
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ").strip() or None
    except OSError:
        return None
