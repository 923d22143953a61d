"""The machine and its state: a latency without its power mode and clocks means nothing.

Reads plain files, ``nvpmodel -q`` and, if it runs, jtop; needs no root, and keeps no serial number.
"""

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from irvis.benchmarks.machine.clocks import (
    CpuClock,
    EmcClock,
    GpuClock,
    read_cpu_clock,
    read_emc_clock,
    read_gpu_clock,
    xavier_gpu,
)
from irvis.benchmarks.machine.jtop_state import JtopState, read_jtop
from irvis.benchmarks.machine.power_mode import is_agx_xavier, read_mode
from irvis.benchmarks.machine.software import JETPACK, read_cuda, read_gpu_name, read_l4t, read_tensorrt
from irvis.benchmarks.machine.system_files import Runner, read_text, run_command

SERIAL_FILES = ("proc/device-tree/serial-number", "sys/devices/soc0/serial_number")


@dataclass(frozen=True)
class Board:
    """A machine and its state. None: unknown."""

    host: str
    cpu: str
    architecture: str
    os: str
    python: str
    is_jetson: bool
    module: Optional[str] = None  # as the device tree names it
    gpu: Optional[str] = None  # a discrete NVIDIA GPU
    l4t: Optional[str] = None  # such as "35.4.1"
    jetpack: Optional[str] = None
    cuda: Optional[str] = None
    tensorrt: Optional[str] = None
    mode_name: Optional[str] = None
    mode_id: Optional[int] = None
    mode_source: Optional[str] = None
    gpu_clock: Optional[GpuClock] = None
    cpu_clock: Optional[CpuClock] = None
    emc_clock: Optional[EmcClock] = None
    # Whether all clocks that can be read are locked; on a Jetson they must include the GPU's, elsewhere the CPU's.
    clocks_locked: Optional[bool] = None

    @property
    def mode(self) -> str:
        """The power mode as text, such as ``MAXN (id 0)``."""
        if self.mode_name is None:
            return "unknown" if self.mode_id is None else f"id {self.mode_id}, name unknown"
        return self.mode_name if self.mode_id is None else f"{self.mode_name} (id {self.mode_id})"

    @property
    def is_agx_xavier(self) -> bool:
        """True for the paper's board; False for the Xavier NX and the Industrial, whose clocks are lower."""
        return self.is_jetson and is_agx_xavier(self.module)

    @property
    def free_clocks(self) -> List[str]:
        """Which of GPU, CPU and EMC are known to be unlocked."""
        clocks = {"GPU": self.gpu_clock, "CPU": self.cpu_clock, "EMC": self.emc_clock}
        return [name for name, clock in clocks.items() if clock is not None and not clock.locked]


def read_board(
    root: Path = Path("/"),
    run: Optional[Runner] = None,
    ask_jtop: Optional[Callable[[], Optional[JtopState]]] = None,
) -> Board:
    """Return this machine and its state.

    Args:
        root: the folder whose ``proc``, ``sys``, ``etc``, ``usr`` and ``var`` are read.
        run: runs a command and returns its stdout, or raises OSError or subprocess.SubprocessError; None:
            ``run_command``, on this machine.
        ask_jtop: returns what jtop reports, or None; None: ``read_jtop``, on this machine.
    """
    # /sys/firmware, where /proc/device-tree points, is hidden in a container; soc0 is not.
    model = read_text(root / "proc/device-tree/model") or read_text(root / "sys/devices/soc0/machine")
    l4t = read_l4t(root)
    has_release = read_text(root / "etc/nv_tegra_release") is not None
    is_jetson = "jetson" in (model or "").lower() or has_release or xavier_gpu(root).is_dir()
    found: Dict[str, Any] = {
        "host": read_text(root / "proc/sys/kernel/hostname") or "unnamed host",
        "cpu": _read_cpu(root),
        "architecture": platform.machine(),
        "os": _read_os(root),
        "python": platform.python_version(),
        "is_jetson": is_jetson,
        "cuda": read_cuda(root),
        "tensorrt": read_tensorrt(root),
        "cpu_clock": read_cpu_clock(root),
    }
    cpu = found["cpu_clock"]
    if is_jetson:
        found.update(_read_jetson(root, run or run_command, model, l4t, (ask_jtop or read_jtop)(), cpu))
    else:
        found.update(gpu=read_gpu_name(root), clocks_locked=cpu.locked if cpu else None)
    return Board(**_without_serials(root, found))


def _read_jetson(
    root: Path,
    run: Runner,
    model: Optional[str],
    l4t: Optional[str],
    jtop: Optional[JtopState],
    cpu: Optional[CpuClock],
) -> Dict[str, Any]:
    told = jtop or JtopState()
    model, l4t = model or told.module, l4t or told.l4t
    mode = read_mode(root, run, model, jtop)
    gpu, emc = read_gpu_clock(root), read_emc_clock(root)
    locked: Optional[bool] = None
    if told.jetson_clocks is False or any(clock is not None and not clock.locked for clock in (gpu, cpu, emc)):
        locked = False
    elif told.jetson_clocks or gpu is not None:
        locked = True
    return {
        "module": model,
        "l4t": l4t,
        "jetpack": JETPACK.get(l4t or "") or told.jetpack,
        "mode_name": mode.name,
        "mode_id": mode.id,
        "mode_source": mode.source,
        "gpu_clock": gpu,
        "emc_clock": emc,
        "clocks_locked": locked,
    }


def _without_serials(root: Path, found: Dict[str, Any]) -> Dict[str, Any]:
    """Redact the board's serial number wherever it occurs: some hosts are named after it."""
    serials = [serial for serial in (read_text(root / file) for file in SERIAL_FILES) if serial]
    for serial in serials:
        for key, value in found.items():
            found[key] = value.replace(serial, "SERIAL") if isinstance(value, str) else value
    return found


def _read_cpu(root: Path) -> str:
    match = re.search(r"^model name\s*:\s*(\S.*)$", read_text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return match.group(1).strip() if match else f"{platform.machine()} CPU"


def _read_os(root: Path) -> str:
    match = re.search(r"^PRETTY_NAME=(.+)$", read_text(root / "etc/os-release") or "", re.MULTILINE)
    return match.group(1).strip("\"'") if match else platform.system()
