"""Frames in, fused frames out, on the robot. Needs neither torch nor onnx."""

import importlib
import os
from typing import TYPE_CHECKING, Any, List

# A file of a hundred bytes can claim any image size, and one of a few megabytes can fill it: images of more pixels than
# 16384x16384 are rejected before memory is allocated. OpenCV reads this when first imported; its default is 2^30.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))

# When first imported, ONNX Runtime (1.32's wheel for Linux) starts to report the machine and each session to Microsoft,
# and keeps what it could not send in ~/.cache/Microsoft; "0" permits that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from irvis.runtime.errors import FileError, FrameError, IrvisError, ModelError

__all__ = ["FileError", "FrameError", "FusedFrame", "Fuser", "FusionLoop", "IrvisError", "ModelError", "StageTimes"]

if TYPE_CHECKING:
    from irvis.runtime.fuser import Fuser
    from irvis.runtime.loop import FusedFrame, FusionLoop
    from irvis.runtime.work import StageTimes
else:
    # Imported on first use (PEP 562): they need numpy and OpenCV, and `irvis doctor` must run where those do not.
    _HOMES = {"Fuser": "fuser", "FusedFrame": "loop", "FusionLoop": "loop", "StageTimes": "work"}

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value  # so that the next access costs nothing
        return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
