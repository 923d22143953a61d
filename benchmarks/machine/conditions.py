"""What may change during a run and affect its figures: temperatures, throttling, clocks."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from irvis.benchmarks.machine.clocks import xavier_gpu
from irvis.benchmarks.machine.nvml import NvmlGpu
from irvis.benchmarks.machine.system_files import NumberFile, open_number, read_number, read_text

THERMAL, CORES = "sys/class/thermal", "sys/devices/system/cpu"
NOT_MEASURED = ("PMIC",)  # zones with a constant reading: 100 °C on a Jetson
# Cooling devices that slow nothing down; a Jetson's hot-surface-alert, at 70 °C, warns of touching it.
NOT_THROTTLING = ("fan", "lcd", "surface")


@dataclass(frozen=True)
class Conditions:
    """One look at the machine. Empty or None: unknown."""

    temperatures_c: Dict[str, float] = field(default_factory=dict)  # by thermal zone
    throttling: Dict[str, str] = field(default_factory=dict)  # what slows it down now, and by how much, in words
    events: Dict[str, int] = field(default_factory=dict)  # throttling counters since boot
    gpu_hz: Optional[int] = None
    cpu_hz: Optional[int] = None  # of the fastest core


class Zone(NamedTuple):
    """A thermal zone."""

    millidegrees: NumberFile
    trip: Optional[int]  # millidegrees from which the kernel slows the machine down


class Cooling(NamedTuple):
    """A way to slow the machine down."""

    state: NumberFile  # 0: it is not in use
    most: Optional[int]


class Lookout:
    """Looks at the machine, and at its discrete GPU. The files are found and opened once, so that a look costs little.

    Args:
        root: the folder whose ``sys`` is read.
        gpu: the discrete GPU that the model runs on; None: it runs on none, or NVML cannot read it.
    """

    def __init__(self, root: Path = Path("/"), gpu: Optional[NvmlGpu] = None) -> None:
        self._gpu = gpu
        self._zones = _find_zones(root)
        self._coolings = _find_coolings(root)
        self._events = _find_events(root)
        self._gpu_clock = open_number(xavier_gpu(root) / "cur_freq")
        files = (root / CORES).glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        self._cpu_clocks = [file for file in map(open_number, files) if file is not None]

    def look(self) -> Conditions:
        """Look now. What cannot be read at the moment, such as an offline core, is left out."""
        temperatures_c: Dict[str, float] = {}
        throttling: Dict[str, str] = {}
        for name, zone in self._zones.items():
            value = _try(zone.millidegrees)
            if value is not None:
                temperatures_c[name] = value / 1e3
                if zone.trip is not None and value >= zone.trip:
                    throttling[name] = f"at {value / 1e3:.0f} °C, its trip point is {zone.trip / 1e3:.0f}"
        for name, cooling in self._coolings.items():
            state = _try(cooling.state)
            if state is not None and state > 0:
                throttling[name] = f"in state {state} of {cooling.most}"
        events = {name: sum(_try(file) or 0 for file in files) for name, files in self._events.items()}
        gpu_hz = _try(self._gpu_clock) if self._gpu_clock is not None else None
        cpus_khz = [value for value in map(_try, self._cpu_clocks) if value is not None]
        if self._gpu is not None:
            temperatures_c[self._gpu.name] = self._gpu.temperature_c()
            throttling.update(dict.fromkeys(self._gpu.throttling(), self._gpu.name))
            gpu_hz = self._gpu.clock_hz()
        return Conditions(temperatures_c, throttling, events, gpu_hz, 1000 * max(cpus_khz) if cpus_khz else None)


def _find_zones(root: Path) -> Dict[str, Zone]:
    zones: Dict[str, Zone] = {}
    for folder in sorted((root / THERMAL).glob("thermal_zone*"), key=_number_of):
        name, millidegrees = read_text(folder / "type") or folder.name, open_number(folder / "temp")
        if millidegrees is None or name.startswith(NOT_MEASURED):
            continue
        passive = [
            file for file in folder.glob("trip_point_*_type") if read_text(file) == "passive" and _slows_down(file)
        ]
        trips = [read_number(file.with_name(file.name.replace("_type", "_temp"))) for file in passive]
        name = name if name not in zones else f"{name} {_number_of(folder)}"
        zones[name] = Zone(millidegrees, min((trip for trip in trips if trip is not None and trip > 0), default=None))
    return zones


def _slows_down(trip_type: Path) -> bool:
    """Return whether a trip point is bound to a cooling device that slows the machine down; True if bound to none."""
    zone, number = trip_type.parent, str(_number_of(trip_type))
    bindings = [file for file in zone.glob("cdev*_trip_point") if read_text(file) == number]
    names = [read_text(zone / file.name.split("_")[0] / "type") or "" for file in bindings]
    return not names or any(map(_is_throttling, names))


def _is_throttling(cooling_device: str) -> bool:
    return not any(word in cooling_device.lower() for word in NOT_THROTTLING)


def _find_coolings(root: Path) -> Dict[str, Cooling]:
    coolings: Dict[str, Cooling] = {}
    for folder in sorted((root / THERMAL).glob("cooling_device*"), key=_number_of):
        name, state = read_text(folder / "type") or folder.name, open_number(folder / "cur_state")
        if state is not None and _is_throttling(name):
            name = name if name not in coolings else f"{name} {_number_of(folder)}"
            coolings[name] = Cooling(state, read_number(folder / "max_state"))
    return coolings


def _find_events(root: Path) -> Dict[str, List[NumberFile]]:
    """Find the counters of throttling: over-current and under-voltage of a Jetson, thermal of an x86, core by core."""
    paths = sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
    paths += sorted((root / CORES).glob("cpu*/thermal_throttle/*_throttle_count"))
    events: Dict[str, List[NumberFile]] = {}
    for path in paths:
        file = open_number(path)
        if file is not None:
            events.setdefault(path.name, []).append(file)
    return events


def _try(file: NumberFile) -> Optional[int]:
    try:
        return file()
    except (OSError, ValueError):
        return None


def _number_of(path: Path) -> int:
    return int(re.sub(r"\D", "", path.name) or 0)
