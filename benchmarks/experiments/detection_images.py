"""What a detector sees: a data set fused by each method, in colour, and the plain visible and infrared images."""

from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from irvis.benchmarks.experiments.methods import Method
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import parse_json, read_bytes, write_json
from irvis.runtime.frames import recolour, split_luminance
from irvis.runtime.images import read_visible, write_image
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair

MADE_OF = "made_of.json"

# uint8 infrared (H, W) and visible, BGR (H, W, 3) or grey (H, W) -> uint8, BGR (H, W, 3) or grey (H, W)
Render = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Source(NamedTuple):
    """A way to make one image from a pair."""

    name: str
    digest: str  # differs whenever the images may differ
    open: Callable[[], Render]


def sources_of(methods: Sequence[Method]) -> List[Source]:
    """Return the plain images, then the methods. Raises IrvisError, FileError."""
    plain = [
        Source("visible", "visible", lambda: lambda infrared, visible: visible),
        Source("infrared", "infrared", lambda: lambda infrared, visible: infrared),
    ]
    for method in methods:
        if method.name in [source.name for source in plain]:
            raise IrvisError(f"a method cannot be called {method.name}; give the student's file another name")
    return plain + [Source(method.name, method.digest, partial(_in_colour, method)) for method in methods]


def write_images(folder: Path, source: Source, pairs: Sequence[Pair], width: Optional[int]) -> List[Path]:
    """Write the missing images as PNG, named after their pairs; return all paths. Raises IrvisError.

    ``width``: pixels to which pairs are shrunk before they are fused; None: not shrunk.
    """
    paths = [folder / f"{pair.name}.png" for pair in pairs]
    missing = [(pair, path) for pair, path in zip(pairs, paths) if not path.exists()]
    if missing:
        render = source.open()
        for pair, path in tqdm(missing, f"images of {source.name}", unit="pair", disable=None, leave=False):
            write_image(path, render(*_frames(pair, width)))
    return paths


def claim(folder: Path, made_of: Dict[str, Any]) -> None:
    """Mark a folder as made from these inputs. Raises FileError if it was made from others."""
    file = folder / MADE_OF
    if not file.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise FileError(f"{folder} was not made by this command: it has no {MADE_OF}; give another --output")
        write_json(file, made_of)
        return
    try:
        found = dict(parse_json(read_bytes(file)))
    except (TypeError, ValueError) as error:
        raise FileError(f"not written by this command: {file}; give another --output") from error
    other = sorted(name for name in {*found, *made_of} if found.get(name) != made_of.get(name))
    if other:
        said = ", ".join(other)
        raise FileError(f"{folder} was made with other values of {said}; give another --output, or remove that folder")


def _in_colour(method: Method) -> Render:
    fuse = method.open()

    def render(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        luminance = split_luminance(visible)
        return recolour(fuse(infrared, luminance.y), luminance)

    return render


def _frames(pair: Pair, width: Optional[int]) -> Tuple[np.ndarray, np.ndarray]:
    frames = read_luminance(pair)[0], read_visible(pair.visible)  # the former also rejects what is not a pair
    if width is None:
        return frames
    size = width, round(frames[0].shape[0] * width / frames[0].shape[1])
    infrared, visible = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames)
    return infrared, visible
