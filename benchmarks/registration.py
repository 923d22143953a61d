"""Measure automatic registration on pairs warped on purpose: ``python -m irvis.benchmarks.registration TNO/test``.

The infrared frame is turned by up to 3 degrees, scaled by 0.95 to 1.05 and shifted by up to 16 pixels in each axis.
Both frames are then cropped by the most that any such warp can bring in from outside, so that they hold no invented
pixel and the crop does not reveal the warp. Two errors, each the mean distance at the infrared frame's four corners:

- from the data set's own registration, which is itself off by pixels: a floor for every method;
- from the method's own answer for the pair before the warp: whether it recovers the known warp.

A trial fails if the second is more than FAILED_PX, or the first more than LOST_PX: the same wrong answer twice.
"""

import argparse
import contextlib
import sys
import time
import zlib
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from irvis.benchmarks.data_sets import data_set_name
from irvis.runtime.cli import guarded
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import check_outputs, write_json
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.pairs import files_of, pairs_of
from irvis.runtime.registration.automatic import TRUSTED, Estimate, estimate, fit_width
from irvis.runtime.registration.descriptors import to_plane
from irvis.runtime.registration.homography import corners_of, project
from irvis.runtime.sizes import parse_count

DEGREES, SCALE, SHIFT = 3.0, 0.05, 16.0
FAILED_PX = 5.0
LOST_PX = 15.0  # farther off than the registration of any pair in these data sets
CHOSEN_ON = 5  # every fifth trial serves to choose the threshold, the others to report

Frames = Sequence[Tuple[np.ndarray, np.ndarray]]


def gradients(pairs: Frames, model: str, share: Optional[float] = None) -> Estimate:
    """Estimate as the runtime does, told which share of the visible's width the infrared covers, or not."""
    infrared, visible = pairs[0]
    initial = None if share is None else fit_width(infrared.shape, visible.shape, share)
    return estimate(pairs, initial=initial, model=model)


def ecc(pairs: Frames, model: str) -> Estimate:
    """Maximise the enhanced correlation coefficient of gradient magnitudes (Evangelidis, 2008), coarse to fine.

    OpenCV has no similarity here, so every ``model`` but ``homography`` is fitted as an affine.
    """
    kind = cv2.MOTION_HOMOGRAPHY if model == "homography" else cv2.MOTION_AFFINE
    infrared, visible = (_magnitude(to_plane(frame)) for frame in pairs[0])
    found, correlation = np.eye(3, dtype=np.float32), 0.0
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
    for width in (80, 160, 320, 640):
        (small, to_small), (template, _) = (_shrink(plane, width) for plane in (infrared, visible))
        # OpenCV's warp takes the template's pixels to the other frame's.
        start = (to_small @ np.linalg.inv(found) @ np.linalg.inv(to_small)).astype(np.float32)
        rows = 3 if kind == cv2.MOTION_HOMOGRAPHY else 2
        try:
            correlation, warp = cv2.findTransformECC(template, small, start[:rows], kind, criteria, None, 5)
        except cv2.error:  # it did not converge: continue from the last estimate
            continue
        warp = np.vstack([warp, (0, 0, 1)])[:3]
        found = np.linalg.inv(np.linalg.inv(to_small) @ warp @ to_small)
    return Estimate(found / found[2, 2], max(float(correlation), 0.0), False)


def mutual_information(pairs: Frames, model: str) -> Estimate:
    """Maximise the mutual information of the grey levels: a coarse grid of similarities, then a compass search."""
    planes = [to_plane(frame) for frame in pairs[0]]
    size = planes[0].shape

    def score(parameters: np.ndarray, width: int) -> float:
        (infrared, to_small), (visible, _) = (_shrink(plane, width) for plane in planes)
        return information(infrared, visible, to_small @ _warp(size, *parameters) @ np.linalg.inv(to_small))

    turns = [(degrees, scale) for degrees in (-2.5, 0, 2.5) for scale in (0.96, 1.0, 1.04)]
    shifts = np.linspace(-SHIFT, SHIFT, 7)
    grid = [np.array((*turn, x, y)) for turn in turns for x in shifts for y in shifts]
    best = max(grid, key=lambda parameters: score(parameters, 80))
    units = np.array([1.0, 0.017, 5.0, 5.0])
    for width, step in ((80, 1.0), (160, 0.5), (320, 0.25), (320, 0.1), (640, 0.05)):
        value = score(best, width)
        for _ in range(20):
            around = [best + sign * step * unit for unit in np.diag(units) for sign in (-1, 1)]
            values = [score(parameters, width) for parameters in around]
            if max(values) <= value:
                break
            best, value = around[int(np.argmax(values))], max(values)
    return Estimate(_warp(size, *best), min(value, 1.0), False)


