"""The version of the running irvis."""

from importlib import metadata


def irvis_version() -> str:
    """Return the installed version, or "not installed" if irvis runs from a folder on the path."""
    try:
        return metadata.version("irvis")
    except metadata.PackageNotFoundError:
        return "not installed"
