"""Register an infrared camera to a visible one: ``irvis calibrate INFRARED VISIBLE -o registration.json``."""

import argparse
import contextlib
import math
import os
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from irvis.runtime.cameras.uri import files_of_sources
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_outputs
from irvis.runtime.images import is_image, write_image
from irvis.runtime.registration.homography import Registration, Size
from irvis.runtime.registration.inputs import Frames, is_camera, load_frames
from irvis.runtime.registration.points import AT_LEAST, Fit, fit, read_points, write_points
from irvis.runtime.registration.preview import describe, draw_preview
from irvis.runtime.registration.targets import KINDS, Target, parse_count
from irvis.runtime.registration.warp import Warp
from irvis.runtime.sizes import format_size
from irvis.runtime.spread import spread_end_to_end

AGREEING_PX = 3.0  # in pixels of the coarser frame: how far apart the two points of a pair may lie after the fit
EPILOG = (
    "A homography is valid at the distance it was made at, and beyond it if the cameras are close together: calibrate "
    "on a scene as far away as what the robot looks at. The cameras must be fixed to each other, and deliver frames of "
    "the sizes that will be used later."
)
NAMED_AT_MOST = 10  # points left out
AUTOMATIC_AT_MOST = 16  # pairs; each takes a second or two, and five of MSRS came within 2.2 px of sixty


class Result(NamedTuple):
    """A registration, and the frames and points it was made from."""

    registration: Registration
    frames: Frames  # to show it on
    points: Optional[np.ndarray] = None  # float64 (N, 4)
    fit: Optional[Fit] = None
    trusted: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis calibrate``."""
    parser.epilog = EPILOG
    parser.add_argument(
        "infrared", help="infrared image, folder of images, video, or camera such as v4l2:///dev/video1"
    )
    parser.add_argument("visible", help="visible image, folder with the same names, video or camera")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json", help="registration to write")
    methods = parser.add_mutually_exclusive_group()
    methods.add_argument("--auto", action="store_true", help="use the images' own content (default)")
    methods.add_argument(
        "--points", type=Path, metavar="FILE", help="CSV or JSON file: infrared_x, infrared_y, visible_x, visible_y"
    )
    methods.add_argument(
        "--click",
        nargs="?",
        const="8080",
        metavar="[HOST:]PORT",
        help="click pairs of points on a web page (default: 127.0.0.1:8080); they are saved in OUTPUT.points.csv",
    )
    for kind, what in zip(KINDS, ("inner corners of a checkerboard", "circles in a grid", "circles in shifted rows")):
        methods.add_argument(
            f"--{kind}", type=parse_count, metavar="COLSxROWS", help=f"{what}, heated to show in the infrared"
        )
    parser.add_argument(
        "--model",
        choices=tuple(AT_LEAST),
        help="similarity (rotation, scale, shift), affine or homography (default: similarity with --auto, otherwise "
        "the one that best predicts each point from the others)",
    )
    parser.add_argument(
        "--fields-of-view",
        type=_parse_degrees,
        nargs=2,
        metavar=("INFRARED", "VISIBLE"),
        help="horizontal, in degrees, for --auto if the infrared covers less than half of the visible's width or more "
        "than 1.4 times as much (default: looks for the ratio)",
    )
    parser.add_argument("--token", help="token that a browser must send to open the page of --click")
    parser.add_argument("--force", action="store_true", help="write an automatic result even if it is not trusted")
    parser.add_argument("--preview", type=Path, metavar="FILE.png", help="write a picture for judging the result")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis calibrate``; return 0. Raises IrvisError."""
    output, preview = arguments.output, arguments.preview
    _check(arguments)
    result = register(arguments, load_frames(arguments.infrared, arguments.visible))
    registration, frames = result.registration, result.frames
    report(result)
    is_kept = result.trusted or arguments.force
    if is_kept:
        registration.save(output)
        print(f"wrote {output}")
    if preview is not None:  # also of a result that is not trusted: a person can judge it
        used = result.fit.used if result.fit else None
        write_image(preview, draw_preview(registration, frames.infrared, frames.visible, result.points, used))
        print(f"wrote {preview}")
    if not is_kept:
        raise IrvisError(
            f"the automatic result is not trusted (confidence {registration.confidence:.2f}) and was not written: add "
            "pairs with shapes that both cameras see, give --fields-of-view if one camera sees less than half of what "
            "the other sees, use --click or --checkerboard, or keep it with --force"
        )
    return 0


