"""Quality of the student and of published networks, measured on a data set or read from what was measured."""

import csv
from pathlib import Path
from typing import Dict, NamedTuple

from irvis.benchmarks.evaluate import evaluate_pairs
from irvis.benchmarks.fusers import published_network, student
from irvis.benchmarks.peers.tables import DEPLOY, STUDENT
from irvis.benchmarks.published import METRICS
from irvis.runtime.errors import FileError, one_line
from irvis.runtime.pairs import pairs_of


class Quality(NamedTuple):
    """CC, PSNR, SCD and SSIM by method, means over a data set."""

    data_set: str
    pairs: int
    values: Dict[str, Dict[str, float]]

    def of(self, method: str) -> Dict[str, float]:
        """Give a method's. The deploy form has the student's: it equals that to 1e-5."""
        values = self.values.get(STUDENT if method == DEPLOY else method, {})
        return {metric: values[metric] for metric in METRICS if metric in values}


def measure_quality(folder: Path, checkpoint: Path, weights: Dict[str, Path]) -> Quality:
    """Fuse a data set with the student and the networks of these weights, in PyTorch on the CPU. Raises IrvisError."""
    pairs = pairs_of(folder)
    fusers = {STUDENT: student(checkpoint)}
    fusers.update((name, published_network(name, file).fuse) for name, file in weights.items())
    values = {name: evaluate_pairs(pairs, fuse, name) for name, fuse in fusers.items()}
    return Quality("/".join(folder.resolve().parts[-2:]), len(pairs), values)


def read_quality(path: Path, checkpoint: Path) -> Quality:
    """Read the first data set of what ``irvis evaluate --csv`` wrote; the student goes by the checkpoint's name."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["kind"] == "model"]
        data_set, pairs = rows[0]["data_set"], int(rows[0]["pairs"])
        values = {}
        for row in rows:
            if row["data_set"] == data_set:
                name = STUDENT if Path(row["fused_by"]).stem == checkpoint.stem else row["fused_by"]
                values[name] = {metric: float(row[metric]) for metric in METRICS}
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise FileError(f"not a data set, nor the CSV of irvis evaluate: {path} ({one_line(error, 100)})") from error
    return Quality(data_set, pairs, values)
