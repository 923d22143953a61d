"""Fuse two images, two folders (files matched by name) or two videos: ``irvis fuse INFRARED VISIBLE -o OUT``."""

import argparse
import sys
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
from tqdm import tqdm

from irvis.runtime import engine_cache
from irvis.runtime.errors import FileError, IrvisError, printable
from irvis.runtime.files import check_outputs, check_outputs_apart
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import is_image, read_infrared, read_visible, write_image
from irvis.runtime.pairs import Pair, match_folders
from irvis.runtime.panels import side_by_side
from irvis.runtime.video import VideoReader, is_video, video_writer

PANELS = "side_by_side"  # a subfolder for folders, and the end of a file's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis fuse``."""
    parser.add_argument("infrared", type=Path, help="infrared image, folder or video")
    parser.add_argument(
        "visible", type=Path, help="visible image, folder or video, registered with it unless --registration is given"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="image, folder (gets NAME.png for each pair) or video to write"
    )
    parser.add_argument("--model", type=Path, help=".onnx, .engine, or irvis's own: student (default) or fast")
    parser.add_argument("--registration", type=Path, metavar="FILE", help="registration written by irvis calibrate")
    parser.add_argument("--crop", action="store_true", help="fuse only what both cameras see")
    parser.add_argument("--resize", action="store_true", help="fit frames of another size to the model's and back")
    parser.add_argument("--side-by-side", action="store_true", help="also write infrared, visible and fused in a row")
    parser.add_argument(
        "--smoothing",
        type=float,
        help="how slowly the 16-bit range follows the scene, 0 to below 1 (default: 0 for images, 0.9 for videos)",
    )
    engine_cache.add_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis fuse``; return 0, or 1 if a pair could not be fused."""
    infrared, visible, output = arguments.infrared, arguments.visible, arguments.output
    kinds = [_kind(path) for path in (infrared, visible)]
    if kinds[0] != kinds[1]:
        raise FileError(f"infrared and visible must be of one kind. Got {kinds[0]} {infrared} and {kinds[1]} {visible}")
    smoothing = arguments.smoothing
    if smoothing is None:
        smoothing = 0.9 if kinds[0] == "video" else 0.0
    with_panel = arguments.side_by_side
    registered = {"registration": arguments.registration, "crop": arguments.crop}
    if kinds[0] == "folder":
        pairs = match_folders(infrared, visible)
        check_outputs_apart([output, output / PANELS if with_panel else None], [infrared, visible])
        with open_fuser(arguments, smoothing, **registered) as fuser:
            return 1 if fuse_pairs(fuser, pairs, output, with_panel) else 0
    if kinds[0] == "image" and (output.is_dir() or not output.suffix):
        output = output / f"{visible.stem}.png"
    panel = output.parent / f"{output.stem}_{PANELS}{output.suffix}" if with_panel else None
    check_outputs([output, panel], [infrared, visible, arguments.model, arguments.registration])
    with open_fuser(arguments, smoothing, **registered) as fuser:
        if kinds[0] == "video":
            fuse_videos(fuser, infrared, visible, output, panel)
        else:
            fuse_images(fuser, Pair(visible.stem, infrared, visible), output, panel)
            print(f"wrote {output}" + (f" and {panel}" if panel else ""))
    return 0


def open_fuser(arguments: argparse.Namespace, smoothing: float, **options: Any) -> Fuser:
    """Open the model of a command line, with its options for resizing and engines, and others. Raises IrvisError."""
    engine_cache.check_arguments(arguments)
    return Fuser(
        arguments.model,
        resize=arguments.resize,
        infrared_smoothing=smoothing,
        engine_cache=arguments.engine_cache,
        engine_size=arguments.engine_size,
        **options,
    )


def fuse_images(fuser: Fuser, pair: Pair, output: Path, panel: Optional[Path] = None) -> None:
    """Fuse two files into ``output``, and the three in a row into ``panel``. Raises IrvisError, naming the file."""
    infrared, visible = read_infrared(pair.infrared), read_visible(pair.visible)
    fused = fuser(infrared, visible)
    write_image(output, fused)
    if panel is not None:
        write_image(panel, _panel(fuser, infrared, visible, fused))


def fuse_pairs(fuser: Fuser, pairs: List[Pair], output: Path, with_panel: bool) -> int:
    """Fuse each pair into ``output/NAME.png``; a bad one is one line on stderr. Return the number of bad ones."""
    if output.exists() and not output.is_dir():
        raise FileError(f"output must be a folder, since the inputs are. Found a file: {output}")
    failures = 0
    for pair in tqdm(pairs, desc="fusing", unit="pair", disable=None):
        panel = output / PANELS / f"{pair.name}.png" if with_panel else None
        try:
            fuse_images(fuser, pair, output / f"{pair.name}.png", panel)
        except IrvisError as error:
            failures += 1
            tqdm.write(f"irvis fuse: {printable(pair.name)}: {error}", file=sys.stderr)
    print(f"fused {len(pairs) - failures} of {len(pairs)} pairs into {output}")
    return failures


def fuse_videos(fuser: Fuser, infrared: Path, visible: Path, output: Path, panel: Optional[Path]) -> None:
    """Fuse two videos frame by frame, to the end of the shorter, at the visible's rate.

    Raises IrvisError, also if one is cut off; ``output`` then holds the frames before that.
    """
    with VideoReader(infrared) as infrared_video, VideoReader(visible) as visible_video:
        if abs(infrared_video.fps - visible_video.fps) > 0.01 * visible_video.fps:
            raise FileError(
                f"the videos differ in frame rate: {infrared_video.fps:g} and {visible_video.fps:g} frames a second; "
                "convert them to one rate first"
            )
        count = min(infrared_video.count, visible_video.count) or None
        frames = 0
        fps = visible_video.fps
        with video_writer(output, fps) as write, video_writer(panel, fps) as write_panel:
            for grey, colour in tqdm(
                zip(infrared_video.grey(), visible_video), total=count, desc="fusing", unit="frame", disable=None
            ):
                fused = fuser(grey, colour)
                write(fused)
                if panel is not None:
                    write_panel(_panel(fuser, grey, colour, fused))
                frames += 1
            if not frames:
                raise FileError(f"no frame could be read from both {infrared} and {visible}")
        read = f"{infrared_video.read} infrared and {visible_video.read} visible read"
        print(f"fused {frames} frames into {output} ({read})", flush=True)
        for video in (infrared_video, visible_video):
            video.check_end()


def _panel(fuser: Fuser, infrared: np.ndarray, visible: np.ndarray, fused: np.ndarray) -> np.ndarray:
    """Put the frames in a row, infrared and visible as they were fused: registered and cropped."""
    if fuser.warp is not None:
        infrared, visible = fuser.warp(infrared), fuser.warp.crop_visible(visible)
    return side_by_side([infrared, visible, fused])


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise FileError(f"file or folder not found: {path}")
    if is_video(path):
        return "video"
    if is_image(path):
        return "image"
    raise FileError(f"neither a folder, nor an image, nor a video by its suffix: {path}")