def register(arguments: argparse.Namespace, frames: List[Frames]) -> Result:
    """Register the cameras by the method chosen on the command line. Raises IrvisError."""
    for kind in KINDS:
        count = getattr(arguments, kind.replace("-", "_"))
        if count is not None:
            return _from_target(Target(kind, *count), frames, arguments.model)
    first = frames[0]
    if arguments.points is not None:
        points = read_points(arguments.points)
        _check_inside(points, first.sizes)
        return _from_points("points", points, first, arguments.model)
    if arguments.click is not None:
        kept = _clicked_path(arguments.output)
        points = _click(first, kept, arguments)
        write_points(kept, points)  # before anything can fail: clicking takes a person's time
        print(f"wrote {kept}")
        return _from_points("clicked", points, first, arguments.model)
    return _automatic(frames, arguments.model or "similarity", arguments.fields_of_view)


def report(result: Result) -> None:
    """Print what a registration was made from, how accurate it is and what it does. Raises IrvisError."""
    registration = result.registration
    if result.fit is None or result.points is None:
        forced = "" if result.trusted else ", not trusted"
        print(f"{registration.method}: confidence {registration.confidence:.2f}{forced}")
    else:
        _report_fit(registration, result.points, result.fit)
    print(describe(registration))
    warp, size = Warp(registration), registration.visible_size
    covered = 1.0 if warp.outside is None else float(np.mean(warp.outside == 0))
    common = Warp(registration, crop=True).size
    print(f"the infrared covers {covered:.1%} of the visible; {format_size(common)} of {format_size(size)} in common")


def _report_fit(registration: Registration, points: np.ndarray, found: Fit) -> None:
    text = f"{registration.method}, {found.model}: {registration.points} of {registration.of} points used"
    if found.rms_px is None:
        text += "; their error is not known, since a fit through so few is always exact: add more"
    else:
        text += f", error {found.rms_px:.2f} px rms and {found.worst_px:.2f} px at worst"
    if found.predicted_px is not None:
        text += f", {found.predicted_px:.2f} px rms where each is left out of the fit"
    print(text)
    left_out = np.flatnonzero(~found.used)
    for index in left_out[:NAMED_AT_MOST]:
        x, y, u, v = points[index]
        where = f"infrared ({x:.1f}, {y:.1f}) visible ({u:.1f}, {v:.1f})"
        print(f"left out: point {index + 1}, {where}, {found.errors_px[index]:.1f} px off")
    if len(left_out) > NAMED_AT_MOST:
        print(f"left out: {len(left_out) - NAMED_AT_MOST} more")
    spanned = float(np.prod(np.ptp(points[found.used, :2], axis=0) / registration.infrared_size[::-1]))
    if spanned < 0.25:
        print(f"the points span {spanned:.0%} of the infrared frame; beyond them the error grows: spread them out")


def _check(arguments: argparse.Namespace) -> None:
    """Raise IrvisError if an output cannot be written or would overwrite an input."""
    output, preview, token = arguments.output, arguments.preview, arguments.token
    if output.suffix.lower() != ".json":
        raise FileError(f"a registration is a .json file. Got {output}")
    if preview is not None and not is_image(preview):
        raise FileError(f"cannot write a preview as {preview}: its suffix must be .png or another image's")
    if token is not None and arguments.click is None:
        raise IrvisError("--token is for the page of --click: add --click")
    if arguments.fields_of_view is not None and not _is_automatic(arguments):
        raise IrvisError("--fields-of-view is for the automatic method: points and boards need none")
    named = arguments.infrared, arguments.visible
    inputs = [name for name in named if not is_camera(name)]
    images = [entry.path for name in inputs if os.path.isdir(name) for entry in os.scandir(name)]
    recordings = files_of_sources(name for name in named if is_camera(name))
    points = _clicked_path(output) if arguments.click is not None else None
    check_outputs([output, preview, points], [*inputs, *images, *recordings, arguments.points])


