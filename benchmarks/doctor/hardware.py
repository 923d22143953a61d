"""The machine: its power mode, clocks, temperature, memory, disk and cameras."""

import os
import re
import subprocess
from pathlib import Path
from typing import Callable, List

from irvis.benchmarks.doctor.item import ABSENT, FAILURE, OK, WARNING, Item
from irvis.benchmarks.doctor.surroundings import Surroundings
from irvis.benchmarks.machine.board import Board
from irvis.benchmarks.machine.conditions import Lookout
from irvis.benchmarks.machine.requirements import require_locked_clocks, require_mode
from irvis.benchmarks.machine.system_files import read_text
from irvis.runtime.errors import IrvisError

MIB, GIB = 1 << 20, 1 << 30
LITTLE_MEMORY, LEAST_MEMORY = 4 * GIB, GIB // 2  # for TensorRT's builder; for one Fuser
LITTLE_DISK = 2 * GIB
DESKTOP = "sudo systemctl isolate multi-user.target, which ends the desktop"
ARGUS = "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so"


def check_power_mode(place: Surroundings, board: Board) -> Item:
    """The power mode: the AGX Xavier is at its fastest in MAXN."""
    if not board.is_jetson:
        return Item("power mode", ABSENT, "no Jetson")
    if not board.is_agx_xavier and board.mode_name is not None:
        return Item("power mode", OK, f"{board.mode}; `nvpmodel -p --verbose` shows which is its fastest")
    return _requirement("power mode", board.mode, lambda: require_mode(board, "MAXN"))


def check_clocks(place: Surroundings, board: Board) -> Item:
    """The clocks: unlocked ones save power, but rise some frames after they are needed."""
    if not board.is_jetson:
        return Item("clocks", ABSENT, "no Jetson")
    fastest = f", GPU at {board.gpu_clock.current_hz / 1e6:.0f} MHz" if board.gpu_clock is not None else ""
    memory = ", only root can read the memory's" if board.emc_clock is None else ""
    return _requirement("clocks", f"locked{fastest}{memory}", lambda: require_locked_clocks(board))


def check_temperature(place: Surroundings, board: Board) -> Item:
    """Temperatures, and whether they slow the machine down now."""
    look = Lookout(place.root).look()
    if look.throttling:
        slowed = "; ".join(f"{name} {how}" for name, how in look.throttling.items())
        mend = "sudo jetson_clocks --fan" if board.is_jetson else "cool the machine"
        return Item("temperature", WARNING, f"slowed down: {slowed}", mend)
    if not look.temperatures_c:
        return Item("temperature", ABSENT, "no thermal zone")
    hottest = max(look.temperatures_c, key=lambda name: look.temperatures_c[name])
    found = f"{look.temperatures_c[hottest]:.0f} °C at the hottest, {hottest}"
    cuts = sum(count for name, count in look.events.items() if name.startswith("oc"))
    if cuts:
        found = f"{found}; the power supply could not keep up {cuts} times since boot"
        return Item("temperature", WARNING, found, "a stronger power supply")
    return Item("temperature", OK, found)


def check_memory(place: Surroundings, board: Board) -> Item:
    """Free memory, and swap."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", read_text(place.root / "proc/meminfo") or "", re.MULTILINE))
    if "MemAvailable" not in sizes:
        return Item("memory", ABSENT, "cannot be read here")
    available, total, swap = (int(sizes.get(name, 0)) << 10 for name in ("MemAvailable", "MemTotal", "SwapTotal"))
    kind = "zram" if "zram" in (read_text(place.root / "proc/swaps") or "") else "swap"
    found = f"{available / GIB:.1f} of {total / GIB:.1f} GiB free, {swap / GIB:.1f} GiB of {kind}"
    if available < LEAST_MEMORY:
        return Item("memory", FAILURE, found, DESKTOP)
    if available < LITTLE_MEMORY and board.is_jetson:
        found = f"{found}: little for building an engine"
        return Item("memory", WARNING, found, DESKTOP)
    return Item("memory", OK, found)


def check_disk(place: Surroundings, board: Board) -> Item:
    """Free disk space where engines and caches are written."""
    try:
        free = re.search(r"\s(\d+)\s+\d+%\s", place.run(["df", "-Pk", os.path.expanduser("~")]))
    except (OSError, subprocess.SubprocessError):
        free = None
    if free is None:
        return Item("disk", ABSENT, "df does not report it")
    free_bytes = int(free.group(1)) << 10
    found = f"{free_bytes / GIB:.1f} GiB free in the home folder"
    if free_bytes < LITTLE_DISK:
        return Item("disk", WARNING, found, "sudo apt clean; pip cache purge")
    return Item("disk", OK, found)


def check_cameras(place: Surroundings, board: Board) -> Item:
    """V4L2 cameras, USB and CSI, and whether this user may open them."""
    found: List[str] = []
    outside: List[str] = []
    closed: List[str] = []
    for folder in sorted((place.root / "sys/class/video4linux").glob("video*"), key=_number_of):
        device = place.root / "dev" / folder.name
        found.append(f"/dev/{folder.name} {read_text(folder / 'name') or 'unnamed'}")
        if not device.exists():
            outside.append(folder.name)
        elif not os.access(device, os.R_OK | os.W_OK):
            closed.append(folder.name)
    text = ", ".join(found)
    if not found:
        return Item("cameras", ABSENT, "no /dev/video*", "plug one in; `v4l2-ctl --list-devices` lists what is there")
    if closed:
        mend = "sudo usermod -aG video $USER, then log in again"
        return Item("cameras", FAILURE, f"{text}; this user may not open {', '.join(closed)}", mend)
    if outside:
        state = FAILURE if len(outside) == len(found) else WARNING
        return Item("cameras", state, f"{text}; no /dev/{', /dev/'.join(outside)} in here", "docker run --device ...")
    return Item("cameras", OK, text)


def check_argus(place: Surroundings, board: Board) -> Item:
    """What csi:// needs on a Jetson: NVIDIA's daemon, and GStreamer's element."""
    if not board.is_jetson:
        return Item("CSI", ABSENT, "no Jetson")
    if not (place.root / ARGUS).exists():
        return Item("CSI", WARNING, "no nvarguscamerasrc for GStreamer", "sudo apt install nvidia-l4t-gstreamer")
    try:
        state = place.run(["systemctl", "is-active", "nvargus-daemon"]).strip()
    except (OSError, subprocess.SubprocessError):
        state = ""
    if state == "active" or (place.root / "tmp/argus_socket").exists():  # in a container there is only the socket
        return Item("CSI", OK, "nvarguscamerasrc, and its daemon runs")
    return Item("CSI", WARNING, "nvargus-daemon does not run", "sudo systemctl restart nvargus-daemon")


CHECKS = (
    check_power_mode,
    check_clocks,
    check_temperature,
    check_memory,
    check_disk,
    check_cameras,
    check_argus,
)


def _requirement(name: str, found: str, require: Callable[[], None]) -> Item:
    """Turn a refusal of bench.py, which says how to fix it, into a warning."""
    try:
        require()
    except IrvisError as error:
        what, _, mend = str(error).partition("; ")
        return Item(name, WARNING, what, re.sub(r"^run `([^`]+)`,?", r"\1,", mend).rstrip(","))
    return Item(name, OK, found)


def _number_of(folder: Path) -> int:
    return int(re.sub(r"\D", "", folder.name) or 0)
