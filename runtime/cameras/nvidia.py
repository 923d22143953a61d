"""NVIDIA's elements of GStreamer, as a Jetson has them."""

import contextlib
import ctypes
from pathlib import Path

ELEMENTS = Path("/usr/lib/aarch64-linux-gnu/gstreamer-1.0")
DISPATCH = "libGLdispatch.so.0"


def has_element(name: str) -> bool:
    """Tell whether this machine has one of NVIDIA's elements, such as ``nvvidconv``."""
    return (ELEMENTS / f"libgst{name}.so").exists()


def load_dispatch() -> None:
    """Load the library behind NVIDIA's elements, before TensorRT's: on a Jetson, and once.

    It has variables of its own for each thread, for which glibc 2.31 keeps little room. Those that are loaded first
    take it: then "cannot allocate memory in static TLS block" is all that csi: gives
    (https://github.com/dusty-nv/jetson-containers/issues/201).
    """
    if has_element("nvvidconv"):
        with contextlib.suppress(OSError):  # then the camera's own error says what is missing
            ctypes.CDLL(DISPATCH)
