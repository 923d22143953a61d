"""Errors whose message is one line for a person: what was wrong, what was found, what to do."""

LONGEST = 4000  # characters of an error: two paths, as long as Linux takes them, are still told apart


class IrvisError(Exception):
    """Base of all that irvis raises on purpose. Commands print it as one line and exit with 1.

    Names and values of files from outside stand in it: what a terminal would obey is escaped, what is endless cut.
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
    """A recording has fewer frames than its header tells of; those that it has were given."""


class ModelError(IrvisError, RuntimeError):
    """A model file cannot be loaded or run on this machine."""


def printable(text: str) -> str:
    """Escape what a terminal would obey, in a name from a file from outside."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def one_line(message: object, limit: int = 300) -> str:
    """Give a message of some library without its line breaks, and not without end."""
    return " ".join(str(message).split())[:limit]
