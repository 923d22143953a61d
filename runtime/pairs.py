"""Registered pairs on disk, matched by name, in the layouts of the public data sets.

- Two folders named after what they hold: ``ir`` and ``vi``, ``Ir`` and ``Vis``, ``infrared`` and ``LR_visible``.
- One folder of images named after what they are: ``1_ir.png`` and ``1_vi.png``, ``IR_lake.bmp`` and ``VIS_lake.bmp``.
- Folders of the second kind with one pair each, the scenes of a data set, anywhere under its own folder.
- Two folders as in the first kind, each with a folder of the same name: ``Infrared/train`` and ``Visible/train``.

Of two folders, images without a partner are left out, with one warning to the logger ``irvis.pairs``. Where both halves
are in one folder, other images beside the pairs are common, so they are ignored.
"""

import functools
import itertools
import logging
import os
import re
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from irvis.runtime.errors import FileError, printable
from irvis.runtime.images import is_image, read_image

# The words that identify a half. Near infrared is reflected light, as the visible is, so "nir" is not among them.
WORDS: Dict[str, Tuple[str, ...]] = {
    "infrared": ("infrared", "ir", "lwir", "thermal"),
    "visible": ("visible", "vi", "vis", "visual"),
}
LEVELS = 3  # of folders between a data set's folder and its scenes: TNO has Athena_images/APC_1/view_1
NAMED_AT_MOST = 8  # in an error

logger = logging.getLogger("irvis.pairs")


class Pair(NamedTuple):
    """Two image files of one scene."""

    name: str
    infrared: Path
    visible: Path


def pairs_of(folder: Union[str, Path]) -> List[Pair]:
    """Return the pairs of a data set's folder, sorted by name, in any of the layouts above.

    If the folder itself holds none, those of the only data set in it are returned, or those of all its scenes, each
    named after its folders. Raises FileError if there are no pairs, several data sets, or more than one way to pair.
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
        place, pairs = found[0]
        if pairs[0].infrared.parent != place:
            _warn_of_left_out(pairs)
        return pairs
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
    """Return both files of each pair, for example to check that no output overwrites one."""
    return [file for pair in pairs for file in (pair.infrared, pair.visible)]


def match_folders(infrared: Union[str, Path], visible: Union[str, Path]) -> List[Pair]:
    """Return the pairs of two folders, matched by file stem and sorted by it.

    If no stem is in both, words that all names of a folder begin or end with are ignored, except numbers:
    ``IR_01`` and ``VIS_01`` are the pair ``01``, ``1800i`` and ``1800v`` the pair ``1800``.
    Images without a partner are left out, with one warning.
    Raises FileError if a folder is missing or empty, no name is in both, or two files have the same stem.
    """
    pairs = _match_folders(infrared, visible)
    _warn_of_left_out(pairs)
    return pairs


def images_by_stem(folder: Path) -> Dict[str, Path]:
    """Return the images directly in ``folder`` by stem. Raises FileError if it is missing, empty or ambiguous."""
    files = [path for path in _entries(folder) if is_image(path)]
    if not files:
        raise FileError(f"no image in folder {folder}")
    images: Dict[str, Path] = {}
    for path in files:
        if path.stem in images:
            raise FileError(f"two images are both named {path.stem}: {images[path.stem]} and {path}")
        images[path.stem] = path
    return images


def images_called(folder: Path, names: Sequence[str]) -> List[Path]:
    """Return the image of each name in ``folder``.

    Names are compared by stem. If one is missing, words that all images of the folder begin or end with, as in
    ``FLIR_01_fused``, may be lacking in all names. Raises FileError if one is missing even so, and as images_by_stem.
    """
    images = images_by_stem(folder)
    rows = [_parts(stem) for stem in images]
    first, last = _affixes(rows)
    called = max(
        (
            {"".join(row[left : len(row) - right]): path for row, path in zip(rows, images.values())}
            for left, right in itertools.product(range(first + 1), range(last + 1))
        ),
        key=lambda each: len(each.keys() & set(names)),
    )
    missing = [name for name in names if name not in called]
    if missing:
        raise FileError(f"no image in {folder} is called {_listed(missing)}. Found {_listed(sorted(images))}")
    return [called[name] for name in names]


def find_halves(folder: Union[str, Path]) -> Optional[Tuple[Path, Path]]:
    """Return the infrared and the visible folder directly in ``folder``, or None if it does not have both.

    A folder named by the word alone, such as ``ir``, is preferred to one whose name has others, such as ``ir_labels``.
    If several remain, only two whose first images have the same size can be registered. Raises FileError if that does
    not leave one infrared and one visible folder.
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
    """Return each outermost folder in ``folder``, or itself, that has pairs, with its pairs."""
    halves = find_halves(folder)
    pairs = _match_folders(*_inner_halves(*halves)) if halves else _match_marked(folder)
    if pairs:
        return [(folder, pairs)]
    below = [path for path in _entries(folder) if path.is_dir()] if levels else []
    return [found for path in below for found in _search(path, levels - 1)]


