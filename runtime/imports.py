"""What to say where a module cannot be imported."""

from irvis.runtime.errors import IrvisError, one_line


def import_failure(error: ImportError, mend: str) -> IrvisError:
    """Return in one line which package is missing or broken; raises ``error`` itself if that is a part of irvis.

    ``mend`` says where a missing package comes from.
    """
    if (error.name or "").split(".")[0] == "irvis":
        raise error
    if isinstance(error, ModuleNotFoundError):
        return IrvisError(f"{error.name or error} is not installed: {mend}")
    # Such as an OpenCV that lacks libGL.so.1.
    return IrvisError(f"a package cannot be imported ({one_line(error)}); `irvis doctor` says which")
