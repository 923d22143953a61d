"""The module ``tensorrt``, and its messages: its calls return None or False, and the reason goes to a logger."""

import functools
import importlib
import logging
import threading
from typing import Any, List, Optional

from irvis.runtime.errors import ModelError, one_line

logger = logging.getLogger("irvis.tensorrt")
logger.addHandler(logging.NullHandler())  # errors are raised; the rest is for programs that want it


def import_tensorrt() -> Any:
    """Return the module ``tensorrt``. Raises ModelError, which says how to install it, if it cannot be imported."""
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise ModelError(
            f"TensorRT for Python cannot be imported ({one_line(error)}): on a Jetson, `sudo apt install "
            "python3-libnvinfer` and make the virtual environment with --system-site-packages"
        ) from error


@functools.lru_cache(maxsize=None)
def tensorrt_logger() -> Any:
    """Return the ``trt.ILogger`` that writes to Python's ``irvis.tensorrt``.

    One per process, because TensorRT keeps the first that it is given and ignores later ones.
    """
    trt = import_tensorrt()
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.CRITICAL,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.INFO,
        trt.ILogger.Severity.VERBOSE: logging.DEBUG,
    }

    base: Any = trt.ILogger

    class PythonLogger(base):
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            logger.log(levels.get(severity, logging.INFO), "%s", message)

    return PythonLogger()


class TensorRTErrors(logging.Handler):
    """Keeps the errors and warnings that TensorRT logs inside ``with``; its calls themselves return only None or False.

    Not those of a thread that has its own TensorRTErrors open; TensorRT's own threads have none, and are heard by all.

    ``str`` returns the first error, because the later ones follow from it, or else the last warning: TensorRT only
    warns when it finds no GPU.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread: Optional[int] = None
        self.errors: List[str] = []
        self.warnings: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message, unless it is of another thread that keeps its own."""
        if record.thread != self.thread and any(
            isinstance(other, TensorRTErrors) and other.thread == record.thread for other in tuple(logger.handlers)
        ):
            return
        (self.errors if record.levelno >= logging.ERROR else self.warnings).append(one_line(record.getMessage()))

    def __enter__(self) -> "TensorRTErrors":
        self.thread = threading.get_ident()
        self.errors.clear()
        self.warnings.clear()
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logger.removeHandler(self)

    def __str__(self) -> str:
        return (self.errors[:1] or self.warnings[-1:] or ["TensorRT gave no reason"])[0]
