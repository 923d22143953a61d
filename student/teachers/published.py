"""The published networks by name, each in a module of its own that is imported only when asked for."""

import importlib
from typing import Dict, Type

from irvis.student.teachers.network import FusionNetwork

# name, as on the command line and as its class is called -> module
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


def network_class(name: str) -> Type[FusionNetwork]:
    """Give the class of a published network. Raises KeyError for a name that is none of ``MODULES``."""
    return getattr(importlib.import_module(f"irvis.student.teachers.{MODULES[name]}"), name)
