"""The methods that an experiment compares: students, and the published networks whose weights are available."""

import argparse
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

from irvis.benchmarks.fusers import CHECKPOINTS, Fuse, published_network, student
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import parse_json, sha256
from irvis.runtime.shipped import find_model
from irvis.student.checkpoint import read_metadata
from irvis.student.teachers.published import find_weights


class Method(NamedTuple):
    """One way to fuse."""

    name: str  # in tables: of a published network, or of a student's file
    file: Path
    teachers: Tuple[str, ...]  # of a student, as named by its checkpoint
    is_student: bool

    @property
    def digest(self) -> str:
        """SHA-256 of the file: results of another file are those of another method. Raises FileError."""
        return sha256(self.file)

    def open(self) -> Fuse:
        """Return a function that fuses two uint8 planes, in PyTorch on the CPU. Raises IrvisError."""
        return student(self.file) if self.is_student else published_network(self.name, self.file).fuse


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the methods."""
    parser.add_argument(
        "--student",
        type=Path,
        action="append",
        metavar="FILE",
        help="a student's checkpoint, or one that irvis ships: student (the default) or fast; may be repeated",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FOLDER", help="your copies of published weights, such as SHIP.pth"
    )
    parser.add_argument("--methods", type=_names, metavar="LIST", help="only these names, separated by commas")


def methods_of(arguments: argparse.Namespace) -> List[Method]:
    """Return the published networks, then the students. Raises IrvisError, also for an unknown name."""
    weights = find_weights(arguments.weights) if arguments.weights else {}
    methods = [Method(name, file, (), False) for name, file in weights.items()]
    students = [find_model(file, ".safetensors") for file in arguments.student or [None]]
    methods += [Method(file.stem, file, taught_by(file), True) for file in students]
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise IrvisError(f"two methods are called {name}; give the student's file another name")
    if arguments.methods is None:
        return methods
    unknown = [name for name in arguments.methods if name not in names]
    if unknown:
        raise IrvisError(f"no method is called {', '.join(unknown)}. Available: {', '.join(names)}")
    return [method for method in methods if method.name in arguments.methods]


def taught_by(checkpoint: Path) -> Tuple[str, ...]:
    """Return the names of a student's teachers, none if its file does not say. Raises FileError."""
    if checkpoint.suffix not in CHECKPOINTS:
        raise FileError(f"a student is a checkpoint ({', '.join(CHECKPOINTS)}). Got {checkpoint}")
    if checkpoint.suffix != ".safetensors":
        return ()
    try:
        return tuple(map(str, parse_json(read_metadata(checkpoint).get("training", "{}").encode()).get("teachers", {})))
    except (ValueError, TypeError, AttributeError) as error:
        raise FileError(f"not a checkpoint of irvis train: {checkpoint}") from error


def _names(text: str) -> Sequence[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
