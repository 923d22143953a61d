"""Frames in, fused frames out, on the robot. Needs neither torch nor onnx."""

import os

# A file of a hundred bytes can claim any size, and one of megabytes fill it: an image of more pixels than 16384x16384
# is refused before memory is taken for it. OpenCV reads this when it is first imported, and has 2^30 where nobody says.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))

from irvis.runtime.errors import FileError, FrameError, IrvisError, ModelError
from irvis.runtime.fuser import Fuser
from irvis.runtime.loop import FusedFrame, FusionLoop
from irvis.runtime.work import StageTimes

__all__ = ["FileError", "FrameError", "FusedFrame", "Fuser", "FusionLoop", "IrvisError", "ModelError", "StageTimes"]
