"""Registered pairs on disk, matched by name, in the layouts that the public data sets have.

- Two folders named after what they hold: ``ir`` and ``vi``, ``Ir`` and ``Vis``, ``infrared`` and ``LR_visible``.
- One folder of images named after what they are: ``1_ir.png`` and ``1_vi.png``, ``IR_lake.bmp`` and ``VIS_lake.bmp``.
- Folders of the second kind with one pair each, the scenes of a data set, anywhere under its own folder.
"""

import itertools
import os
import re
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from irvis.runtime.errors import FileError
from irvis.runtime.images import is_image, read_image

# The words that tell a half. Near infrared is reflected light, as the visible is, so "nir" is none of them.
WORDS: Dict[str, Tuple[str, ...]] = {
    "infrared": ("infrared", "ir", "lwir", "thermal"),
    "visible": ("visible", "vi", "vis", "visual"),
}
LEVELS = 3  # of folders between a data set's own and its scenes: TNO has Athena_images/APC_1/view_1
NAMED_AT_MOST = 8  # in an error


class Pair(NamedTuple):
    """Two image files of one scene."""

    name: str
    infrared: Path
    visible: Path


def pairs_of(folder: Union[str, Path]) -> List[Pair]:
    """Give the pairs of a data set's folder, sorted by name, in any of the layouts above.

    Where the folder itself holds none, those of the only data set in it are given, or of all its scenes, each named
    after its folders. Raises FileError where there are no pairs, several data sets, or more than one way to pair.
    """
    folder = Path(folder)
    found = _search(folder, LEVELS)
    if not found:
        names = [path.name for path in _entries(folder)]
        raise FileError(
            f"no pairs in {folder}: neither two folders such as ir and vi, nor images such as 1_ir.png and 1_vi.png. "
            f"Found {_listed(names) or 'nothing'}"
        )
    if len(found) == 1:
        return found[0][1]
    if not all(pairs[0].infrared.parent == place and len(pairs) == 1 for place, pairs in found):
        base = Path(os.path.commonpath([place for place, _ in found]))
        sets = sorted({base / place.relative_to(base).parts[0] for place, _ in found})
        raise FileError(f"{folder} holds several data sets; give one of {_listed(sets)}")
    scenes = [pairs[0]._replace(name="_".join(place.relative_to(folder).parts)) for place, pairs in found]
    names = [scene.name for scene in scenes]
    if len(set(names)) < len(names):
        raise FileError(f"two scenes of {folder} are both named {max(names, key=names.count)}; rename a folder")
    return sorted(scenes)


def files_of(pairs: Iterable[Pair]) -> List[Path]:
    """Give both files of each pair, such as no output may take the place of."""
    return [file for pair in pairs for file in (pair.infrared, pair.visible)]


def match_folders(infrared: Union[str, Path], visible: Union[str, Path]) -> List[Pair]:
    """Give the pairs of two folders, matched by file stem and sorted by it.

    Where no stem is in both, the words that all names of a folder begin or end with are left out, but for numbers:
    ``IR_01`` and ``VIS_01`` are the pair ``01``, ``1800i`` and ``1800v`` the pair ``1800``.
    Raises FileError where a folder is missing or empty, no name is in both, or a stem stands for two files.
    """
    stems = images_by_stem(Path(infrared)), images_by_stem(Path(visible))
    pairs = _match(*stems) or _match(*(_without_affixes(images) for images in stems))
    if not pairs:
        left, right = stems
        raise FileError(
            f"no file of {infrared} has the name of one in {visible}. "
            f"Found {len(left)} such as {min(left)} and {len(right)} such as {min(right)}"
        )
    return pairs


def images_by_stem(folder: Path) -> Dict[str, Path]:
    """Give the images directly in ``folder`` by stem. Raises FileError where it is missing, empty or ambiguous."""
    files = [path for path in _entries(folder) if is_image(path)]
    if not files:
        raise FileError(f"no image in folder {folder}")
    images: Dict[str, Path] = {}
    for path in files:
        if path.stem in images:
            raise FileError(f"two images are both named {path.stem}: {images[path.stem]} and {path}")
        images[path.stem] = path
    return images


def find_halves(folder: Union[str, Path]) -> Optional[Tuple[Path, Path]]:
    """Give the infrared and the visible folder directly in ``folder``, or None where it has not both.

    A folder named by the word alone, such as ``ir``, goes before one that has it among others, such as ``ir_labels``.
    Of several that remain, only two whose first images are of one size can be registered. Raises FileError where that
    does not leave one infrared and one visible folder.
    """
    folders = [path for path in _entries(Path(folder)) if path.is_dir()]
    halves = [[path for path in folders if _half(_parts(path.name)) == half] for half in WORDS]
    exact = [[path for path in paths if path.name.lower() in WORDS[half]] for half, paths in zip(WORDS, halves)]
    infrared, visible = exact if all(exact) else halves
    choices = list(itertools.product(infrared, visible))
    if len(choices) > 1:
        fitting = [choice for choice in choices if _of_one_size(*choice)]
        if len(fitting) != 1:
            raise FileError(
                f"cannot tell which two folders belong together: {_listed(infrared + visible)}; "
                "leave one infrared and one visible there"
            )
        choices = fitting
    return choices[0] if choices else None