def sift(pairs: Frames, model: str) -> Estimate:
    """Match SIFT features by Lowe's ratio and fit a similarity by RANSAC; the identity if too few match."""
    detector = cv2.SIFT.create(contrastThreshold=0.02)
    (left, left_features), (right, right_features) = (
        detector.detectAndCompute(np.rint(to_plane(frame) * 255).astype(np.uint8), None) for frame in pairs[0]
    )
    matches = []
    if left_features is not None and right_features is not None and len(right) > 1:
        near = cv2.BFMatcher().knnMatch(left_features, right_features, k=2)
        matches = [first for first, second in near if first.distance < 0.9 * second.distance]
    if len(matches) < 4:
        return Estimate(np.eye(3), 0.0, False)
    points = (np.array([left[m.queryIdx].pt for m in matches]), np.array([right[m.trainIdx].pt for m in matches]))
    found, inliers = cv2.estimateAffinePartial2D(*points, ransacReprojThreshold=4.0, maxIters=5000)
    if found is None:
        return Estimate(np.eye(3), 0.0, False)
    return Estimate(np.vstack([found, (0, 0, 1)]), float(inliers.mean()), False)


METHODS: Dict[str, Callable[[Frames, str], Estimate]] = {
    "gradients": gradients,
    "ecc": ecc,
    "mutual-information": mutual_information,
    "sift": sift,
}


def information(infrared: np.ndarray, visible: np.ndarray, homography: np.ndarray, levels: int = 32) -> float:
    """Return the mutual information, in nats, of two planes in [0, 1] where the warped infrared covers the visible."""
    warped = cv2.warpPerspective(infrared, homography, visible.shape[::-1], borderValue=-1)
    inside = warped >= 0
    pairs = (warped[inside] * (levels - 1) + 0.5).astype(np.int32) * levels
    pairs += (visible[inside] * (levels - 1) + 0.5).astype(np.int32)
    joint = np.bincount(pairs, minlength=levels * levels).reshape(levels, levels) / max(len(pairs), 1)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / apart[seen])).sum())


