"""Figures 4 to 7: ``irvis visualize grid MSRS/test --pair 01053N --weights FOLDER -o grid.png``.

Infrared, visible and each method's fusion of them, with two magnified boxes: green around a salient target, red around
a texture. A fused plane is shown in the visible's colours.
"""

import argparse
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from irvis.benchmarks.experiments.boxes import Box, parse_box, salient_box, texture_box
from irvis.benchmarks.experiments.methods import add_method_arguments, methods_of
from irvis.benchmarks.experiments.scenes import Scene, add_scene_arguments, pairs_at_hand, scenes_of
from irvis.benchmarks.experiments.sheets import Rows, Tile, check_sheet, draw_sheet, wrapped
from irvis.benchmarks.fusers import parse_fused
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_outputs_apart
from irvis.runtime.frames import Luminance, recolour
from irvis.runtime.images import read_visible
from irvis.runtime.pairs import files_of, images_by_stem, images_called
from irvis.runtime.sizes import format_size

INSET = 0.36  # share of the picture's width and height, at most
ENLARGED = 2  # factor, so that an inset keeps its pixels
LINE = 4  # width in pixels of the enlarged picture
SALIENT, TEXTURE = (60, 220, 0), (40, 40, 255)  # BGR


class Inset(NamedTuple):
    """A magnified box, the place in the frame where it is shown, and its colour."""

    box: Box
    place: Box
    colour: Tuple[int, int, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis visualize grid``."""
    add_scene_arguments(parser)
    add_method_arguments(parser)
    parser.add_argument(
        "--fused",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a picture made elsewhere, or a folder with one named after each pair; may be repeated",
    )
    for name, choice in (("salient", "the hottest target"), ("texture", "the richest texture")):
        parser.add_argument(
            f"--{name}",
            type=parse_box,
            action="append",
            metavar="X,Y,WIDTH,HEIGHT",
            help=f"box to magnify, once per pair (default: {choice})",
        )
    parser.add_argument("-o", "--output", type=Path, default=Path("grid.png"), help="(default: %(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis visualize grid``."""
    check_sheet(arguments.output)
    scenes, methods = scenes_of(arguments), methods_of(arguments)
    for name in ("salient", "texture"):
        given = getattr(arguments, name)
        if given is not None and len(given) != len(scenes):
            raise IrvisError(f"--{name} must be given once per pair. Got {len(given)}, pairs: {len(scenes)}")
    insets = [
        insets_of(scene, *(boxes[at] if boxes else None for boxes in (arguments.salient, arguments.texture)))
        for at, scene in enumerate(scenes)
    ]
    # First, so that a wrong name is reported before minutes of work.
    places = parse_fused(arguments.fused, "FILE")
    elsewhere = [_read_fused(places, arguments.crop, scene, len(scenes) == 1) for scene in scenes]
    inputs = [*files_of(pairs_at_hand(arguments)), *(method.file for method in methods), *_files_in(places.values())]
    check_outputs_apart([arguments.output], inputs)
    for name in ("visible", *(method.name for method in methods)):
        if name in elsewhere[0]:
            raise IrvisError(f"two pictures are called {name}; give the one of --fused another name")
    rows: List[List[Tile]] = [
        [Tile(f"{scene.name}, infrared", scene.infrared), Tile("visible", scene.visible)] for scene in scenes
    ]
    for method in methods:
        fuse = method.open()
        for scene, row in zip(scenes, rows):
            row.append(Tile(method.name, coloured(fuse(scene.infrared, scene.luminance), scene)))
    sheet: Rows = []
    for scene, row, others, two in zip(scenes, rows, elsewhere, insets):
        for name, inset in zip(("salient", "texture"), two):
            print(f"{scene.name}: --{name} {','.join(map(str, inset.box))}")
        row += [Tile(name, picture) for name, picture in others.items()]
        sheet += wrapped([tile._replace(picture=magnified(tile.picture, two)) for tile in row])
    draw_sheet(sheet, arguments.output)
    print(f"wrote {arguments.output}")
    return 0


def coloured(fused: np.ndarray, scene: Scene) -> np.ndarray:
    """Return a fused plane, uint8 (H, W), with the visible's Cr and Cb if that is in colour."""
    return recolour(fused, Luminance(scene.luminance, scene.visible if scene.visible.ndim == 3 else None))


def insets_of(scene: Scene, salient: Optional[Box] = None, texture: Optional[Box] = None) -> List[Inset]:
    """Place the two boxes, chosen if not given, at the lower left and right, or at the top if that covers less of them.

    Raises IrvisError if a box does not lie in the frame.
    """
    size = scene.infrared.shape
    for name, given in (("salient", salient), ("texture", texture)):
        if given is not None:
            given.check_inside(size, f"--{name} of {scene.name}")
    salient = salient or salient_box(scene.infrared)
    targets = [salient, texture] if texture else [salient]
    corners = [
        [_corner(box, size, right, upper) for right, box in enumerate((salient, texture or salient))]
        for upper in (0, 1)
    ]
    left, right = min(corners, key=lambda places: sum(place.shared(box) for place in places for box in targets))
    texture = texture or texture_box(scene.luminance, [salient, left, right])
    return [Inset(salient, left, SALIENT), Inset(texture, right, TEXTURE)]


def magnified(picture: np.ndarray, insets: Sequence[Inset]) -> np.ndarray:
    """Enlarge a picture, uint8 (H, W) or BGR (H, W, 3), and draw the insets into it: BGR, ENLARGED times as large."""
    height, width = picture.shape[:2]
    bgr = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) if picture.ndim == 2 else picture
    enlarged = cv2.resize(bgr, (ENLARGED * width, ENLARGED * height), interpolation=cv2.INTER_LINEAR)
    for box, _, colour in insets:
        _frame(enlarged, box, colour)
    for box, place, colour in insets:
        size = ENLARGED * place.width, ENLARGED * place.height
        place.scaled(ENLARGED).cut(enlarged)[:] = cv2.resize(box.cut(bgr), size, interpolation=cv2.INTER_LINEAR)
        _frame(enlarged, place, colour)
    return enlarged


