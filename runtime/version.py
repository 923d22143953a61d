"""The version of irvis that runs."""

from importlib import metadata


def irvis_version() -> str:
    """Give the installed version, or "not installed" where irvis is run from a folder on the path."""
    try:
        return metadata.version("irvis")
    except metadata.PackageNotFoundError:
        return "not installed"
