"""Fuse samples, or given pairs, show them side by side, and report the latency beside the paper's: ``irvis demo``."""

import argparse
from pathlib import Path
from typing import List

import numpy as np

from irvis.benchmarks.latency import measure, summarize
from irvis.benchmarks.machine.board import read_board
from irvis.benchmarks.report.report import PAPER
from irvis.runtime import engine_cache
from irvis.runtime.errors import FileError
from irvis.runtime.files import check_outputs_apart
from irvis.runtime.fuse import fuse_pairs, open_fuser
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import read_image, read_infrared, read_visible, write_image
from irvis.runtime.pairs import Pair, files_of, match_folders, pairs_of
from irvis.runtime.panels import side_by_side, stack_rows
from irvis.runtime.samples import write_samples
from irvis.runtime.sizes import format_size

PICTURE_ROWS = 6
ITERATIONS, WARMUP = 20, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis demo``."""
    parser.add_argument("--infrared", type=Path, help="infrared image or folder (default: generated samples)")
    parser.add_argument("--visible", type=Path, help="visible image or folder, registered with it")
    parser.add_argument("--pairs", type=Path, help="folder with ir/ and vi/, instead of the two options above")
    parser.add_argument("--model", type=Path, help=".onnx, .engine, or irvis's own: student (default) or fast")
    parser.add_argument("--resize", action="store_true", help="fit frames of another size to the model's and back")
    engine_cache.add_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to write (default: demo)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis demo``; return 0, or 1 if a pair could not be fused."""
    output = arguments.output
    pairs = _find_pairs(arguments)
    written = [output / "side_by_side.png", *(output / "fused" / f"{pair.name}.png" for pair in pairs)]
    check_outputs_apart(written, [*files_of(pairs), arguments.model])
    with open_fuser(arguments, smoothing=0) as fuser:
        print(f"model: {fuser.model} ({fuser.backend.name})")
        failures = fuse_pairs(fuser, pairs, output / "fused", with_panel=False)
        fused = [pair for pair in pairs if (output / "fused" / f"{pair.name}.png").exists()]
        if not fused:
            raise FileError("none of the pairs could be fused")
        picture = output / "side_by_side.png"
        write_image(picture, stack_rows([_row(pair, output) for pair in fused[:PICTURE_ROWS]]))
        rows = min(len(fused), PICTURE_ROWS)
        print(f"wrote {picture}: {rows} row{'s' * (rows > 1)} of infrared, visible, fused")
        _print_latency(fuser, fused[0])
    return 1 if failures else 0


def _find_pairs(arguments: argparse.Namespace) -> List[Pair]:
    infrared, visible = arguments.infrared, arguments.visible
    if arguments.pairs and (infrared or visible):
        raise FileError("give --pairs, or --infrared and --visible, not both")
    if arguments.pairs:
        return pairs_of(arguments.pairs)
    if bool(infrared) != bool(visible):
        raise FileError(f"{'visible' if infrared else 'infrared'} is missing: give both --infrared and --visible")
    if infrared is None:
        samples = arguments.output / "samples"
        print(f"no pairs given: generating samples in {samples}")
        write_samples(samples)
        return pairs_of(samples)
    if infrared.is_dir() and visible.is_dir():
        return match_folders(infrared, visible)
    return [Pair(visible.stem, infrared, visible)]


def _row(pair: Pair, output: Path) -> np.ndarray:
    fused = read_image(output / "fused" / f"{pair.name}.png")
    return side_by_side([read_infrared(pair.infrared), read_visible(pair.visible), fused])


def _print_latency(fuser: Fuser, pair: Pair) -> None:
    infrared, visible = read_infrared(pair.infrared), read_visible(pair.visible)
    total = summarize(measure(fuser, infrared, visible, ITERATIONS, WARMUP)["total"] or [])
    board = read_board()
    size = f"{format_size(infrared.shape)}, HEIGHTxWIDTH"  # the paper's line below has the width first
    print(f"here:  {total.p50_ms:.2f} ms a frame, median of {ITERATIONS} ({board.host}, {board.cpu}, {size})")
    print(PAPER)
    if not board.is_agx_xavier:
        print("another machine: to compare, run build_engine.py and bench.py --mode MAXN on a Jetson AGX Xavier")
