"""Section 4.6: ``irvis experiment compensation MSRS/train --test MSRS/test --teacher SHIP=SHIP.safetensors``.

One student per teacher is trained, all with the same settings, or given; then figure 9 is drawn, and what the paper
reads off it is measured. Existing results are kept, so a stopped command resumes.
"""

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
from torch import Tensor
from tqdm import tqdm

from irvis.benchmarks.data_sets import counted, file_name
from irvis.benchmarks.experiments import features
from irvis.benchmarks.experiments.ablation import (
    QUICK_PAIRS,
    QUICK_SIDE,
    DataSet,
    Run,
    add_training_arguments,
    check_pairs,
    check_taught,
    config_of,
    pairs_for,
    test_set_of,
)
from irvis.benchmarks.experiments.compensation_tables import COSINE, MEASURED, Couple, write_compensation
from irvis.benchmarks.experiments.scenes import Scene, chosen, read_scene
from irvis.benchmarks.metrics import correlation, published_metrics, told_means_of
from irvis.benchmarks.ranked_tables import check_quick
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_outputs, parse_json, read_bytes, sha256, write_json
from irvis.runtime.frames import join_luminance
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair, files_of, pairs_of
from irvis.student.ablation import FULL
from irvis.student.checkpoint import read_metadata
from irvis.student.datasets import unit_planes
from irvis.student.distributed import Processes, processes
from irvis.student.heatmaps import Network, detail_share, heat_map, similarity
from irvis.student.losses import attention_map, sobel_magnitude
from irvis.student.teachers.any_student import StudentTeacher
from irvis.student.teachers.load import PublishedTeacher, Teacher, open_teachers, repeatable_output
from irvis.student.teachers.network import CASTS
from irvis.student.train import RunOptions, train

