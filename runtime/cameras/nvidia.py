"""NVIDIA's GStreamer elements on a Jetson."""

import contextlib
import ctypes
from pathlib import Path

ELEMENTS = Path("/usr/lib/aarch64-linux-gnu/gstreamer-1.0")
DISPATCH = "libGLdispatch.so.0"


def has_element(name: str) -> bool:
    """Return whether this machine has an NVIDIA element, such as ``nvvidconv``."""
    return (ELEMENTS / f"libgst{name}.so").exists()


def load_dispatch() -> None:
    """On a Jetson, load the library behind NVIDIA's elements; call this before TensorRT's libraries are loaded.

    The library has thread-local variables, for which glibc 2.31 reserves little space. If libraries loaded before it
    have used that up, csi: sources fail with "cannot allocate memory in static TLS block"
    (https://github.com/dusty-nv/jetson-containers/issues/201).
    """
    if has_element("nvvidconv"):
        with contextlib.suppress(OSError):  # the camera's own error then says what is missing
            ctypes.CDLL(DISPATCH)