def _corner(box: Box, size: Sequence[int], right: int, upper: int) -> Box:
    """Return the corner of a frame of ``size`` (H, W) in which the box is shown magnified."""
    factor = min(INSET * size[1] / box.width, INSET * size[0] / box.height)
    width, height = max(1, round(factor * box.width)), max(1, round(factor * box.height))
    return Box(right * (size[1] - width), (1 - upper) * (size[0] - height), width, height)


def _frame(enlarged: np.ndarray, box: Box, colour: Tuple[int, int, int]) -> None:
    part = box.scaled(ENLARGED).cut(enlarged)
    inside = part[LINE:-LINE, LINE:-LINE].copy()
    part[:] = colour  # within the box, so that it is visible at the frame's edge too
    part[LINE:-LINE, LINE:-LINE] = inside


def _files_in(places: Iterable[Path]) -> List[Path]:
    return [file for path in places for file in (images_by_stem(path).values() if path.is_dir() else [path])]


def _read_fused(places: Dict[str, Path], crop: Optional[Box], scene: Scene, only: bool) -> Dict[str, np.ndarray]:
    """Read the pictures that were made elsewhere, by name; grey ones are coloured. Raises IrvisError."""
    pictures = {}
    for name, path in places.items():
        if path.is_dir():
            (path,) = images_called(path, [scene.name])
        elif not only:
            raise IrvisError(f"one picture cannot show several pairs: {path}; give a folder with one for each")
        picture = read_visible(path)
        if crop is not None:
            crop.check_inside(picture.shape[:2], f"--crop of {path}")
            picture = crop.cut(picture)
        if picture.shape[:2] != scene.infrared.shape:
            sizes = f"{format_size(picture.shape)}, {format_size(scene.infrared.shape)}"
            raise FileError(f"{path} does not have the size of {scene.name}. Got {sizes}")
        pictures[name] = picture if picture.ndim == 3 else coloured(picture, scene)
    return pictures
