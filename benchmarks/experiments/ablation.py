"""Table 3: ``irvis experiment ablation MSRS/train --test MSRS/test --teacher SHIP=SHIP.safetensors -o ablation``.

Every variant is trained with every seed, with the same settings except for the parts it lacks; then all are measured on
the test set. Existing results are kept, so a stopped command resumes, and checkpoints made elsewhere are only measured.
With ``--plan runs.json`` the runs are only written to that file, for ``irvis.benchmarks.gpu_train``.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from tqdm import tqdm

from irvis.benchmarks.data_sets import counted, data_set_name, file_name
from irvis.benchmarks.experiments.ablation_tables import Setting, write_ablation
from irvis.benchmarks.experiments.pair_keys import digest_pairs
from irvis.benchmarks.metrics import published_metrics, told_means_of
from irvis.benchmarks.published import METRICS
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_outputs, parse_json, read_bytes, sha256, write_json
from irvis.runtime.luminance import read_luminance, read_sizes
from irvis.runtime.pairs import Pair, pairs_of
from irvis.runtime.spread import spread_end_to_end
from irvis.student.ablation import VARIANTS, Variant
from irvis.student.checkpoint import load_student, read_metadata
from irvis.student.distributed import Processes, processes
from irvis.student.provenance import crops_sha256
from irvis.student.recipes import RECIPES, TrainConfig
from irvis.student.teachers.load import Teacher, open_teachers, teacher_file
from irvis.student.train import RunOptions, train
from irvis.student.validation import fuse_planes

STEPS, SEEDS = 4000, 3
QUICK_SEEDS, QUICK_PAIRS, QUICK_SIDE = 2, 1, 128
QUICK: Dict[str, Any] = {"steps": 2, "crops": 8, "crop_side": 32}


class Run(NamedTuple):
    """One variant with one seed."""

    variant: Variant
    config: TrainConfig
    checkpoint: Path

    def figures(self, test: "DataSet") -> Path:
        """Return the file for its metrics on a test set."""
        return self.checkpoint.with_suffix(f".{file_name(test.name)}.json")


class DataSet(NamedTuple):
    """The test set."""

    name: str
    pairs: Sequence[Pair]
    digest: str  # of the pairs' names and contents
    side: Optional[int]  # of the corner of each image that is measured; None: whole images

    @property
    def identity(self) -> Dict[str, Any]:
        """What saved metrics must match to be of this data set."""
        return {"tested_on": self.name, "pairs": len(self.pairs), "pairs_sha256": self.digest}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis experiment ablation``."""
    parser.add_argument("folder", type=Path, help="data set to train on, such as MSRS/train")
    parser.add_argument("--test", type=Path, help="data set to measure on, such as MSRS/test; without it, only train")
    parser.add_argument(
        "--teacher", action="append", default=[], metavar="SPEC", help="as for irvis train; may be repeated"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("ablation"), help="folder (default: %(default)s)")
    parser.add_argument("--seeds", type=int, metavar="INT", help=f"runs of each variant (default: {SEEDS})")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps, pairs and seeds: writes all files, but means nothing"
    )
    parser.add_argument("--plan", type=Path, metavar="FILE", help="only write the list of runs here, for gpu_train")
    add_training_arguments(parser)


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the training options, which all runs of an experiment share; ``config_of`` reads them."""
    parser.add_argument("--steps", type=int, metavar="INT", help=f"steps per run (default: {STEPS}; the paper: 80000)")
    parser.add_argument(
        "--recipe",
        choices=("paper", "base"),
        default="base",
        help="base has ten times the paper's learning rate, for few steps (default: %(default)s)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--cache", type=Path, help="folder for the teachers' outputs (as for irvis train)")


def config_of(arguments: argparse.Namespace) -> TrainConfig:
    """Return the configuration that all runs share. Raises IrvisError."""
    config = replace(RECIPES[arguments.recipe].config, **(QUICK if arguments.quick else {"steps": STEPS}))
    return config if arguments.steps is None else replace(config, steps=arguments.steps)


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis experiment ablation``; return the exit code: 0 when done, 130 when stopped and resumable."""
    runs = runs_of(arguments)
    check_outputs([arguments.output / "ablation.md", arguments.plan], map(teacher_file, arguments.teacher))
    if arguments.plan is not None:
        write_json(arguments.plan, plan_of(runs, arguments.teacher))
        print(f"wrote {arguments.plan}")
        return 0
    test = test_set_of(arguments.test, arguments.quick) if arguments.test else None
    for run in runs:
        if run.checkpoint.exists():
            provenance(run)
    with processes(arguments.device) as among:
        if not _train_all(runs, arguments, among):
            print("stopped; run the same command again to resume")
            return 130
        if test is None:
            print(f"trained into {arguments.output}; give --test to measure")
            return 0
        setting = setting_of(runs, counted(len(test.pairs), test.name))
        figures: Dict[Variant, List[Dict[str, float]]] = {variant: [] for variant in VARIANTS}
        for run in runs:
            figures[run.variant].append(figures_of(run, test) or _measure(run, test, among.device))
    for file in write_ablation(arguments.output, figures, setting):
        print(f"wrote {file}")
    return 0