SCENES = 3  # of figure 9
WHOSE = {"of_teacher": MEASURED, "of_student": (*MEASURED, COSINE)}  # field of Couple -> the names in it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis experiment compensation``."""
    parser.add_argument("folder", type=Path, help="data set to train on, such as MSRS/train")
    parser.add_argument("--test", type=Path, help="data set to measure on, such as MSRS/test; without it, only train")
    parser.add_argument(
        "--teacher", action="append", required=True, metavar="SPEC", help="as for irvis train; may be repeated"
    )
    parser.add_argument(
        "--student",
        action="append",
        default=[],
        metavar="TEACHER=FILE",
        help="this teacher's student, which is then not trained; may be repeated",
    )
    parser.add_argument(
        "--pair",
        action="append",
        metavar="NAME",
        help=f"test pair to draw; may be repeated (default: {SCENES}, evenly spread)",
    )
    features.add_scale_argument(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path("compensation"), help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="(default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps and one pair: writes all files, but means nothing"
    )
    add_training_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis experiment compensation``; return the exit code: 0 when done, 130 when stopped and resumable."""
    table, picture = (arguments.output / f"compensation.{ending}" for ending in ("md", "png"))
    if arguments.quick:
        check_quick([table])
    test = test_set_of(arguments.test, arguments.quick) if arguments.test else None
    check_outputs([table, picture], files_of(test.pairs) if test else ())
    scenes = _scenes(arguments) if test else []
    config = replace(config_of(arguments), seed=arguments.seed)
    with processes(arguments.device) as among:
        teachers = open_teachers(arguments.teacher, among.device)
        names = [teacher.name for teacher in teachers]
        given = _given(arguments.student, names)
        runs = {
            teacher: Run(FULL, config, arguments.output / f"{file_name(teacher.name)}.safetensors")
            for teacher in teachers
            if teacher.name not in given
        }
        if test is not None and not all(run.checkpoint.exists() for run in runs.values()):
            _try(teachers, test)
        if not _train_all(runs, arguments, among):
            print("stopped; run the same command again to resume")
            return 130
        if test is None:
            print(f"trained into {arguments.output}; give --test to measure")
            return 0
        files = [given.get(teacher.name) or runs[teacher].checkpoint for teacher in teachers]
        students = [StudentTeacher(file, among.device) for file in files]
        couples = [
            Couple(teacher.name, *_told(file), **_figures(teacher, file, student, test, arguments.output))
            for teacher, file, student in zip(teachers, files, students)
        ]
        above = [features.Shown(teacher.name, teacher) for teacher in teachers]
        below = [features.Shown(file.stem, student, name) for file, student, name in zip(files, students, names)]
        features.draw_features(scenes, above, below, arguments.scale, picture)
    for file in [*write_compensation(arguments.output, couples, test), picture]:
        print(f"wrote {file}")
    return 0


def _try(teachers: Iterable[Teacher], test: DataSet) -> None:
    """Run the teachers on test pairs of two sizes: a teacher may take those of its crops only. Raises IrvisError.

    Otherwise it would end the command after the training.
    """
    of_size: Dict[Tuple[int, ...], List[np.ndarray]] = {}
    for pair in test.pairs:
        planes = _planes(pair, test)
        of_size.setdefault(planes[0].shape, planes)
    for teacher, planes in itertools.product(teachers, [*of_size.values()][:2]):
        repeatable_output(teacher, *unit_planes(*planes))


def _planes(pair: Pair, test: DataSet) -> List[np.ndarray]:
    return [plane[: test.side, : test.side] for plane in read_luminance(pair)]


def measure(teacher: Teacher, student: Network, test: DataSet) -> Dict[str, Dict[str, float]]:
    """Measure both networks; return means over the test set: "of_teacher", "of_student" -> name -> value.

    Raises IrvisError.
    """
    networks: Sequence[Network] = (teacher, student)
    rows: Dict[str, List[Dict[str, float]]] = {whose: [] for whose in WHOSE}
    for pair in tqdm(test.pairs, desc=teacher.name, unit="pair", disable=None, leave=False):
        infrared, visible = _planes(pair, test)
        planes = unit_planes(infrared, visible)
        attended = []
        for network, row in zip(networks, rows.values()):
            feature, fused = repeatable_output(network, *planes)
            levels = _levels(network, fused[0, 0].float().cpu().numpy())
            quality = published_metrics(*(image.astype(np.float64) for image in (infrared, visible, levels)))
            attended.append(attention_map(feature).cpu())
            row.append({**quality, **of_map(heat_map(attended[-1], infrared.shape), *planes)})
        rows["of_student"][-1][COSINE] = similarity(*attended)
    names = [pair.name for pair in test.pairs]
    return {whose: told_means_of(f"{teacher.name}, {whose}", names, row) for whose, row in rows.items()}


def of_map(heat: np.ndarray, infrared: Tensor, visible: Tensor) -> Dict[str, float]:
    """Return the share of detail of a heat map (H, W), and its |r| with the infrared and the visible's gradient.

    The images are (1, 1, H, W) in [0, 1].
    """
    images = {"infrared": infrared, "gradient": sobel_magnitude(visible)}
    likeness = {name: abs(correlation(heat, image[0, 0].numpy())) for name, image in images.items()}
    return {"detail": detail_share(heat), **likeness}


def _levels(network: Network, fused: np.ndarray) -> np.ndarray:
    """Convert a fused plane, float (H, W), to 8 bits; that of a published network as its authors do."""
    if isinstance(network, PublishedTeacher):
        return CASTS[network.network.cast](fused)
    return join_luminance(fused, None)


def _figures(teacher: Teacher, checkpoint: Path, student: Network, test: DataSet, folder: Path) -> Dict[str, Any]:
    """Return the result of ``measure``, or the saved one if its inputs were the same. Raises IrvisError."""
    path = folder / f"{file_name(teacher.name)}.{file_name(test.name)}.json"
    identity = {"teacher": teacher.digest, "checkpoint_sha256": sha256(checkpoint), **test.identity}
    if path.exists():
        try:
            kept = parse_json(read_bytes(path, "figures"))
            if kept["of"] == identity:
                return {whose: {name: float(kept[whose][name]) for name in names} for whose, names in WHOSE.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileError(f"not the figures of irvis experiment compensation: {path}; remove it") from error
    figures = measure(teacher, student, test)
    write_json(path, {"of": identity, **figures})
    return figures


def _train_all(runs: Dict[Teacher, Run], arguments: argparse.Namespace, among: Processes) -> bool:
    """Train the missing runs; return whether all were finished.

    Raises FileError if a checkpoint had other teachers, or other pairs if these are there.
    """
    made = {teacher: run for teacher, run in runs.items() if run.checkpoint.exists()}
    for teacher, run in made.items():
        check_taught(run, [teacher])
    finished = len(made) == len(runs)
    if finished and not (made and arguments.folder.exists()):
        return True
    pairs = pairs_for(arguments.folder, arguments.quick)
    check_pairs(made.values(), arguments.folder, pairs)
    if finished:
        return True
    options = RunOptions(cache=arguments.cache, tensorboard=False)
    for number, (teacher, run) in enumerate(runs.items(), 1):
        if run.checkpoint.exists():
            continue
        print(f"{number} of {len(runs)}: the student of {teacher.name}", flush=True)
        if train(pairs, run.checkpoint, run.config, teachers=[teacher], options=options, among=among) is None:
            return False
    return True


def _given(texts: Sequence[str], teachers: Sequence[str]) -> Dict[str, Path]:
    given: Dict[str, Path] = {}
    for text in texts:
        name, file = features.split_student(text, teachers)
        if not name or name in given:
            raise IrvisError(f"--student must be TEACHER=FILE, once a teacher. Got {text}")
        given[name] = file
    return given


def _told(checkpoint: Path) -> Tuple[Optional[int], str]:
    """Return a student's training steps and what it was trained on; None and "" if its file does not say."""
    if checkpoint.suffix != ".safetensors":
        return None, ""
    try:
        training = json.loads(read_metadata(checkpoint)["training"])
        return int(training["steps"]), counted(int(training["pairs"]), ", ".join(training["data"]))
    except (KeyError, TypeError, ValueError):
        return None, ""


def _scenes(arguments: argparse.Namespace) -> List[Scene]:
    count, side = (QUICK_PAIRS, QUICK_SIDE) if arguments.quick else (SCENES, None)
    scenes = map(read_scene, chosen(pairs_of(arguments.test), arguments.pair, count))
    return [Scene(name, *(plane[:side, :side] for plane in planes)) for name, *planes in scenes]
