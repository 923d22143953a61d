"""Memory that is used again for every frame: page faults on fresh memory cost more than the arithmetic on it."""

from typing import Any, Dict, Optional, Tuple

import numpy as np


class Buffers:
    """Arrays by name, made when first asked for, and made anew when asked for in another shape or type."""

    def __init__(self) -> None:
        self._arrays: Dict[str, np.ndarray] = {}

    def __call__(self, name: str, shape: Tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
        """Give the array of that name, with whatever it held."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array

    def latest(self, name: str) -> Optional[np.ndarray]:
        """Give the array of that name, whatever its shape; None where there is none yet."""
        return self._arrays.get(name)

    def keep(self, name: str, array: np.ndarray) -> np.ndarray:
        """Make ``array`` the one of that name, and give it back."""
        self._arrays[name] = array
        return array
