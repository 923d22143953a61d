"""The paper's figures, its Tables 1 to 5, to set beside measured ones."""

import json
from pathlib import Path
from typing import Dict, NamedTuple, Optional

FIGURES = Path(__file__).with_name("published.json")
_TABLES = json.loads(FIGURES.read_text(encoding="utf-8"))

METRICS = ("CC", "PSNR", "SCD", "SSIM")

# The published definition is not known: none that was tried reproduces the figures of all networks.
NOT_COMPARABLE = "SSIM"

# Tables 1 and 2: data set -> method -> metric.
QUALITY: Dict[str, Dict[str, Dict[str, float]]] = _TABLES["quality"]
# The figures are means over this many pairs; means over other pairs cannot be compared with them.
PAIRS = {"MSRS": 361, "RoadScene": 221, "TNO": 25, "M3FD": 300}

# Table 3, in the order of METRICS: on the 361 pairs of MSRS, with CDDFuse as teacher.
ABLATION = {name: tuple(row[metric] for metric in METRICS) for name, row in _TABLES["ablation"].items()}


class PublishedCost(NamedTuple):
    """A row of the paper's Tables 4 and 5, at 480x640."""

    gmacs: float  # by thop
    mparams: float
    rtx_3080_ti_ms: float
    rtx_3080_ti_std_ms: float
    xavier_maxn_ms: float
    xavier_maxn_std_ms: float


COMPLEXITY = {name: PublishedCost(**row) for name, row in _TABLES["complexity"].items()}


def published_set(folder: Path) -> Optional[str]:
    """Return the paper's data set that is named by a part of a folder's path; None if no part names one."""
    return next((part for part in reversed(folder.resolve().parts) if part in PAIRS), None)


def published_quality(folder: Path, pairs: int) -> Dict[str, Dict[str, float]]:
    """Return the paper's CC, PSNR, SCD and SSIM by method; empty unless the folder is a data set that the paper used.

    It is one if a part of its path is the data set's name and it holds the paper's number of pairs.
    """
    name = published_set(folder)
    return QUALITY[name] if name is not None and PAIRS[name] == pairs else {}
