"""16-bit infrared to [0, 1]: the range of a scene changes slowly, and a single hot pixel must not determine it."""

from typing import Optional, Tuple

import numpy as np

from irvis.runtime.errors import FrameError


class InfraredScaler:
    """Maps uint16 frames to [0, 1] between two percentiles, whose values are smoothed from frame to frame.

    Without smoothing, a warm body that enters the view would make the rest of the picture jump in brightness.

    Args:
        percentiles: lower and upper, in percent; values outside saturate.
        smoothing: share of the old limits in the new ones, in [0, 1); 0 scales each frame independently. 0.9 at 30
            frames a second settles in about a third of a second.
    """

    # Percentiles of every fourth row and column: a sixteenth of the work, and no visible difference in the limits.
    STRIDE = 4
    LARGE = 128 * 128

    def __init__(self, percentiles: Tuple[float, float] = (0.5, 99.5), smoothing: float = 0.9) -> None:
        low, high = percentiles
        if not 0 <= low < high <= 100:
            raise FrameError(f"percentiles must be 0 <= low < high <= 100. Got {percentiles}")
        if not 0 <= smoothing < 1:
            raise FrameError(f"smoothing must be in [0, 1). Got {smoothing}")
        self.percentiles = (low, high)
        self.smoothing = smoothing
        self.limits: Optional[np.ndarray] = None

    def __call__(self, infrared: np.ndarray, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Return infrared, uint16 (H, W), as float32 (H, W) in [0, 1], in ``out`` if given; move the limits to it."""
        step = self.STRIDE if infrared.size > self.LARGE else 1
        found = np.percentile(infrared[::step, ::step], self.percentiles)
        if self.limits is None:
            self.limits = found
        else:
            self.limits = self.smoothing * self.limits + (1 - self.smoothing) * found
        low, high = self.limits
        out = np.subtract(infrared, np.float32(low), out=out, dtype=np.float32)
        out *= np.float32(1 / max(high - low, 1.0))  # a span under one count is a flat frame
        return np.clip(out, 0, 1, out=out)

    def reset(self) -> None:
        """Forget the limits, for example at a cut to another scene."""
        self.limits = None
