"""Errors whose message is one line for a person: what was wrong, what was found, what to do."""

LONGEST = 4000  # characters of an error; enough to tell apart two paths of the greatest length that Linux allows


class IrvisError(Exception):
    """Base of the errors that irvis raises on purpose. Commands print them as one line and exit with 1.

    The message can quote names and values from foreign files: control characters are escaped, and long text is cut.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        return printable(text)


class FrameError(IrvisError, ValueError):
    """A frame has a shape, a type or a size that cannot be fused."""


class FileError(IrvisError, OSError):
    """A file is missing, unreadable, of the wrong kind, or cannot be written."""


class EndedEarly(FileError):
    """A recording has fewer frames than its header says; those that it has were delivered."""


class ModelError(IrvisError, RuntimeError):
    """A model file cannot be loaded or run on this machine."""


def printable(text: str) -> str:
    """Escape the characters of a foreign text that a terminal would interpret."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def one_line(message: object, limit: int = 300) -> str:
    """Return a library's message without its line breaks, cut to ``limit`` characters."""
    return " ".join(str(message).split())[:limit]
