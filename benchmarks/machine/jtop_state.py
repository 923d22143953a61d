"""What jetson-stats tells of a Jetson, where its service runs: it also reads what a container or a user cannot."""

import importlib
from typing import Any, NamedTuple, Optional


class JtopState(NamedTuple):
    """What is taken of jtop, field by field: its ``board`` holds serial numbers too. None: not told."""

    mode_name: Optional[str] = None
    mode_id: Optional[int] = None
    jetson_clocks: Optional[bool] = None  # whether every clock stands at its maximum
    module: Optional[str] = None
    l4t: Optional[str] = None
    jetpack: Optional[str] = None


def read_jtop() -> Optional[JtopState]:
    """Ask the service of jetson-stats; None where it is not installed or not running.

    jetson-stats is under the AGPL: it is used where a user has installed it, and never needed.
    """
    try:
        jtop = importlib.import_module("jtop").jtop
        with jtop() as jetson:
            return state_of(jetson) if jetson.ok() else None
    except Exception:  # its own, those of sockets and of pickle, by version: it is optional, whatever goes wrong
        return None


def state_of(jetson: Any) -> JtopState:
    """Take the state out of an open ``jtop.jtop``, versions 4.2 to 7."""
    hardware = jetson.board.get("hardware", {})
    mode, clocks = jetson.nvpmodel, jetson.jetson_clocks
    return JtopState(
        mode_name=mode.name if mode is not None else None,
        mode_id=mode.id if mode is not None else None,
        jetson_clocks=bool(clocks) if clocks is not None else None,
        module=hardware.get("Module") or None,
        l4t=hardware.get("L4T") or None,
        jetpack=hardware.get("Jetpack") or None,
    )
