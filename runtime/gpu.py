"""The GPU through pycuda, CUDA's driver API in Python."""

import contextlib
import ctypes
import functools
import importlib
from typing import Any, Iterator, Tuple

from irvis.runtime.errors import ModelError, one_line
from irvis.runtime.exclusive import Birthplace


def import_pycuda() -> Any:
    """Return the module ``pycuda.driver``. Raises ModelError if it cannot be imported."""
    try:
        return importlib.import_module("pycuda.driver")
    except (ImportError, OSError) as error:
        raise ModelError(f"pycuda cannot be imported ({one_line(error)}): pip install 'irvis[jetson]'") from error


@contextlib.contextmanager
def cuda_errors(cuda: Any, what: str) -> Iterator[None]:
    """Turn pycuda's errors into a ModelError that says ``what`` failed, and why."""
    try:
        yield
    except cuda.Error as error:
        raise ModelError(f"{what}: {one_line(error)}") from error


def first_gpu(cuda: Any) -> Any:
    """Return GPU 0, a ``pycuda.driver.Device``, without creating a context.

    Raises ModelError if there is none, or in a fork of a process that has used one.
    """
    _first_use().check("CUDA")
    with cuda_errors(cuda, "cannot use CUDA's GPU 0"):
        cuda.init()
        return cuda.Device(0)


@functools.lru_cache(maxsize=None)
def _first_use() -> Birthplace:
    """Return the process that first used CUDA; a fork inherits the answer."""
    return Birthplace()


def describe_gpu(device: Any) -> Tuple[str, str]:
    """Return the name of a GPU and its compute capability, ``("Xavier", "7.2")``."""
    return device.name(), "{}.{}".format(*device.compute_capability())


class Gpu:
    """GPU 0 through its primary CUDA context, the one that torch, OpenCV and TensorRT itself use too.

    Belongs to the thread that created it. Raises ModelError if pycuda or a GPU is missing.

    CUDA chooses for the process whether waiting for the GPU spins or blocks: pycuda can request spinning only in a
    context of its own (``make_context``), because it lacks cuDevicePrimaryCtxSetFlags.
    """

    def __init__(self) -> None:
        self._context: Any = None
        self.cuda = import_pycuda()
        device = first_gpu(self.cuda)
        with cuda_errors(self.cuda, "cannot use CUDA's GPU 0"):
            self.name, self.compute_capability = describe_gpu(device)
            attribute = self.cuda.device_attribute
            # Where CPU and GPU share their memory, the GPU reads and writes pinned host memory as its own.
            self.shares_memory = bool(
                device.get_attribute(attribute.INTEGRATED) and device.get_attribute(attribute.UNIFIED_ADDRESSING)
            )
            self._context = device.retain_primary_context()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current inside ``with``, and restore the previous one; everything in pycuda needs this."""
        self._context.push()
        try:
            yield
        finally:
            self.cuda.Context.pop()

    def release(self) -> None:
        """Release the context; everything created in it must be freed before. Never call this inside ``current()``."""
        context, self._context = self._context, None
        if context is not None:
            context.detach()
            # pycuda makes the context current to release it, and leaves it current: unlike the contexts that pycuda
            # creates, a primary one is not popped by CUDA itself (seen in the sources of 2022.2 to 2026.1).
            ctypes.CDLL("libcuda.so.1").cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
