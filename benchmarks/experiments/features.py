"""Figures 8 and 9: ``irvis visualize features MSRS/test --pair 01053N --teacher SHIP=SHIP.safetensors``.

Heat maps of the features that distillation compares, each teacher above its student. Unless each student has its own
teacher, the networks stand one after another, as for the variants of an ablation.
"""

import argparse
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from torch import Tensor

from irvis.benchmarks.experiments.methods import taught_by
from irvis.benchmarks.experiments.scenes import Scene, add_scene_arguments, pairs_at_hand, scenes_of
from irvis.benchmarks.experiments.sheets import Bar, Rows, Tile, check_sheet, draw_sheet, wrapped
from irvis.benchmarks.fusers import split_name
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import check_outputs_apart
from irvis.runtime.pairs import files_of
from irvis.runtime.shipped import find_model
from irvis.student.heatmaps import COLOURS, Network, attention, heat_map, over_image, similarity, span
from irvis.student.teachers.any_student import StudentTeacher
from irvis.student.teachers.load import open_teacher, teacher_file

SCALES = {
    "common": "one colour scale for all maps, in units of each map's root mean square (eq. 1)",
    "own": "one scale per map, whose ends stand above it",
}
UNIT = "mean over channels\n/ its root mean square"  # in two lines, for a sheet of one row


class Shown(NamedTuple):
    """A network whose feature is shown."""

    name: str
    network: Network
    teacher: str = ""  # that a student stands below


class Look(NamedTuple):
    """What a network attends to in one scene."""

    shown: Shown
    attended: Tensor  # (1, 1, h, w)
    heat: np.ndarray  # float32 (H, W)


Limits = Tuple[float, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis visualize features``."""
    add_scene_arguments(parser)
    parser.add_argument(
        "--teacher", action="append", default=[], metavar="SPEC", help="as for irvis train; may be repeated"
    )
    parser.add_argument(
        "--student",
        action="append",
        default=[],
        metavar="[TEACHER=]FILE",
        help="a student's checkpoint, drawn below this teacher, or below the only one that its file names; may be "
        "repeated (default without --teacher: the student that irvis ships)",
    )
    add_scale_argument(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path("features.png"), help="(default: %(default)s)")


def add_scale_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option for the colour scale."""
    summaries = "; ".join(f"{name}: {summary}" for name, summary in SCALES.items())
    parser.add_argument("--scale", choices=SCALES, default="common", help=f"{summaries} (default: %(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis visualize features``."""
    check_sheet(arguments.output)
    scenes = scenes_of(arguments)
    teachers = [open_teacher(spec) for spec in arguments.teacher]
    names = [teacher.name for teacher in teachers]
    default = [] if names else [str(find_model(None, ".safetensors"))]
    files = [split_student(text, names) for text in arguments.student or default]
    inputs = [*files_of(pairs_at_hand(arguments)), *map(teacher_file, arguments.teacher), *(file for _, file in files)]
    check_outputs_apart([arguments.output], inputs)
    students = [Shown(file.stem, StudentTeacher(file), teacher) for teacher, file in files]
    shown = [Shown(teacher.name, teacher) for teacher in teachers]
    draw_features(scenes, shown, students, arguments.scale, arguments.output)
    print(f"wrote {arguments.output}")
    return 0


def split_student(text: str, teachers: Sequence[str]) -> Tuple[str, Path]:
    """``"SHIP=student.safetensors"`` -> the teacher's name and the file, which may be a shipped student's name.

    Without a name, the teacher is the only one that the file names, or "" if that is none of ``teachers``.

    Raises IrvisError if the given name is none of ``teachers``.
    """
    name, file = split_name(text)
    file = find_model(file, ".safetensors")
    if name is not None:
        if name not in teachers:
            raise IrvisError(f"no teacher is called {name}. Available: {', '.join(teachers) or 'none'}")
        return name, file
    taught = taught_by(file)
    return taught[0] if len(taught) == 1 and taught[0] in teachers else "", file


def draw_features(
    scenes: Sequence[Scene], teachers: Sequence[Shown], students: Sequence[Shown], scale: str, output: Path
) -> None:
    """Draw the heat maps of all networks on all scenes, teachers above students if each student has its own.

    Raises IrvisError.
    """
    looks = [[_look(shown, scene) for shown in (*teachers, *students)] for scene in scenes]
    limits = span([look.heat for row in looks for look in row]) if scale == "common" else None
    rows: Rows = []
    for scene, row in zip(scenes, looks):
        rows += _rows(scene, row[: len(teachers)], row[len(teachers) :], limits)
    draw_sheet(rows, output, Bar(COLOURS, limits, UNIT) if limits else None)


def _look(shown: Shown, scene: Scene) -> Look:
    attended = attention(shown.network, scene.infrared, scene.luminance)
    return Look(shown, attended, heat_map(attended, scene.infrared.shape))


def _rows(scene: Scene, teachers: Sequence[Look], students: Sequence[Look], limits: Optional[Limits]) -> Rows:
    def tile(look: Look, label: str) -> Tile:
        low, high = limits or span([look.heat])
        ends = "" if limits else f"\n{low:.2f} to {high:.2f}"
        return Tile(label + ends, over_image(look.heat, scene.luminance, (low, high)))

    first, second = Tile(f"{scene.name}, infrared", scene.infrared), Tile("visible", scene.visible)
    upper = [tile(look, look.shown.name) for look in teachers]
    below = {look.shown.teacher: look for look in students}
    if not students or "" in below or len(below) < len(students):
        return wrapped([first, second, *upper, *(tile(look, look.shown.name) for look in students)])
    lower: List[Optional[Tile]] = []
    for teacher in teachers:
        look = below.get(teacher.shown.name)
        label = f"its student, cosine {similarity(teacher.attended, look.attended):.3f}" if look else ""
        lower.append(tile(look, label) if look else None)
    return [[first, *upper], [second, *lower]]
