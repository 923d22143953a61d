"""Errors whose message is one line for a person: what was wrong, what was found, what to do."""


class IrvisError(Exception):
    """Base of all that irvis raises on purpose. Commands print it as one line and exit with 1."""


class FrameError(IrvisError, ValueError):
    """A frame has a shape, a type or a size that cannot be fused."""


class FileError(IrvisError, OSError):
    """A file is missing, unreadable, of the wrong kind, or cannot be written."""


class ModelError(IrvisError, RuntimeError):
    """A model file cannot be loaded or run on this machine."""


def one_line(message: object, limit: int = 300) -> str:
    """Give a message of some library without its line breaks, and not without end."""
    return " ".join(str(message).split())[:limit]
