"""Meters of a machine's power or energy: INA3221 on a Jetson, NVML for a GPU, RAPL for a CPU."""

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Protocol, Tuple

from irvis.benchmarks.machine.nvml import NvmlGpu
from irvis.benchmarks.machine.system_files import NumberFile, open_number, read_number, read_text

# Rails that already include the others, on modules other than the AGX Xavier, whose input is the sum of its rails.
INPUT_RAILS = ("VDD_IN", "POM_5V_IN")
HWMON_CHANNELS = (1, 2, 3)  # the chip has three; number 7 of the driver is a sum of shunt voltages
# The chip gives a running average, whose time constant is the driver's update_interval: JetPack 5's nvpower.sh sets 512
# samples and 430 ms. After three of them 5 % of an earlier load is left.
SETTLED = 3
RAPL = "sys/class/powercap"


class Meter(Protocol):
    """Reads the rails of a machine."""

    name: str
    is_counter: bool  # energy in joules since some time, rather than power in watts
    wraps_at_j: Dict[str, float]  # where a rail's counter restarts at 0
    settles_s: float  # how long a reading still shows an earlier load

    def read(self) -> Dict[str, float]:
        """Return watts or joules by rail. Raises OSError or ValueError where that fails."""


class Channel(NamedTuple):
    """Files whose numbers, multiplied by each other and by ``scale``, are watts."""

    files: Tuple[NumberFile, ...]
    scale: float


class Ina3221:
    """The power monitors of a Jetson."""

    is_counter = False

    def __init__(self, channels: Dict[str, Channel], settles_s: float = 0.0) -> None:
        self._channels = channels
        self.settles_s = settles_s
        self.name = f"INA3221 ({', '.join(channels)})"
        self.wraps_at_j: Dict[str, float] = {}

    def read(self) -> Dict[str, float]:
        """Return watts by rail."""
        watts = {}
        for name, channel in self._channels.items():
            value = channel.scale
            for file in channel.files:
                value *= file()
            watts[name] = value
        return watts


class Nvml:
    """The energy counter of a discrete GPU: its board, without the machine around it."""

    is_counter = True
    settles_s = 0.0

    def __init__(self, gpu: NvmlGpu) -> None:
        self._gpu = gpu
        self.name = f"NVML ({gpu.name} alone)"
        self.wraps_at_j: Dict[str, float] = {}

    def read(self) -> Dict[str, float]:
        """Return joules."""
        return {"GPU": self._gpu.energy_j()}


class Rapl:
    """The energy counters of an x86 processor: its packages and their memory, without the machine around them."""

    is_counter = True
    settles_s = 0.0

    def __init__(self, counters: Dict[str, NumberFile], wraps_at_j: Dict[str, float]) -> None:
        self._counters = counters
        self.name = f"RAPL ({', '.join(counters)})"
        self.wraps_at_j = wraps_at_j

    def read(self) -> Dict[str, float]:
        """Return joules by zone."""
        return {name: counter() / 1e6 for name, counter in self._counters.items()}


def find_meter(root: Path = Path("/"), gpu: Optional[NvmlGpu] = None) -> Tuple[Optional[Meter], str]:
    """Return what measures this machine's energy: its rails, else the GPU that the model runs on, else the processor.

    Args:
        root: the folder whose ``sys`` is read.
        gpu: the discrete GPU that the model runs on; None: it runs on none, or NVML cannot read it.

    Returns:
        the meter and "", or None and the reason.
    """
    channels = {**_hwmon_channels(root), **_iio_channels(root)}
    total = next((name for name in INPUT_RAILS if name in channels), None)
    if channels:
        return Ina3221({total: channels[total]} if total else channels, _settles_s(root)), ""
    if gpu is not None:
        return Nvml(gpu), ""
    zones = _rapl_zones(root)
    counters = {name: open_number(zone / "energy_uj") for name, zone in zones.items()}
    readable = {name: counter for name, counter in counters.items() if counter is not None}
    if zones and len(readable) == len(zones):
        wraps_at_uj = {name: read_number(zone / "max_energy_range_uj") or 0 for name, zone in zones.items()}
        return Rapl(readable, {name: value / 1e6 for name, value in wraps_at_uj.items()}), ""
    if zones:
        return None, "only root may read this machine's RAPL counters"
    return None, "no INA3221, no RAPL, and no single GPU that NVML knows and the model runs on"


def _hwmon_channels(root: Path) -> Dict[str, Channel]:
    """JetPack 5: millivolts and milliamperes."""
    channels = {}
    for folder in _hwmon_chips(root):
        for number in HWMON_CHANNELS:
            name = read_text(folder / f"in{number}_label")
            volts, amperes = open_number(folder / f"in{number}_input"), open_number(folder / f"curr{number}_input")
            if name and name != "NC" and volts and amperes:
                channels[name] = Channel((volts, amperes), 1e-6)
    return channels


def _hwmon_chips(root: Path) -> List[Path]:
    folders = sorted((root / "sys/bus/i2c/devices").glob("*/hwmon/hwmon*"))
    return [folder for folder in folders if "ina3221" in (read_text(folder / "name") or "")]


def _settles_s(root: Path) -> float:
    return SETTLED * max((read_number(chip / "update_interval") or 0 for chip in _hwmon_chips(root)), default=0) / 1e3


def _iio_channels(root: Path) -> Dict[str, Channel]:
    """JetPack 4: milliwatts."""
    channels = {}
    folders: List[Path] = sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*"))
    for folder in folders:
        for label in sorted(folder.glob("rail_name_*")):
            name, watts = read_text(label), open_number(folder / f"in_power{label.name[len('rail_name_') :]}_input")
            if name and name != "NC" and watts:
                channels[name] = Channel((watts,), 1e-3)
    return channels


def _rapl_zones(root: Path) -> Dict[str, Path]:
    """Return the zones of packages and of memory; a core's is part of its package's, and psys includes them all."""
    zones: Dict[str, Path] = {}
    for zone in sorted((root / RAPL).glob("intel-rapl:*")):
        name = read_text(zone / "name") or ""
        if name.startswith("package") or name == "dram":
            zones[name if name not in zones else f"{name} {zone.name}"] = zone
    return zones