def _magnitude(plane: np.ndarray) -> np.ndarray:
    x, y = (cv2.Sobel(cv2.GaussianBlur(plane, (0, 0), 1), cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    return cv2.magnitude(x, y)


def _shrink(plane: np.ndarray, width: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return a plane with its longer side at most ``width``, and the matrix that maps pixel coordinates to it."""
    ratio = min(1.0, width / max(plane.shape))
    small = cv2.resize(plane, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    x, y = small.shape[1] / plane.shape[1], small.shape[0] / plane.shape[0]
    return small, np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _warp(size: Sequence[int], degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    """Turn and scale a frame (H, W) about its centre, then shift it: float64 (3, 3)."""
    centre = (size[1] - 1) / 2, (size[0] - 1) / 2
    matrix = np.vstack([cv2.getRotationMatrix2D(centre, degrees, scale), (0, 0, 1)])
    matrix[:2, 2] += x, y
    return matrix


def crop(frame: np.ndarray) -> np.ndarray:
    """Cut off what the largest warp of ``distort`` may bring in from outside. Raises IrvisError for small frames."""
    height, width = frame.shape[:2]
    x, y = margins((height, width))
    if min(height - 2 * y, width - 2 * x) < 64:
        raise IrvisError(f"a frame of {height}x{width} is too small to warp; leave it out")
    return np.ascontiguousarray(frame[y : height - y, x : width - x])


def margins(size: Sequence[int]) -> Tuple[int, int]:
    """Return by how much the largest warp moves the borders of a frame (H, W), in x and y, rounded up, plus 3."""
    (height, width), turn = size, np.deg2rad(DEGREES)
    reach = [
        SHIFT + (SCALE + 1 - np.cos(turn)) * a / 2 + 1.05 * np.sin(turn) * b / 2
        for a, b in ((width, height), (height, width))
    ]
    return int(np.ceil(reach[0])) + 3, int(np.ceil(reach[1])) + 3


def narrow(frame: np.ndarray, share: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return the middle of a frame, this share of its sides, and the homography from it to the frame."""
    sides = [max(round(share * side), 1) for side in frame.shape[:2]]
    y, x = ((whole - side) // 2 for whole, side in zip(frame.shape, sides))
    middle = np.ascontiguousarray(frame[y : y + sides[0], x : x + sides[1]])
    return middle, np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def distort(infrared: np.ndarray, seed: int) -> Tuple[np.ndarray, np.ndarray]:
    """Warp an infrared frame at random; return its crop, and the homography from it to the crop of the original."""
    rng = np.random.default_rng(seed)
    matrix = _warp(
        infrared.shape,
        rng.uniform(-DEGREES, DEGREES),
        rng.uniform(1 - SCALE, 1 + SCALE),
        *rng.uniform(-SHIFT, SHIFT, 2),
    )
    warped = cv2.warpPerspective(infrared, matrix, infrared.shape[::-1], flags=cv2.INTER_CUBIC)
    x, y = margins(infrared.shape)
    to_crop = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]])
    return crop(warped), to_crop @ np.linalg.inv(matrix) @ np.linalg.inv(to_crop)


def corner_error(found: np.ndarray, true: np.ndarray, size: Sequence[int]) -> float:
    """Return the mean distance in pixels between the corners of a frame (H, W) under two homographies."""
    corners = corners_of((size[0], size[1]))
    return float(np.linalg.norm(project(found, corners) - project(true, corners), axis=1).mean())


class Trial(NamedTuple):
    """One pair, or several of one size warped alike, registered by one method."""

    data_set: str
    name: str  # of the first pair
    error_px: float  # from the data set's own registration
    recovered_px: float  # from the method's own answer before the warp
    confidence: float
    unrelated_confidence: float  # with the visible frames of other pairs
    seconds: float
    more_information: bool  # its answer before the warp has more mutual information than the data set's registration

    @property
    def failed(self) -> bool:
        """Whether the answer is wrong, however good the data set's own registration is."""
        return self.recovered_px > FAILED_PX or self.error_px > LOST_PX


def trials(
    folder: Path, method: str, frames: int, model: str, every: int = 1, share: float = 1.0, told: bool = False
) -> Iterator[Trial]:
    """Warp and register every ``every``-th pair of a data set; yield the trials. Raises IrvisError.

    One frame of each pair is cut to its middle, as of a narrower field of view, so that the infrared covers ``share``
    of the visible's width; "gradients" may be ``told``.
    """
    of_infrared, of_visible = min(share, 1.0), min(1 / share, 1.0)
    pairs = pairs_of(folder)[::every]
    data_set = data_set_name(folder)
    groups = [pairs[k : k + frames] for k in range(0, len(pairs) - frames + 1, frames)]
    if len(groups) < 2:
        raise IrvisError(f"two trials of {frames} need {2 * frames} pairs or more. Got {len(pairs)} from {folder}")
    for index, group in enumerate(tqdm(groups, desc=f"{method} {data_set}", disable=None, leave=False)):
        originals = [(read_infrared(pair.infrared), read_visible(pair.visible)) for pair in group]
        seed = zlib.crc32(group[0].name.encode())
        distorted = [distort(infrared, seed) for infrared, _ in originals]
        visible = [narrow(crop(frame), of_visible)[0] for _, frame in originals]
        plain = [(narrow(crop(frame), of_infrared)[0], other) for (frame, _), other in zip(originals, visible)]
        warped = [(narrow(frame, of_infrared)[0], other) for (frame, _), other in zip(distorted, visible)]
        from_infrared = narrow(distorted[0][0], of_infrared)[1]
        to_visible = np.linalg.inv(narrow(crop(originals[0][1]), of_visible)[1])
        placed, true = (to_visible @ warp @ from_infrared for warp in (np.eye(3), distorted[0][1]))
        others = [crop(read_visible(pair.visible)) for pair in groups[(index + 1) % len(groups)]]
        size = warped[0][0].shape
        unrelated = [
            (infrared, cv2.resize(other, wanted.shape[1::-1])) for (infrared, wanted), other in zip(warped, others)
        ]
        register = partial(gradients, share=share) if told else METHODS[method]
        before = register(plain, model).homography
        start = time.perf_counter()
        after, confidence, _ = register(warped, model)
        seconds = time.perf_counter() - start
        first, second = (to_plane(frame) for frame in plain[0])
        yield Trial(
            data_set,
            group[0].name,
            corner_error(after, true, size),
            corner_error(after, before @ np.linalg.inv(placed) @ true, size),
            confidence,
            register(unrelated, model).confidence,
            seconds,
            information(first, second, before) > information(first, second, placed),
        )


def to_markdown(found: Dict[str, List[Trial]]) -> str:
    """Return a table of errors, a row for each method and data set."""
    head = "| method | data set | trials | error, median px | > 5 px | recovered, median px | 90 % px | failed | s |"
    lines = [head, "|---|---|---:" + "|---:" * 6 + "|"]
    for method, every in found.items():
        for data_set in [*dict.fromkeys(trial.data_set for trial in every), "all"]:
            rows = [trial for trial in every if data_set in (trial.data_set, "all")]
            error, recovered = (np.array(values) for values in zip(*((row.error_px, row.recovered_px) for row in rows)))
            cells = [method, data_set, str(len(rows)), f"{np.median(error):.2f}", _share(error > FAILED_PX)]
            cells += [f"{np.median(recovered):.2f}", f"{np.percentile(recovered, 90):.2f}"]
            cells += [_share(np.array([row.failed for row in rows])), f"{np.mean([row.seconds for row in rows]):.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def to_confidence(every: List[Trial]) -> str:
    """Return Markdown lines on what the confidence of ``gradients`` is worth, on every fifth trial and the others."""
    chosen, reported = every[::CHOSEN_ON], [trial for k, trial in enumerate(every) if k % CHOSEN_ON]
    best = max(np.arange(0.01, 1, 0.01), key=lambda threshold: _separation(chosen, threshold))
    lines = [f"- best threshold on every fifth trial: {best:.2f}; in use: {TRUSTED}"]
    for name, rows in (("every fifth", chosen), ("the others", reported)):
        if not rows:
            continue
        failed = np.array([row.failed for row in rows])
        confidence = np.array([row.confidence for row in rows])
        unrelated = np.array([row.unrelated_confidence for row in rows])
        trusted = confidence >= TRUSTED
        wrong = np.concatenate([confidence[failed], unrelated])
        area = np.mean([(good > wrong).mean() for good in confidence[~failed]]) if (~failed).any() else np.nan
        lines.append(
            f"- {name}, {len(rows)} trials: {_share(failed)} failed; trusted {_share(trusted)}, of which "
            f"{_share(failed[trusted])} failed; of the good {_share(~trusted[~failed])} refused; "
            f"of the unrelated {_share(unrelated >= TRUSTED)} trusted; area under the curve {area:.3f}"
        )
    more = np.array([row.more_information for row in every])
    lines.append(f"- more mutual information than the data set's own registration: {_share(more)} of the pairs")
    return "\n".join(lines)


def _separation(rows: List[Trial], threshold: float) -> float:
    """Return the share of good answers trusted, less five times the share of wrong and unrelated ones."""
    good = [row.confidence >= threshold for row in rows if not row.failed]
    wrong = [row.confidence >= threshold for row in rows if row.failed]
    wrong += [row.unrelated_confidence >= threshold for row in rows]
    return float(np.mean(good) if good else 0) - 5 * float(np.mean(wrong))


def _share(which: np.ndarray) -> str:
    return f"{100 * np.mean(which):.1f} %" if len(which) else "none"


def parse_share(text: str) -> float:
    """Parse a share of the visible's width for argparse."""
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 10:
            return float(text)
    raise argparse.ArgumentTypeError(f"a share is 0.1 to 10. Got {text!r}")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the tables."""
    pairs = [pair for folder in arguments.folders for pair in pairs_of(folder)]
    check_outputs([arguments.json], files_of(pairs))
    if arguments.told and arguments.method not in (None, ["gradients"]):
        raise IrvisError("--told is for the method gradients alone")
    chosen = {name: getattr(arguments, name) for name in ("frames", "model", "every", "share", "told")}
    found = {
        method: [trial for folder in arguments.folders for trial in trials(folder, method, **chosen)]
        for method in arguments.method or ["gradients"]
    }
    print(to_markdown(found))
    if "gradients" in found:
        print(f"\n{to_confidence(found['gradients'])}")
    if arguments.json:
        rows = {method: [trial._asdict() for trial in each] for method, each in found.items()}
        write_json(arguments.json, {**chosen, "trials": rows})
    return 0


def main() -> int:
    """Run ``python -m irvis.benchmarks.registration``."""
    parser = argparse.ArgumentParser(description="measure automatic registration on pairs warped on purpose")
    parser.add_argument("folders", type=Path, nargs="+", help="data sets")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help="may be repeated (default: gradients, the runtime's)"
    )
    parser.add_argument("--model", choices=("similarity", "affine", "homography"), default="similarity")
    parser.add_argument(
        "--frames",
        type=parse_count,
        default=1,
        metavar="N",
        help="pairs of one size that share a warp (gradients only)",
    )
    parser.add_argument("--every", type=parse_count, default=1, metavar="N", help="take only the first of N pairs")
    parser.add_argument(
        "--share",
        type=parse_share,
        default=1.0,
        metavar="S",
        help="cut one frame to its middle, so that the infrared covers S of the visible's width (default: %(default)g)",
    )
    parser.add_argument("--told", action="store_true", help="tell the method the share (gradients only)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial here too")
    arguments = parser.parse_args()
    return guarded("registration", lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