def test_set_of(folder: Path, quick: bool) -> DataSet:
    """Return the test set in ``folder``, or a corner of one pair if ``quick``. Raises FileError."""
    name, pairs = data_set_name(folder), pairs_for(folder, quick)
    read_sizes(pairs)  # a bad one is reported before hours of training, not after
    cut = f", cut to {QUICK_SIDE}x{QUICK_SIDE}" if quick else ""
    return DataSet(name + cut, pairs, digest_pairs(pairs), QUICK_SIDE if quick else None)


def runs_of(arguments: argparse.Namespace) -> List[Run]:
    """Return the runs, seed by seed, so that an interrupted experiment leaves whole seeds. Raises IrvisError."""
    quick = arguments.quick
    seeds = arguments.seeds if arguments.seeds is not None else QUICK_SEEDS if quick else SEEDS
    if seeds < 1:
        raise IrvisError(f"--seeds must be 1 or more. Got {seeds}")
    base = config_of(arguments)
    return [
        Run(
            variant,
            variant.config(replace(base, seed=seed)),
            arguments.output / f"{variant.slug}.seed{seed}.safetensors",
        )
        for seed in range(seeds)
        for variant in VARIANTS
    ]


def plan_of(runs: Sequence[Run], teachers: Sequence[str]) -> List[Dict[str, Any]]:
    """Return the runs in the form that ``irvis.benchmarks.gpu_train`` takes, each named after its checkpoint."""
    names = [spec.partition("=")[0] for spec in teachers]
    return [
        {
            "name": run.checkpoint.stem,
            "options": asdict(run.config),
            "teachers": names if run.variant.distils else [],
            "network": asdict(run.variant.network),
        }
        for run in runs
    ]


def provenance(run: Run) -> Dict[str, Any]:
    """Return the pairs, data, crops and teachers of a run's checkpoint. Raises FileError if its options differ."""
    metadata = read_metadata(run.checkpoint)
    try:
        training, network = json.loads(metadata["training"]), json.loads(metadata["config"])
        wanted = {**asdict(run.config), **asdict(run.variant.network)}
        found = {**training, **network}
        other = [f"{name} {found[name]}" for name in wanted if found.get(name, wanted[name]) != wanted[name]]
        said = {name: training[name] for name in ("pairs", "data", "teachers")}
        said["crops_sha256"] = training.get("crops_sha256")  # old checkpoints have none
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"not a checkpoint of irvis train: {run.checkpoint}; remove it") from error
    if other:
        raise FileError(f"{run.checkpoint} was trained with {', '.join(other)}; give another --output, or remove it")
    return said


def check_taught(run: Run, teachers: Sequence[Teacher]) -> None:
    """Raise FileError unless a run's checkpoint was taught by exactly these teachers, with these weights."""
    if provenance(run)["teachers"] != {teacher.name: teacher.digest for teacher in teachers}:
        names = ", ".join(teacher.name for teacher in teachers)
        raise FileError(f"{run.checkpoint} was not taught by {names} as given; use another --output, or remove it")


def check_pairs(runs: Iterable[Run], folder: Path, pairs: Sequence[Pair]) -> None:
    """Raise FileError if a run's checkpoint was trained on crops of other pairs than these of ``folder``."""
    wanted: Dict[Tuple[int, int, int], str] = {}
    for run in runs:
        found, config = provenance(run)["crops_sha256"], run.config
        draw = config.crops, config.crop_side, config.seed
        if found is not None and draw not in wanted:
            wanted[draw] = crops_sha256(pairs, config)
        if found is not None and found != wanted[draw]:
            raise FileError(
                f"{run.checkpoint} was not trained on {folder} as it is; use another --output, or remove it"
            )


