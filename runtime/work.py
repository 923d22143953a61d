"""A pair of frames in the stages of a Fuser, which may run in threads of their own, each on a different pair."""

from typing import NamedTuple, Optional, Tuple

import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.detail import Fitted
from irvis.runtime.frames import Luminance


class StageTimes(NamedTuple):
    """Where a pair spent its time, in milliseconds; None if the backend cannot measure it separately."""

    pre_ms: float  # checks, registration, luminance, scaling; for a model that takes frames, little but the checks
    h2d_ms: Optional[float]  # host to device
    compute_ms: Optional[float]
    d2h_ms: Optional[float]  # device to host
    post_ms: float  # rounding, colour; if the model returns a frame, copying it
    total_ms: float  # the whole call as its caller sees it; for stages in several threads, their sum


class Work:
    """What each stage leaves for the next, in memory that is reused for the next pair.

    Args:
        keeps: copy the model's output, which the backend overwrites at its next run, so that ``finish`` may come
            after that run.
    """

    def __init__(self, keeps: bool = False) -> None:
        self.keeps = keeps
        self.buffers = Buffers()
        # Registered to the visible: uint8 (H, W), or from 16 bits float32 (H, W), scaled to [0, 1].
        self.infrared: np.ndarray = np.empty((0, 0), np.uint8)
        self.visible: np.ndarray = np.empty((0, 0), np.uint8)  # the part that is fused
        self.inputs: Tuple[np.ndarray, np.ndarray] = (self.infrared, self.visible)
        self.luminance: Optional[Luminance] = None  # what the output recolours; None: the model returns frames
        self.fitted: Optional[Fitted] = None  # both planes, if they were resized for the model
        self.fused: np.ndarray = self.infrared
        self.pre_ms = self.infer_ms = 0.0
        self.device_ms: Tuple[Optional[float], Optional[float], Optional[float]] = (None, None, None)
