"""Memory that is reused for every frame: page faults on fresh memory cost more than the arithmetic on it."""

from typing import Any, Dict, Optional, Tuple

import numpy as np


class Buffers:
    """Arrays by name, allocated on first use, and again when another shape or type is requested."""

    def __init__(self) -> None:
        self._arrays: Dict[str, np.ndarray] = {}

    def __call__(self, name: str, shape: Tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
        """Return the array of that name, with its old content."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array

    def latest(self, name: str) -> Optional[np.ndarray]:
        """Return the array of that name, whatever its shape; None if there is none yet."""
        return self._arrays.get(name)

    def keep(self, name: str, array: np.ndarray) -> np.ndarray:
        """Store ``array`` under that name, and return it."""
        self._arrays[name] = array
        return array
