"""The paper's figures of fusion quality, its Tables 1 to 3, to set beside measured ones."""

import json
from pathlib import Path
from typing import Dict

FIGURES = Path(__file__).with_name("published.json")

# The figures are means over these many pairs; over others they say nothing of what is measured here.
PAIRS = {"MSRS": 361, "RoadScene": 221, "TNO": 25, "M3FD": 300}

# The published definition is not known: none that was tried gives the figures of all networks.
NOT_COMPARABLE = "SSIM"

METRICS = ("CC", "PSNR", "SCD", "SSIM")
# Table 3, in the order of METRICS: on the 361 pairs of MSRS, with CDDFuse as teacher.
ABLATION = {
    "w/o MLKD+DB": (0.3879, 15.6666, 0.2268, 1.0257),
    "w/o MLKD": (0.6059, 15.9917, 1.6475, 1.3833),
    "w/o RD": (0.6118, 16.3576, 1.6373, 1.4066),
    "w/o AFD": (0.6145, 16.5669, 1.6444, 1.4024),
    "w/o SFD": (0.6137, 16.5644, 1.6279, 1.4082),
    "w/o DB": (0.6101, 16.3418, 1.6349, 1.3996),
    "w/o GMB": (0.6112, 16.5665, 1.6430, 1.3994),
    "w/o LPB": (0.6166, 16.6239, 1.6417, 1.4101),
    "full": (0.6185, 16.7849, 1.6456, 1.4156),
}


def published_quality(folder: Path, pairs: int) -> Dict[str, Dict[str, float]]:
    """Give the paper's CC, PSNR, SCD and SSIM by method; empty unless the folder is a data set that the paper used.

    It is one where a part of its path is the data set's name, and it holds the paper's number of pairs.
    """
    for part in reversed(folder.resolve().parts):
        if PAIRS.get(part) == pairs:
            return json.loads(FIGURES.read_text(encoding="utf-8"))[part]
    return {}
