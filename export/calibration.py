"""The ranges of an INT8 engine: TensorRT runs real pairs in FP32 and chooses, for each tensor, what loses least.

They are kept in a file, so the next build of the same ONNX with the same TensorRT and pairs needs no calibration.
"""

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from irvis.export.sample_frames import read_frames, to_planes
from irvis.runtime.engine_tensors import INPUTS
from irvis.runtime.errors import IrvisError, ModelError
from irvis.runtime.files import read_bytes, write_bytes
from irvis.runtime.gpu import Gpu
from irvis.runtime.pairs import Pair

PAIRS_AT_MOST = 100  # each has 300,000 pixels in every tensor: more pairs barely move a range
MAGIC = b"irvis calibration "


def calibration_key(
    onnx_sha256: str, tensorrt_version: str, size: Tuple[int, int], frames: bool, pairs: Sequence[Pair]
) -> str:
    """Return the SHA-256 of all that a calibration depends on, including the content of the pairs' files.

    Raises FileError if one cannot be read.
    """
    digest = hashlib.sha256(repr((onnx_sha256, tensorrt_version, tuple(size), frames)).encode())
    for pair in pairs:
        for path in (pair.infrared, pair.visible):
            digest.update(hashlib.sha256(read_bytes(path, "image")).digest())
    return digest.hexdigest()


def make_batch(pair: Pair, size: Tuple[int, int], frames: bool) -> Dict[str, np.ndarray]:
    """Return a pair as the network's inputs by name: uint8 (H, W) and (H, W, 3), or float32 (1, 1, H, W) in [0, 1].

    Raises FileError.
    """
    pictures = read_frames(pair, size)
    arrays = pictures if frames else [plane[None, None] for plane in to_planes(pictures)]
    return {name: np.ascontiguousarray(array) for name, array in zip(INPUTS, arrays)}


def read_ranges(path: Path, key: str) -> Optional[bytes]:
    """Return the ranges kept in a file, or None if they belong to another key. Raises FileError."""
    header, _, ranges = read_bytes(path, "calibration cache").partition(b"\n")
    return ranges if header == MAGIC + key.encode() and ranges else None


def write_ranges(path: Path, key: str, ranges: bytes) -> None:
    """Write ranges, TensorRT's own text, below a line with the key that they belong to. Raises FileError."""
    write_bytes(path, MAGIC + key.encode() + b"\n" + ranges)


class Calibration:
    """The pairs that an INT8 build calibrates on, and TensorRT's calibrator, which requests them one by one.

    TensorRT prints exceptions raised in its callbacks and carries on, so they are stored for ``check`` to raise.
    """

    def __init__(
        self,
        trt: Any,
        gpu: Gpu,
        pairs: Sequence[Pair],
        size: Tuple[int, int],
        frames: bool,
        ranges: Optional[bytes],
        progress: Callable[[str], None],
    ) -> None:
        self.ranges = ranges  # None: not known yet
        self._gpu, self._pairs, self._size, self._frames, self._progress = gpu, pairs, size, frames, progress
        self._next = 0
        self._buffers: Dict[str, Any] = {}
        self._failure: Optional[BaseException] = None
        self.calibrator = _make_calibrator(trt, self)

    def start(self) -> Optional[bytes]:
        """Return the ranges, or None to make TensorRT request the pairs, from the first on."""
        self._next = 0
        return self.ranges

    def next_batch(self, names: Sequence[str]) -> List[int]:
        """Return the GPU addresses of the next pair's inputs, in the order of ``names``; [] when done or failed."""
        if self._next == len(self._pairs) or self._failure is not None:
            return []
        self._progress(f"calibrating, pair {self._next + 1} of {len(self._pairs)}")
        pair = self._pairs[self._next]
        self._next += 1
        try:
            return self._upload(make_batch(pair, self._size, self._frames), names)
        except Exception as error:
            self._failure = error
            return []

    def finish(self, ranges: bytes) -> None:
        """Store the ranges that TensorRT found."""
        self.ranges = ranges
        self._progress("")

    def check(self) -> None:
        """Raise the error that a pair caused, if any."""
        if isinstance(self._failure, IrvisError):
            raise self._failure
        if self._failure is not None:
            raise ModelError(f"the calibration failed: {self._failure}") from self._failure

    def close(self) -> None:
        """Free the GPU's memory."""
        with self._gpu.current():
            self._buffers.clear()

    def _upload(self, batch: Dict[str, np.ndarray], names: Sequence[str]) -> List[int]:
        with self._gpu.current():
            for name, array in batch.items():
                if name not in self._buffers:
                    self._buffers[name] = self._gpu.cuda.mem_alloc(array.nbytes)
                self._gpu.cuda.memcpy_htod(self._buffers[name], array)
        return [int(self._buffers[name]) for name in names]


def _make_calibrator(trt: Any, calibration: Calibration) -> Any:
    base: Any = trt.IInt8EntropyCalibrator2

    class Calibrator(base):
        def __init__(self) -> None:
            base.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: List[str]) -> List[int]:
            return calibration.next_batch(names)

        def read_calibration_cache(self) -> Optional[bytes]:
            return calibration.start()

        def write_calibration_cache(self, ranges: Any) -> None:
            calibration.finish(bytes(ranges))

    return Calibrator()