def _inner_halves(infrared: Path, visible: Path) -> Tuple[Path, Path]:
    """Return the only two equally named folders in two that hold no images themselves; else the two unchanged.

    Raises FileError if there are several such two.
    """
    entries = _entries(infrared), _entries(visible)
    if any(map(is_image, itertools.chain(*entries))):
        return infrared, visible
    folders, others = ({path.name for path in paths if path.is_dir()} for paths in entries)
    names = sorted(folders & others)
    if len(names) > 1:
        first = f"--infrared {infrared / names[0]} --visible {visible / names[0]}"
        raise FileError(
            f"{infrared.parent} holds several data sets, {_listed(names)}, each in two folders; give {first}, or "
            "another two, or link them as ir and vi into a folder"
        )
    return (infrared / names[0], visible / names[0]) if names else (infrared, visible)


def _match_folders(infrared: Union[str, Path], visible: Union[str, Path]) -> List[Pair]:
    """Return what match_folders does, without its warning."""
    stems = images_by_stem(Path(infrared)), images_by_stem(Path(visible))
    pairs = _match(*stems) or _match(*(_without_affixes(images) for images in stems))
    if not pairs:
        left, right = stems
        raise FileError(
            f"no file of {infrared} has the name of one in {visible}. "
            f"Found {len(left)} such as {min(left)} and {len(right)} such as {min(right)}"
        )
    return pairs


def _warn_of_left_out(pairs: List[Pair]) -> None:
    """Warn if the two folders that pairs are from have images without a partner."""
    paired = set(files_of(pairs))
    folders = pairs[0].infrared.parent, pairs[0].visible.parent
    infrared, visible = ([path for path in images_by_stem(each).values() if path not in paired] for each in folders)
    if infrared or visible:
        _warn_once(
            f"{len(infrared)} infrared and {len(visible)} visible images have no partner and are left out; "
            f"the first is {printable(str((infrared + visible)[0]))}"
        )


@functools.lru_cache(maxsize=None)
def _warn_once(line: str) -> None:
    """Log a warning, but not again when a command lists the same folder again."""
    logger.warning("%s", line)


def _match_marked(folder: Path) -> List[Pair]:
    """Match the images directly in ``folder`` whose names begin or end with a word of one half, by the rest.

    If the rest differs, but not in its numbers, a single infrared and a single visible image are still a pair.
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
    """Return the images by stem without what all stems begin or end with, unless that leaves nothing of one."""
    rows = [_parts(stem) for stem in images]
    first, last = _affixes(rows)
    shortened = {"".join(row[first : len(row) - last]): path for row, path in zip(rows, images.values())}
    return images if "" in shortened else shortened


def _affixes(rows: List[List[str]]) -> Tuple[int, int]:
    """Count the parts that all rows begin with, and those that all end with."""
    return _common(rows), _common([row[::-1] for row in rows])


def _common(rows: List[List[str]]) -> int:
    """Count the parts that all rows begin with, up to the first number, which identifies an image and is no affix."""
    same = (len(set(column)) == 1 and not column[0].isdigit() for column in zip(*rows))
    return len(list(itertools.takewhile(bool, same)))


def _parts(name: str) -> List[str]:
    """Split a name into words, numbers and what is between; ``IR01`` is a word and a number."""
    return re.findall(r"[^\W\d_]+|\d+|[\W_]+", name)


def _split_mark(stem: str) -> Tuple[Optional[str], str]:
    """Return the half that the first or last word of a name stands for, or None, and the rest of the name."""
    parts = _parts(_bare(stem))
    return _half(parts[:1] + parts[-1:]), _bare("".join(parts[1:] if _half(parts[:1]) else parts[:-1]))


def _bare(name: str) -> str:
    return re.sub(r"^[\W_]+|[\W_]+$", "", name)


def _half(words: Sequence[str]) -> Optional[str]:
    """Return the half that the words name, also ending one, as in ``cropinfrared``; None for both or neither."""
    words = [word.lower() for word in words]
    named = [half for half in WORDS if any(word in WORDS[half] or word.endswith(half) for word in words)]
    return named[0] if len(named) == 1 else None


def _of_one_size(infrared: Path, visible: Path) -> bool:
    try:
        pair = _match_folders(infrared, visible)[0]
    except FileError:
        return False
    return read_image(pair.infrared).shape[:2] == read_image(pair.visible).shape[:2]


def _entries(folder: Path) -> List[Path]:
    """Return what is directly in ``folder`` and not hidden, sorted. Raises FileError."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError as error:
        raise FileError(f"folder not found: {folder}") from error
    except OSError as error:
        raise FileError(f"cannot read folder {folder}: {error.strerror}") from error


def _listed(names: Sequence[Union[str, Path]]) -> str:
    more = len(names) - NAMED_AT_MOST
    return ", ".join(map(str, names[:NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")