def setting_of(runs: Sequence[Run], tested_on: str) -> Setting:
    """Return the settings that the runs share. Raises FileError if their pairs or teachers differ."""
    said = {run: provenance(run) for run in runs}
    first = next(said[run] for run in runs if run.variant.distils)
    for run, training in said.items():
        alike = ("pairs", "data", "teachers") if run.variant.distils else ("pairs", "data")
        if any(training[name] != first[name] for name in alike):
            told, others = _sources(training), _sources(first)
            raise FileError(f"{run.checkpoint} is from {told}, others are from {others}; remove it")
    config, trained_on = runs[0].config, counted(first["pairs"], ", ".join(first["data"]))
    teachers = ", ".join(sorted(first["teachers"]))
    return Setting(config.steps, config.learning_rate, len(runs) // len(VARIANTS), trained_on, teachers, tested_on)


def figures_of(run: Run, test: DataSet) -> Optional[Dict[str, float]]:
    """Return a run's saved metrics; None if there are none for this checkpoint and test set. Raises FileError."""
    path = run.figures(test)
    if not path.exists():
        return None
    try:
        kept = parse_json(read_bytes(path, "figures"))
        if kept["of"] != _identity(run, test):
            return None
        return {name: float(kept["metrics"][name]) for name in METRICS}
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"not the figures of an ablation: {path}; remove it") from error


def _train_all(runs: Sequence[Run], arguments: argparse.Namespace, among: Processes) -> bool:
    """Train the missing runs; return whether all were finished.

    Raises FileError if a checkpoint had other teachers or pairs, as far as they are given and there.
    """
    teachers = open_teachers(arguments.teacher, among.device)
    made = [run for run in runs if run.checkpoint.exists()]
    for run in made:
        if teachers and run.variant.distils:
            check_taught(run, teachers)
    finished = len(made) == len(runs)
    if finished and not arguments.folder.exists():  # made elsewhere, where the pairs may have stayed
        return True
    pairs = pairs_for(arguments.folder, arguments.quick)
    check_pairs(made, arguments.folder, pairs)
    if finished:
        return True
    if not teachers:
        raise IrvisError("most variants learn from a teacher; give --teacher, such as SHIP=SHIP.safetensors")
    options = RunOptions(cache=arguments.cache, tensorboard=False)
    for number, run in enumerate(runs, 1):
        if run.checkpoint.exists():
            continue
        print(f"{number} of {len(runs)}: {run.variant.name}, seed {run.config.seed}", flush=True)
        used, network = teachers if run.variant.distils else (), run.variant.network
        done = train(pairs, run.checkpoint, run.config, teachers=used, options=options, among=among, network=network)
        if done is None:
            return False
    return True


def _measure(run: Run, test: DataSet, device: torch.device) -> Dict[str, float]:
    """Return a run's metrics, means over the test set, and save them."""
    student = load_student(run.checkpoint).to(device)
    with ThreadPoolExecutor() as pool:  # the metrics take longer than a GPU's forward pass
        rows = []
        for pair in tqdm(test.pairs, desc=run.checkpoint.stem, unit="pair", disable=None, leave=False):
            infrared, visible = (plane[: test.side, : test.side] for plane in read_luminance(pair))
            rows.append(pool.submit(_metrics, infrared, visible, fuse_planes(student, infrared, visible)))
        found = [row.result() for row in rows]
    metrics = told_means_of(run.checkpoint.stem, [pair.name for pair in test.pairs], found)
    write_json(run.figures(test), {"of": _identity(run, test), "metrics": metrics})
    return metrics


def _metrics(*planes: np.ndarray) -> Dict[str, float]:
    return published_metrics(*(plane.astype(np.float64) for plane in planes))


def _identity(run: Run, test: DataSet) -> Dict[str, Any]:
    return {"checkpoint_sha256": sha256(run.checkpoint), **test.identity}


def pairs_for(folder: Path, quick: bool) -> Sequence[Pair]:
    """Return the pairs of a data set, or one of them if ``quick``. Raises FileError."""
    pairs = pairs_of(folder)
    return spread_end_to_end(pairs, QUICK_PAIRS) if quick else pairs


def _sources(training: Dict[str, Any]) -> str:
    pairs = counted(training["pairs"], ", ".join(training["data"]))
    teachers = (f"{name} {digest[:8]}" for name, digest in sorted(training["teachers"].items()))
    return f"{pairs} and teacher {', '.join(teachers) or 'none'}"