def _search(folder: Path, levels: int) -> List[Tuple[Path, List[Pair]]]:
    """Give each outermost place in ``folder`` that has pairs, with them."""
    halves = find_halves(folder)
    pairs = match_folders(*halves) if halves else _match_marked(folder)
    if pairs:
        return [(folder, pairs)]
    below = [path for path in _entries(folder) if path.is_dir()] if levels else []
    return [found for path in below for found in _search(path, levels - 1)]


def _match_marked(folder: Path) -> List[Pair]:
    """Match the images directly in ``folder`` whose names begin or end with a word of one half, by what else they say.

    Where that differs, but not in its numbers, the only infrared and the only visible image are still a pair.
    """
    marked = [(*_split_mark(path.stem), path) for path in _entries(folder) if is_image(path)]
    halves = {half: {rest: path for found, rest, path in marked if found == half} for half in WORDS}
    if not all(halves.values()):
        return []
    for half, rest, path in marked:
        if half and halves[half][rest] != path:
            raise FileError(f"two {half} images have one name: {path} and {halves[half][rest]}")
    infrared, visible = halves.values()
    pairs = _match(infrared, visible)
    if not pairs and len(infrared) == len(visible) == 1:
        (left, right), (image, other) = [*infrared, *visible], [*infrared.values(), *visible.values()]
        pairs = [Pair("", image, other)] if re.findall(r"\d+", left) == re.findall(r"\d+", right) else []
    return [pair if pair.name else pair._replace(name=folder.resolve().name) for pair in pairs]


def _match(infrared: Dict[str, Path], visible: Dict[str, Path]) -> List[Pair]:
    return [Pair(name, infrared[name], visible[name]) for name in sorted(set(infrared) & set(visible))]


def _without_affixes(images: Dict[str, Path]) -> Dict[str, Path]:
    """Give the images by stem without what all stems begin or end with, unless that leaves nothing or two alike."""
    rows = [_parts(stem) for stem in images]
    first, last = _common(rows), _common([row[::-1] for row in rows])
    shortened = {"".join(row[first : len(row) - last]): path for row, path in zip(rows, images.values())}
    return images if "" in shortened or len(shortened) < len(images) else shortened


def _common(rows: List[List[str]]) -> int:
    """Count the parts that all rows begin with, up to the first number: that tells images apart, so it is no affix."""
    same = (len(set(column)) == 1 and not column[0].isdigit() for column in zip(*rows))
    return len(list(itertools.takewhile(bool, same)))


def _parts(name: str) -> List[str]:
    """Split a name into words, numbers and what is between; ``IR01`` is a word and a number."""
    return re.findall(r"[^\W\d_]+|\d+|[\W_]+", name)


def _split_mark(stem: str) -> Tuple[Optional[str], str]:
    """Give the half that a name's first or last word names, or None, and the rest of the name."""
    parts = _parts(_bare(stem))
    return _half(parts[:1] + parts[-1:]), _bare("".join(parts[1:] if _half(parts[:1]) else parts[:-1]))


def _bare(name: str) -> str:
    return re.sub(r"^[\W_]+|[\W_]+$", "", name)


def _half(words: Sequence[str]) -> Optional[str]:
    """Tell the half that the words name, also as the end of one, such as ``cropinfrared``; None for both or neither."""
    words = [word.lower() for word in words]
    named = [half for half in WORDS if any(word in WORDS[half] or word.endswith(half) for word in words)]
    return named[0] if len(named) == 1 else None


def _of_one_size(infrared: Path, visible: Path) -> bool:
    try:
        pair = match_folders(infrared, visible)[0]
    except FileError:
        return False
    return read_image(pair.infrared).shape[:2] == read_image(pair.visible).shape[:2]


def _entries(folder: Path) -> List[Path]:
    """Give what is directly in ``folder`` and not hidden, sorted. Raises FileError."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError as error:
        raise FileError(f"folder not found: {folder}") from error
    except OSError as error:
        raise FileError(f"cannot read folder {folder}: {error.strerror}") from error


def _listed(names: Sequence[Union[str, Path]]) -> str:
    more = len(names) - NAMED_AT_MOST
    return ", ".join(map(str, names[:NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")