def _is_automatic(arguments: argparse.Namespace) -> bool:
    others = ("points", "click", *(kind.replace("-", "_") for kind in KINDS))
    return all(getattr(arguments, name) is None for name in others)


def _parse_degrees(text: str) -> float:
    with contextlib.suppress(ValueError):
        degrees = float(text)
        if 0 < degrees < 180:
            return degrees
    raise argparse.ArgumentTypeError(f"a field of view lies between 0 and 180 degrees. Got {text!r}")


def _clicked_path(output: Path) -> Path:
    return output.with_name(f"{output.stem}.points.csv")


def _from_target(target: Target, frames: List[Frames], model: Optional[str]) -> Result:
    found = [(pair, target.match(pair.infrared, pair.visible)) for pair in frames]
    seen = [(pair, points) for pair, points in found if points is not None]
    missed = [pair.name for pair, points in found if points is None]
    if not seen:
        raise IrvisError(
            f"{target.kind} {target.columns}x{target.rows} not found in both frames of any of {len(frames)} pairs: "
            "check the count (inner corners of a checkerboard), heat the target, and show all of it"
        )
    if missed:
        print(f"irvis calibrate: {target.kind} not found in both frames of {', '.join(missed)}", file=sys.stderr)
    return _from_points(target.kind, np.vstack([points for _, points in seen]), seen[0][0], model)


def _from_points(method: str, points: np.ndarray, frames: Frames, model: Optional[str]) -> Result:
    infrared_size, visible_size = frames.sizes
    # Neither frame is more accurate than its pixels, and those of a small infrared frame are large in the visible.
    coarser = max(1.0, float(np.mean(np.divide(visible_size, infrared_size))))
    found = fit(points, model, AGREEING_PX * coarser)
    registration = Registration(
        found.homography, *frames.sizes, method, found.rms_px, found.worst_px, int(found.used.sum()), len(points)
    )
    return Result(registration, frames, points, found)


def _automatic(frames: List[Frames], model: str, fields_of_view: Optional[Sequence[float]]) -> Result:
    from irvis.runtime.registration.automatic import estimate, fit_width

    frames = spread_end_to_end(frames, AUTOMATIC_AT_MOST)
    print(
        f"looking for what infrared and visible have in common, in {len(frames)} pairs: takes seconds each", flush=True
    )
    initial = fit_width(*frames[0].sizes, _share_of_width(*fields_of_view)) if fields_of_view else None
    found = estimate([(pair.infrared, pair.visible) for pair in frames], initial=initial, model=model, progress=True)
    registration = Registration(found.homography, *frames[0].sizes, "automatic", confidence=found.confidence)
    return Result(registration, frames[0], trusted=found.trusted)


def _share_of_width(infrared: float, visible: float) -> float:
    """Return how much of the visible's width the infrared sees, from their horizontal fields of view in degrees."""
    return math.tan(math.radians(infrared) / 2) / math.tan(math.radians(visible) / 2)


def _click(frames: Frames, kept: Path, arguments: argparse.Namespace) -> np.ndarray:
    try:
        from irvis.runtime.web.click import click_points
        from irvis.runtime.web.server import parse_address
    except ModuleNotFoundError as error:
        raise IrvisError(f"{error.name} is not installed: pip install 'irvis[web]'") from error
    try:
        host, port = parse_address(arguments.click)
    except argparse.ArgumentTypeError as error:
        raise IrvisError(f"--click: {error}") from error
    existing = [tuple(row) for row in read_points(kept).tolist()] if kept.exists() else []
    points = click_points(
        frames.infrared, frames.visible, port=port, host=host, token=arguments.token, existing=existing
    )
    return np.array(points, np.float64)


def _check_inside(points: np.ndarray, sizes: Tuple[Size, Size]) -> None:
    for number, row in enumerate(points, 1):
        for name, (x, y), (height, width) in zip(("infrared", "visible"), row.reshape(2, 2), sizes):
            if not (-1 <= x <= width and -1 <= y <= height):
                raise IrvisError(
                    f"point {number} lies outside the {name} frame of {format_size((height, width))}: "
                    f"x {x:g}, y {y:g}; the columns are infrared x, y, visible x, y"
                )
