"""Labelled pictures in rows, as one figure: PNG, JPEG or PDF by the file's suffix."""

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from irvis.runtime.errors import FileError
from irvis.runtime.files import check_writable, save_figure

COLUMNS = 6  # at most, where tiles are wrapped
TILE_INCHES, LABEL_INCHES, PAD_INCHES = 2.2, 0.2, 0.02
DPI = 150
FONT_POINTS, BAR_POINTS = 9, 8


class Tile(NamedTuple):
    """One picture and its label of one or two lines."""

    label: str
    picture: np.ndarray  # uint8, BGR (H, W, 3) or grey (H, W)


class Bar(NamedTuple):
    """A colour bar."""

    colours: str  # name of a matplotlib colormap
    limits: Tuple[float, float]
    label: str


Rows = List[List[Optional[Tile]]]


def wrapped(tiles: Sequence[Tile]) -> Rows:
    """Arrange tiles in rows of equal length, as few as COLUMNS allows."""
    rows = -(-len(tiles) // COLUMNS)
    columns = -(-len(tiles) // rows)
    padded = [*tiles, *[None] * (rows * columns - len(tiles))]
    return [padded[at : at + columns] for at in range(0, len(padded), columns)]


def check_sheet(output: Path) -> None:
    """Raise FileError unless a sheet can be written there; called before minutes of work, not after."""
    from matplotlib.backend_bases import FigureCanvasBase

    check_writable(output)
    endings = sorted(FigureCanvasBase.get_supported_filetypes())
    if output.suffix[1:].lower() not in endings:
        raise FileError(f"cannot draw into {output}: its suffix must be one of .{' .'.join(endings)}")


def draw_sheet(rows: Rows, output: Path, bar: Optional[Bar] = None) -> None:
    """Draw rows of tiles; the tiles of a row have one size. Raises FileError."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = max(map(len, rows))
    heights = [max(_height_inches(tile) for tile in row if tile) for row in rows]
    size = columns * TILE_INCHES + (0.8 if bar else 0), sum(heights)
    layout = ConstrainedLayoutEngine(w_pad=PAD_INCHES, h_pad=PAD_INCHES, wspace=0, hspace=0)
    figure = Figure(figsize=size, layout=layout)
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, line in zip(rows, axes):
        for tile, axis in zip(row, line):
            if tile:
                axis.imshow(_to_rgb(tile.picture), interpolation="antialiased")
                axis.set_title(tile.label, fontsize=FONT_POINTS, pad=3)
    if bar:
        scale = ScalarMappable(Normalize(*bar.limits), bar.colours)
        drawn = figure.colorbar(scale, ax=axes, fraction=0.03, pad=0.01, aspect=40)
        drawn.set_label(bar.label, fontsize=BAR_POINTS)
    # Tight, since the layout gives the titles of one row of many tiles a little too little room.
    save_figure(figure, output, dpi=DPI, bbox_inches="tight", pad_inches=PAD_INCHES)


def _height_inches(tile: Tile) -> float:
    height, width = tile.picture.shape[:2]
    return TILE_INCHES * height / width + LABEL_INCHES * len(tile.label.splitlines())


def _to_rgb(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB)
