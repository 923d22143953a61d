"""The paper's figures of fusion quality, its Tables 1 and 2, to set beside measured ones."""

import json
from pathlib import Path
from typing import Dict

FIGURES = Path(__file__).with_name("published.json")

# The figures are means over these many pairs; over others they say nothing of what is measured here.
PAIRS = {"MSRS": 361, "RoadScene": 221, "TNO": 25, "M3FD": 300}

# The published definition is not known: none that was tried gives the figures of all networks.
NOT_COMPARABLE = "SSIM"


def published_quality(folder: Path, pairs: int) -> Dict[str, Dict[str, float]]:
    """Give the paper's CC, PSNR, SCD and SSIM by method; empty unless the folder is a data set that the paper used.

    It is one where a part of its path is the data set's name, and it holds the paper's number of pairs.
    """
    for part in reversed(folder.resolve().parts):
        if PAIRS.get(part) == pairs:
            return json.loads(FIGURES.read_text(encoding="utf-8"))[part]
    return {}
