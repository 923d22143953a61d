"""What jetson-stats reports about a Jetson, if its service runs: it also reads what a container or a user cannot."""

import importlib
from typing import Any, NamedTuple, Optional


class JtopState(NamedTuple):
    """The fields taken from jtop, one by one, since its ``board`` also holds serial numbers. None: not reported."""

    mode_name: Optional[str] = None
    mode_id: Optional[int] = None
    jetson_clocks: Optional[bool] = None  # whether every clock stands at its maximum
    module: Optional[str] = None
    l4t: Optional[str] = None
    jetpack: Optional[str] = None


def read_jtop() -> Optional[JtopState]:
    """Ask the service of jetson-stats; return None if it is not installed or not running.

    jetson-stats is under the AGPL: it is used if a user has installed it, and never needed.
    """
    try:
        jtop = importlib.import_module("jtop").jtop
        with jtop() as jetson:
            return state_of(jetson) if jetson.ok() else None
    except Exception:  # its own, sockets' and pickle's, by version: jtop is optional, whatever goes wrong
        return None


def state_of(jetson: Any) -> JtopState:
    """Return the state from an open ``jtop.jtop``, versions 4.2 to 7."""
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
