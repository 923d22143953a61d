"""Frames in, fused frames out, on the robot. Needs neither torch nor onnx."""

from irvis.runtime.errors import FileError, FrameError, IrvisError, ModelError
from irvis.runtime.fuser import Fuser
from irvis.runtime.loop import FusedFrame, FusionLoop
from irvis.runtime.work import StageTimes

__all__ = ["FileError", "FrameError", "FusedFrame", "Fuser", "FusionLoop", "IrvisError", "ModelError", "StageTimes"]
