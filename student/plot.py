"""Plot the losses and the validation of a run from the tables beside its output: ``irvis plot student.safetensors``."""

import argparse
import csv
import io
import os
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from irvis.runtime.errors import FileError
from irvis.runtime.files import check_outputs, legend_name, new_figure, read_bytes, save_figure
from irvis.student.run_log import STEPS, VALIDATIONS, beside

Columns = Dict[str, np.ndarray]

NOT_LOSSES = ("step", "learning_rate")
SHOWN = ("CC", "PSNR", "SCD", "SSIM")  # of the validation's metrics
POINTS = 200  # per curve, each the mean of the steps that it represents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis plot``."""
    parser.add_argument("outputs", type=Path, nargs="+", help="outputs of one or more runs, as given to irvis train -o")
    parser.add_argument("-o", "--output", type=Path, default=Path("training.png"), help="(default: %(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis plot``."""
    for run in arguments.outputs:
        if not run.name:  # "", as of a shell's variable that is not set
            raise FileError(f"no training run at {run}; give the path that irvis train -o was given")
    tables = [beside(run, ending) for run in arguments.outputs for ending in (STEPS, VALIDATIONS)]
    check_outputs([arguments.output], [*arguments.outputs, *tables])
    draw(arguments.outputs, arguments.output)
    print(f"wrote {arguments.output}")
    return 0


def draw(runs: Sequence[Path], output: Path) -> None:
    """Draw each loss of the runs over the steps, and below them the validation's metrics. Raises FileError."""
    labels = _labels(runs)
    colours = {label: f"C{number}" for number, label in enumerate(labels)}
    losses = {label: read_columns(beside(run, STEPS)) for label, run in labels.items()}
    tables = {label: beside(run, VALIDATIONS) for label, run in labels.items()}
    validations = {name: read_columns(path) for name, path in tables.items() if path.exists()}
    names = list(dict.fromkeys(key for columns in losses.values() for key in columns))
    titles = [name for name in names if name not in NOT_LOSSES]
    metrics = [name for name in SHOWN if any(name in columns for columns in validations.values())]
    if not [*titles, *metrics]:
        raise FileError(f"no loss in {beside(runs[0], STEPS)}; give the path that irvis train -o was given")
    wide = 4
    rows = -(-(len(titles) + len(metrics)) // wide)
    figure = new_figure(figsize=(4 * wide, 2.6 * rows))
    axes = figure.subplots(rows, wide, squeeze=False)
    for axis, title in zip(axes.flat, [*titles, *metrics]):
        axis.set_title(f"{title} (validation)" if title in metrics else title, fontsize=10)
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.3)
        for name, columns in (validations if title in metrics else losses).items():
            if title in columns:
                points = smoothed(columns["step"], columns[title])
                marker = "." if len(points[0]) == 1 else ""  # one point has no line
                axis.plot(*points, label=legend_name(name), color=colours[name], linewidth=1.2, marker=marker)
        # With --weighting uncertainty, the loss can be negative.
        if title not in metrics and all((line.get_ydata() > 0).all() for line in axis.lines):
            axis.set_yscale("log")
    for axis in axes.flat[len(titles) + len(metrics) :]:
        axis.set_visible(False)
    axes.flat[0].legend(fontsize=8)
    save_figure(figure, output, dpi=80)


def _labels(runs: Sequence[Path]) -> Dict[str, Path]:
    """Name each run once; runs with the same file name are named by their paths."""
    runs = list(dict.fromkeys(runs))
    names = [run.name for run in runs]
    return {str(run) if names.count(run.name) > 1 else run.name: run for run in runs}


def smoothed(steps: np.ndarray, values: np.ndarray) -> List[np.ndarray]:
    """Return at most POINTS means of neighbouring steps and values."""
    parts = min(POINTS, len(steps))
    return [np.array([part.mean() for part in np.array_split(column, parts)]) for column in (steps, values)]


def read_columns(path: Path) -> Columns:
    """Return a table of numbers by column. Raises FileError."""
    if not os.path.lexists(path):
        raise FileError(f"no table of a training run at {path}; give the path that irvis train -o was given")
    content = read_bytes(path, "table of a training run")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    except (ValueError, TypeError, IndexError, csv.Error) as error:
        raise FileError(f"not the table of a training run: {path}") from error
    if "step" not in columns:
        raise FileError(f"not the table of a training run: {path} (no column step)")
    return columns
