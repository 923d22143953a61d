"""The pairs that a picture shows: chosen by name and cropped, as the networks and as people see them."""

import argparse
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from irvis.benchmarks.experiments.boxes import Box, parse_box
from irvis.runtime.errors import IrvisError
from irvis.runtime.images import read_visible
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair, pairs_of
from irvis.runtime.sizes import MINIMUM
from irvis.runtime.spread import spread_end_to_end


class Scene(NamedTuple):
    """One pair."""

    name: str
    infrared: np.ndarray  # uint8 (H, W)
    visible: np.ndarray  # uint8, BGR (H, W, 3) or grey (H, W)
    luminance: np.ndarray  # of the visible, uint8 (H, W)


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the pairs."""
    parser.add_argument("folders", type=Path, nargs="+", help="data sets, such as MSRS/test")
    parser.add_argument(
        "--pair", action="append", metavar="NAME", help="pair to show; may be repeated (default: the first)"
    )
    parser.add_argument("--crop", type=parse_box, metavar="X,Y,WIDTH,HEIGHT", help="only this part of each, in pixels")


def pairs_at_hand(arguments: argparse.Namespace) -> List[Pair]:
    """Return the pairs of the folders. Raises FileError."""
    return [pair for folder in arguments.folders for pair in pairs_of(folder)]


def scenes_of(arguments: argparse.Namespace) -> List[Scene]:
    """Return the requested scenes. Raises IrvisError."""
    return [read_scene(pair, arguments.crop) for pair in chosen(pairs_at_hand(arguments), arguments.pair, 1)]


def chosen(pairs: Sequence[Pair], names: Optional[Sequence[str]], count: int) -> Sequence[Pair]:
    """Return the pairs with these names or, without names, ``count`` evenly spread ones. Raises IrvisError."""
    if not names:
        return spread_end_to_end(pairs, count)
    found = [[pair for pair in pairs if pair.name == name] for name in names]
    for name, same in zip(names, found):
        if len(same) != 1:
            at_hand = f"{pairs[0].name} to {pairs[-1].name}"
            raise IrvisError(f"{len(same) or 'no'} pair{'s are' if same else ' is'} called {name}; there are {at_hand}")
    return [same[0] for same in found]


def read_scene(pair: Pair, crop: Optional[Box] = None) -> Scene:
    """Read a pair, 8 bits and of one size, cropped to ``crop`` if given. Raises IrvisError."""
    (infrared, luminance), visible = read_luminance(pair), read_visible(pair.visible)
    if crop is None:
        return Scene(pair.name, infrared, visible, luminance)
    crop.check_inside(infrared.shape, f"--crop of {pair.name}")
    if min(crop.width, crop.height) < MINIMUM:
        raise IrvisError(f"--crop must be {MINIMUM}x{MINIMUM} or more. Got {crop.height}x{crop.width}")
    return Scene(pair.name, *(np.ascontiguousarray(crop.cut(plane)) for plane in (infrared, visible, luminance)))
