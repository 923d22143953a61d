"""Quality of students and of published networks, measured on a data set or read from ``irvis evaluate``'s CSV."""

import csv
from pathlib import Path
from typing import Dict, NamedTuple

from irvis.benchmarks.data_sets import data_set_name
from irvis.benchmarks.evaluate import evaluate_pairs
from irvis.benchmarks.fusers import published_network, student
from irvis.benchmarks.peers.tables import DEPLOY_FORM
from irvis.benchmarks.published import METRICS
from irvis.runtime.errors import FileError, one_line
from irvis.runtime.pairs import pairs_of


class Quality(NamedTuple):
    """CC, PSNR, SCD and SSIM by method, means over a data set."""

    data_set: str
    pairs: int
    values: Dict[str, Dict[str, float]]

    def of(self, method: str) -> Dict[str, float]:
        """Return a method's metrics. A deploy form has its student's, since their outputs agree to 1e-5."""
        values = self.values.get(method.partition(DEPLOY_FORM)[0], {})
        return {metric: values[metric] for metric in METRICS if metric in values}


def measure_quality(folder: Path, students: Dict[str, Path], weights: Dict[str, Path]) -> Quality:
    """Fuse a data set with students and published networks, by name, in PyTorch on the CPU. Raises IrvisError."""
    pairs = pairs_of(folder)
    fusers = {name: student(checkpoint) for name, checkpoint in students.items()}
    fusers.update((name, published_network(name, file).fuse) for name, file in weights.items())
    values = {name: evaluate_pairs(pairs, fuse, name) for name, fuse in fusers.items()}
    return Quality(data_set_name(folder), len(pairs), values)


def read_quality(path: Path, students: Dict[str, Path]) -> Quality:
    """Read the first data set from a CSV of ``irvis evaluate``; a student is identified by its checkpoint's name."""
    names = {checkpoint.stem: name for name, checkpoint in students.items()}
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["kind"] == "model"]
        data_set, pairs = rows[0]["data_set"], int(rows[0]["pairs"])
        values = {}
        for row in rows:
            if row["data_set"] == data_set:
                name = names.get(Path(row["fused_by"]).stem, row["fused_by"])
                values[name] = {metric: float(row[metric]) for metric in METRICS}
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        raise FileError(f"not a data set, nor the CSV of irvis evaluate: {path} ({one_line(error, 100)})") from error
    return Quality(data_set, pairs, values)
