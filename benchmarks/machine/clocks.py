"""The clocks of a machine: how fast they run, and whether they are locked, as by ``jetson_clocks``."""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from irvis.benchmarks.machine.system_files import read_number, read_text

# The class lists the GPU on every kernel. The device itself is under devices/platform on JetPack 5 (R35.3.1, by jtop's
# log: https://github.com/rbonghi/jetson_stats/issues/414), and under devices on JetPack 4.
XAVIER_GPU = ("sys/class/devfreq/17000000.gv11b", "sys/devices/17000000.gv11b/devfreq/17000000.gv11b")
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"  # debugfs: only for root


@dataclass(frozen=True)
class GpuClock:
    """The GPU's clock and the range it may move in, in Hz."""

    current_hz: int
    minimum_hz: int
    maximum_hz: int

    @property
    def locked(self) -> bool:
        """True if it cannot move, as after ``jetson_clocks``."""
        return self.minimum_hz == self.current_hz == self.maximum_hz


@dataclass(frozen=True)
class EmcClock:
    """The memory's clock, in Hz, and whether it is locked."""

    current_hz: int
    locked: bool


@dataclass(frozen=True)
class CpuClock:
    """The clocks of the online cores, in Hz: the fastest now, and the range that covers all of theirs."""

    cores: int
    current_hz: int
    minimum_hz: int
    maximum_hz: int

    @property
    def locked(self) -> bool:
        """True if none can move. The current clock is ignored: a Xavier measures it, never exactly as it was set."""
        return self.minimum_hz == self.maximum_hz


def xavier_gpu(root: Path) -> Path:
    """Return the folder of the clock of a Xavier's GPU; there may be none."""
    folders = [root / folder for folder in XAVIER_GPU]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def read_gpu_clock(root: Path) -> Optional[GpuClock]:
    """Read the clock of a Jetson's GPU."""
    current, minimum, maximum = (read_number(xavier_gpu(root) / f"{name}_freq") for name in ("cur", "min", "max"))
    return None if current is None or minimum is None or maximum is None else GpuClock(current, minimum, maximum)


def read_emc_clock(root: Path) -> Optional[EmcClock]:
    """Read the clock of a Jetson's memory, which only root can."""
    current, locked = read_number(root / EMC / "rate"), read_number(root / EMC / "mrq_rate_locked")
    return None if current is None or locked is None else EmcClock(current, locked != 0)


def read_cpu_clock(root: Path) -> Optional[CpuClock]:
    """Read the clocks of the online cores, from cpufreq."""
    ranges: List[List[int]] = []
    for core in (root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
        if read_text(core / "online") == "0":  # core 0 may have no such file: it cannot be switched off
            continue
        values = [read_number(core / f"cpufreq/scaling_{name}_freq") for name in ("cur", "min", "max")]
        if all(value is not None for value in values):
            ranges.append([1000 * value for value in values if value is not None])
    if not ranges:
        return None
    current, minimum, maximum = zip(*ranges)
    return CpuClock(len(ranges), max(current), min(minimum), max(maximum))
