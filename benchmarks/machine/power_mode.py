"""The power mode of a Jetson, which nvpmodel sets: the current one, and the names of the ids."""

import re
import subprocess
from pathlib import Path
from typing import Dict, NamedTuple, Optional

from irvis.benchmarks.machine.jtop_state import JtopState
from irvis.benchmarks.machine.system_files import Runner, read_text

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
NEEDS_REBOOT = "MODE_10W"  # it gates half of the GPU, which is done only at boot


class PowerMode(NamedTuple):
    """A power mode by name and id, and where they were read. None: unknown."""

    name: Optional[str] = None
    id: Optional[int] = None
    source: Optional[str] = None


def read_mode(root: Path, run: Runner, model: Optional[str], jtop: Optional[JtopState]) -> PowerMode:
    """Return the power mode: from jtop, else from ``nvpmodel -q``, else from the file that nvpmodel keeps."""
    if jtop is not None and jtop.mode_name is not None:
        return PowerMode(jtop.mode_name, jtop.mode_id, "jtop")
    try:
        mode = parse_nvpmodel(run(["nvpmodel", "-q"]))
    except (OSError, subprocess.SubprocessError):
        mode = PowerMode()
    if mode.name is not None:
        return mode
    status = re.search(r"^pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "", re.MULTILINE)
    if status is None:
        return PowerMode()
    number = int(status.group(1))
    return PowerMode(mode_names(root, model).get(number), number, "/var/lib/nvpmodel/status")


def parse_nvpmodel(output: str) -> PowerMode:
    """Read ``nvpmodel -q``: warnings, then ``NV Power Mode: MAXN`` and the id on the next line."""
    match = re.search(r"NV Power Mode:[ \t]*(\S+)[ \t]*\r?(?:\n[ \t]*(\d+)[ \t]*\r?$)?", output, re.MULTILINE)
    if match is None:
        return PowerMode()
    return PowerMode(match.group(1), int(match.group(2)) if match.group(2) else None, "nvpmodel -q")


def mode_names(root: Path, model: Optional[str]) -> Dict[int, str]:
    """Return the board's modes by id: from its own configuration, else those of the AGX Xavier if it is one."""
    configured = re.findall(
        r"^[ \t]*<[ \t]*POWER_MODEL[ \t]+ID=(\d+)[ \t]+NAME=([^\s>]+)",
        read_text(root / "etc/nvpmodel.conf") or "",
        re.MULTILINE,
    )
    if configured:
        return {int(number): name for number, name in configured}
    return AGX_XAVIER_MODES if is_agx_xavier(model) else {}


def is_agx_xavier(model: Optional[str]) -> bool:
    """Return whether the device tree names the AGX Xavier, not the Industrial, whose clocks are lower."""
    name = (model or "").lower()
    return name in AGX_XAVIER_MODELS or ("agx xavier" in name and "industrial" not in name)
