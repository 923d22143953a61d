"""Registered pairs on disk: two folders whose files are matched by name, or one folder that holds both."""

from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple, Union

from irvis.runtime.errors import FileError
from irvis.runtime.images import is_image

# The names that the public data sets give to their two halves.
INFRARED_FOLDERS = ("ir", "infrared", "Ir", "IR", "thermal")
VISIBLE_FOLDERS = ("vi", "vis", "visible", "Vis", "VI", "VIS")


class Pair(NamedTuple):
    """Two image files of one scene."""

    name: str
    infrared: Path
    visible: Path


def match_folders(infrared: Union[str, Path], visible: Union[str, Path]) -> List[Pair]:
    """Give the pairs of two folders, matched by file stem and sorted by it.

    Raises FileError where a folder is missing or empty, no name is in both, or a stem stands for two files.
    """
    left, right = images_by_stem(Path(infrared)), images_by_stem(Path(visible))
    names = sorted(set(left) & set(right))
    if not names:
        raise FileError(
            f"no file of {infrared} has the name of one in {visible}. "
            f"Found {len(left)} such as {min(left)} and {len(right)} such as {min(right)}"
        )
    return [Pair(name, left[name], right[name]) for name in names]


def images_by_stem(folder: Path) -> Dict[str, Path]:
    """Give the images directly in ``folder`` by stem. Raises FileError where it is missing, empty or ambiguous."""
    try:
        files = sorted(path for path in folder.iterdir() if is_image(path) and not path.name.startswith("."))
    except FileNotFoundError as error:
        raise FileError(f"folder not found: {folder}") from error
    except OSError as error:
        raise FileError(f"cannot read folder {folder}: {error.strerror}") from error
    if not files:
        raise FileError(f"no image in folder {folder}")
    images: Dict[str, Path] = {}
    for path in files:
        if path.stem in images:
            raise FileError(f"two images are both named {path.stem}: {images[path.stem]} and {path}")
        images[path.stem] = path
    return images


def find_halves(folder: Union[str, Path]) -> Tuple[Path, Path]:
    """Give the infrared and the visible folder inside a data set's folder. Raises FileError where either lacks."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"folder not found: {folder}")
    halves = []
    for names in (INFRARED_FOLDERS, VISIBLE_FOLDERS):
        present = [folder / name for name in names if (folder / name).is_dir()]
        if not present:
            raise FileError(f"no folder named {', '.join(names)} in {folder}")
        halves.append(present[0])
    return halves[0], halves[1]


def pairs_of(folder: Union[str, Path]) -> List[Pair]:
    """Give the pairs of a data set's folder, such as one with ``ir`` and ``vi`` in it. Raises FileError."""
    return match_folders(*find_halves(folder))
