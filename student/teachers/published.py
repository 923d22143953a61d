"""The published networks by name, each in its own module, which is imported only when needed."""

import importlib
from pathlib import Path
from typing import Dict, Type

from irvis.runtime.errors import FileError
from irvis.student.teachers.network import FusionNetwork

# name on the command line, which is also that of the class -> module
MODULES: Dict[str, str] = {
    "SHIP": "ship",
    "PFCFuse": "pfcfuse",
    "CDDFuse": "cddfuse",
    "EMMA": "emma",
    "SeAFusion": "seafusion",
    "RFNNest": "rfn_nest",
    "SwinFusion": "swinfusion",
    "DenseFuse": "densefuse",
    "FISCNet": "fiscnet",
    "DATFuse": "datfuse",
    "SFDFusion": "sfdfusion",
    "MMDRFuseTeacher": "mmdrfuse",
    "MMDRFuseStudent": "mmdrfuse",
}

WEIGHTS = (".safetensors", ".pth", ".pt")


def network_class(name: str) -> Type[FusionNetwork]:
    """Return the class of a published network. Raises KeyError for a name that is not in ``MODULES``."""
    return getattr(importlib.import_module(f"irvis.student.teachers.{MODULES[name]}"), name)


def find_weights(folder: Path) -> Dict[str, Path]:
    """Return each published network's weights in a folder: files named after it, in any case, with or without ``_``.

    Raises FileError if there is no such folder, or it has none.
    """
    if not folder.is_dir():
        raise FileError(f"no folder of weights: {folder}")
    files = {file.stem.replace("_", "").lower(): file for file in sorted(folder.iterdir()) if file.suffix in WEIGHTS}
    found = {name: files[name.lower()] for name in MODULES if name.lower() in files}
    if not found:
        raise FileError(
            f"no weights of a published network in {folder}; name a file after its network, such as SHIP.pth "
            "(irvis teachers lists them)"
        )
    return found
