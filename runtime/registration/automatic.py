"""Find where infrared pixels lie in the visible frame from the frames alone, by the orientation of their edges.

It combines frames of one rigid camera pair, since one scene resolves what another leaves ambiguous. ``_search`` tries
every similarity near an initial one at low resolution, for each share of the visible's width that the infrared may
cover; ``_refine`` follows the best's correlation uphill from coarse to fine.
``irvis.benchmarks.registration`` measures this beside the methods that it replaced.
"""

import contextlib
import itertools
from typing import List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from irvis.runtime.errors import FrameError, one_line
from irvis.runtime.frames import check_pair
from irvis.runtime.registration.descriptors import describe, to_plane
from irvis.runtime.registration.homography import corners_of, project
from irvis.runtime.sizes import MINIMUM, format_size

MODELS = ("similarity", "affine", "homography")
TRUSTED = 0.4  # the lowest confidence to trust: irvis.benchmarks.registration measures what it lets through

# The search, in pixels of a visible frame scaled to SEARCH_WIDTH.
SEARCH_WIDTH = 240
BLOCK, STRIDE, REACH = 24, 18, 30
ROTATIONS = np.deg2rad(np.arange(-5, 5.1, 0.5))
SCALES = np.exp(np.arange(-0.08, 0.081, 0.01))
APART = 9  # pixels of shift beyond which another peak counts as another answer
# Of the visible's width that the infrared covers. Neighbours overlap without their outermost SCALES. Equal fields of
# view come first, to be kept where the frames show nothing.
SHARES = 1.15 ** np.array([0, -1, 1, -2, 2, -3, -4, -5])

# The refinement: the visible frame's longer side at each level, in pixels, none enlarged.
LEVELS = (160, 320, 640)
CELL = 16  # pixels; gradients are summed over cells before they are combined
STEPS, LONGEST_STEP, SHORTEST_STEP = 12, 2.0, 0.02  # of a level; steps in its pixels, at the corners
LEAST_GAIN = 0.02  # lower limit of ``_refine``'s gain: frames with nothing in common would ask for endless steps
BORDER = 4  # pixels that the edge of the infrared frame may affect

Planes = List[Tuple[np.ndarray, np.ndarray]]  # infrared and visible, float32


class Estimate(NamedTuple):
    """Where infrared pixels lie in the visible frame, and how far to trust that."""

    homography: np.ndarray  # float64 (3, 3), infrared pixel (x, y, 1) to visible pixel, h33 = 1
    confidence: float  # in [0, 1]
    trusted: bool  # confidence >= TRUSTED


def estimate(
    pairs: Sequence[Tuple[np.ndarray, np.ndarray]],
    *,
    initial: Optional[np.ndarray] = None,
    model: str = "similarity",
    progress: bool = False,
) -> Estimate:
    """Estimate the homography of a rigid camera pair from one or more of its frame pairs.

    Args:
        pairs: (infrared, visible): uint8 or uint16 (H, W) and uint8 BGR (h, w, 3) or grey (h, w). The sizes of the two
            may differ, but not from pair to pair.
        initial: the homography (3, 3) to start from, right to about 5 degrees, 8 % of scale and an eighth of the
            visible frame's longer side. None takes both frames to have the same centre, and starts from each of SHARES.
        model: "similarity", "affine" or "homography": what the last step may change beside shift, rotation and scale.
        progress: show a bar on a terminal.

    Confidence is q / (1 + q) with q = (1 - second / best peak of the search) / the expected error at the corners, in
    pixels of the finest level; 0 if the best peak is at the largest rotation or scale searched, or the smallest, since
    the right answer may lie beyond. Raises FrameError for frames that do not fit, ValueError for an unknown model.
    """
    if model not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}. Got {model!r}")
    _check(pairs)
    infrared, visible = pairs[0][0].shape, pairs[0][1].shape[:2]
    starts = [fit_width(infrared, visible, share) for share in SHARES] if initial is None else [_checked(initial)]
    planes = [(to_plane(pair[0]), to_plane(pair[1])) for pair in pairs]
    bar = tqdm(starts, desc="searching", disable=None if progress else True, leave=False)
    # The search from a neighbouring start has the same peak, but perhaps at its edge.
    best = max((_search(planes, start) for start in bar), key=lambda peak: (peak.is_inside, peak.distinction))
    found, distinction, is_inside = best
    if distinction <= 0:
        return Estimate(starts[0], 0.0, False)
    for width in LEVELS:
        # More freedom only once a similarity has settled: at low resolution too little detail constrains it.
        found, error_px = _refine(planes, found, width, model if width == LEVELS[-1] else "similarity")
    confidence = float(distinction / (distinction + error_px)) if is_inside else 0.0
    return Estimate(found, confidence, confidence >= TRUSTED)


def _check(pairs: Sequence[Tuple[np.ndarray, np.ndarray]]) -> None:
    """Raise FrameError unless all pairs are frames of the same two cameras."""
    if not pairs:
        raise FrameError("an estimate needs one pair of frames or more. Got none")
    for infrared, visible in pairs:
        # Each against a valid frame of its own size, since here the two sizes may differ.
        check_pair(infrared, _blank(infrared))
        check_pair(_blank(visible), visible)
    for name, index in (("infrared", 0), ("visible", 1)):
        sizes = sorted({pair[index].shape[:2] for pair in pairs})
        if len(sizes) > 1:
            raise FrameError(
                f"{name} frames of one camera must have one size. Got {', '.join(map(format_size, sizes))}"
            )


def _checked(initial: np.ndarray) -> np.ndarray:
    """Return an initial homography scaled to h33 = 1, as ``_scale`` expects it. Raises FrameError."""
    with contextlib.suppress(TypeError, ValueError):  # no numbers, or rows of different lengths
        homography = np.array(initial, np.float64)
        if homography.shape == (3, 3) and homography[2, 2]:
            homography = homography / homography[2, 2]
            if np.isfinite(homography).all() and abs(np.linalg.det(homography)) >= 1e-12:
                return homography
    raise FrameError(f"initial must be an invertible 3x3 homography, h33 not 0. Got {one_line(initial, 100)}")


def _blank(frame: np.ndarray) -> np.ndarray:
    return np.zeros(np.shape(frame)[:2] if np.ndim(frame) > 1 else (MINIMUM, MINIMUM), np.uint8)


def fit_width(infrared: Sequence[int], visible: Sequence[int], share: float = 1.0) -> np.ndarray:
    """Return the homography between frames (H, W) by which the infrared covers this share of the visible's width.

    Their centres coincide. It is a start for ``estimate`` where one camera sees clearly more than the other.
    """
    scale = share * visible[1] / infrared[1]
    return _similarity(infrared, scale, 0.0, (visible[1] - infrared[1]) / 2, (visible[0] - infrared[0]) / 2)


def _similarity(size: Sequence[int], scale: float, angle: float, x: float, y: float) -> np.ndarray:
    """Return the matrix that scales a frame (H, W) and turns it (radians) about its centre, then shifts it: (3, 3)."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    centre = (np.array([size[1], size[0]]) - 1) / 2
    return np.vstack([np.column_stack([turn, centre - turn @ centre + (x, y)]), (0, 0, 1)])


class _Scaled(NamedTuple):
    """Frames at one level of resolution."""

    planes: Planes
    from_infrared: np.ndarray  # scaled infrared pixel to infrared pixel, (3, 3)
    to_visible: np.ndarray  # visible pixel to scaled visible pixel, (3, 3)
    size: Tuple[int, int]  # of the scaled visible frame, (H, W)

    def describe_infrared(self, infrared: np.ndarray, homography: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Warp an infrared plane to the visible frame: descriptors (H, W, 4), and 1 where they count (H, W, 1)."""
        matrix, size = self.to_visible @ homography @ self.from_infrared, self.size[::-1]
        warped = cv2.warpPerspective(infrared, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        inside = cv2.warpPerspective(np.ones_like(infrared), matrix, size)
        # Padded with zeros, so that the frame's own edge is eroded too.
        inside = np.pad((inside > 0.999).astype(np.float32), 1)
        inside = cv2.erode(inside, np.ones((2 * BORDER + 1, 2 * BORDER + 1), np.uint8))[1:-1, 1:-1]
        return describe(warped), inside[..., None]

    def move(self, homography: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return the homography followed by a step between scaled visible pixels."""
        moved = np.linalg.inv(self.to_visible) @ step @ self.to_visible @ homography
        return moved / moved[2, 2]


def _scale(planes: Planes, homography: np.ndarray, width: int) -> _Scaled:
    """Scale the visible frames to a longer side of at most ``width``, and infrared ones down to the same detail."""
    infrared, visible = planes[0]
    ratio = min(1.0, width / max(visible.shape))
    sizes = []
    for plane, factor in ((infrared, ratio * np.sqrt(abs(np.linalg.det(homography[:2, :2])))), (visible, ratio)):
        sizes.append(tuple(max(round(side * min(factor, 1.0)), 8) for side in plane.shape))
    scaled = [
        tuple(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane, size in zip(pair, sizes))
        for pair in planes
    ]
    from_infrared, to_visible = _resizing(sizes[0], infrared.shape), _resizing(visible.shape, sizes[1])
    return _Scaled(scaled, from_infrared, to_visible, sizes[1])


def _resizing(before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """Return the matrix (3, 3) by which resizing a frame (H, W) maps its pixel coordinates."""
    y, x = after[0] / before[0], after[1] / before[1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


class _Peak(NamedTuple):
    """What a search found."""

    homography: np.ndarray
    distinction: float  # 1 - second / best peak; 0 if the frames show nothing
    is_inside: bool  # whether the best is none of the outermost rotations and scales


def _search(planes: Planes, homography: np.ndarray) -> _Peak:
    """Find the similarity to apply after ``homography`` that most blocks of the infrared frames vote for.

    Each block's correlation with the visible frame is computed once, for every shift. Each rotation and scale then
    determines how far each block's table is shifted before the tables are summed.
    """
    scaled = _scale(planes, homography, SEARCH_WIDTH)
    height, width = scaled.size
    block = min(BLOCK, height, width)
    rows, columns = (range((side - block) % STRIDE // 2, side - block + 1, STRIDE) for side in scaled.size)
    corners = list(itertools.product(rows, columns))
    shifts = 2 * REACH + 1
    votes = np.zeros((len(corners), shifts, shifts), np.float32)
    for infrared, visible in scaled.planes:
        moving, inside = scaled.describe_infrared(infrared, homography)
        # Most structures run along the axes in both frames: if not subtracted, that mean votes for the largest overlap.
        moving = (moving - moving.mean((0, 1))) * inside
        fixed = describe(visible)
        fixed = np.pad(fixed - fixed.mean((0, 1)), ((REACH, REACH), (REACH, REACH), (0, 0)))
        for table, (y, x) in zip(votes, corners):
            window = fixed[y : y + block + 2 * REACH, x : x + block + 2 * REACH]
            table += cv2.matchTemplate(window, moving[y : y + block, x : x + block], cv2.TM_CCORR)
    votes = np.pad(votes - votes.mean((1, 2), keepdims=True), ((0, 0), (REACH, REACH), (REACH, REACH)))
    offsets = np.array([(x, y) for y, x in corners]) + (block - np.array([width, height])) / 2
    scores = np.zeros((len(ROTATIONS), len(SCALES), shifts, shifts), np.float32)
    for (i, angle), (j, scale) in itertools.product(enumerate(ROTATIONS), enumerate(SCALES)):
        turn = _similarity((1, 1), scale, angle, 0, 0)[:2, :2]
        moves = np.clip(np.rint(offsets @ turn.T - offsets).astype(int), -REACH, REACH) + REACH
        score = scores[i, j]
        for table, (x, y) in zip(votes, moves.tolist()):
            score += table[y : y + shifts, x : x + shifts]
    i, j, y, x = map(int, np.unravel_index(scores.argmax(), scores.shape))
    best = float(scores[i, j, y, x])
    step = _similarity(scaled.size, SCALES[j], ROTATIONS[i], x - REACH, y - REACH)
    scores[:, :, max(0, y - APART) : y + APART + 1, max(0, x - APART) : x + APART + 1] = 0
    is_inside = 0 < i < len(ROTATIONS) - 1 and 0 < j < len(SCALES) - 1
    return _Peak(scaled.move(homography, step), 1 - float(scores.max()) / best if best > 0 else 0.0, is_inside)


def _refine(planes: Planes, homography: np.ndarray, width: int, model: str) -> Tuple[np.ndarray, float]:
    """Climb to the nearest maximum of the descriptors' correlation by Newton's method.

    With M the infrared and F the visible descriptors at x, the sum of M F(x + J p) is maximal where the sum of
    J' grad F (M - a F) is 0, and its second derivative is about -a J' grad F grad F' J, with ``gain`` a = sum M F /
    sum F F. The variation of that sum from cell to cell gives the covariance of p (the sandwich estimator). Returns the
    homography and the error expected at the corners, including the last step, in pixels of this level.
    """
    scaled = _scale(planes, homography, width)
    size = scaled.size
    rows, columns = (np.arange(0, side, CELL) for side in size)
    # Coordinates from -1 to 1 about the centre, so that the parameters are of one magnitude.
    unit = np.hypot(*size) / 2
    to_unit = _similarity((1, 1), 1 / unit, 0, *(-(np.array(size[::-1]) - 1) / 2 / unit))
    starts = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    cells = (starts + np.minimum(starts + CELL, size[::-1]) - 1) / 2  # their centres
    motion, corner_motion = (unit * _jacobian(project(to_unit, at), model) for at in (cells, corners_of(size)))
    fixed = [_with_gradients(describe(visible)) for _, visible in scaled.planes]
    for _ in range(STEPS):
        sums = []
        for (infrared, _), (gradients, products) in zip(scaled.planes, fixed):
            moving, inside = scaled.describe_infrared(infrared, homography)
            images = np.concatenate([_products(gradients, [moving]), products], axis=2) * inside
            sums.append(np.add.reduceat(np.add.reduceat(images, rows, 0), columns, 1))
        # For each frame and cell: M, F and grad F (axis 2), each times F and grad F (axis 3).
        table = np.array(sums, np.float64).reshape(len(sums), len(cells), 4, 3)
        m_f, m_grad, f_f, f_grad = table[:, :, 0, 0], table[:, :, 0, 1:], table[:, :, 1, 0], table[:, :, 1, 1:]
        grad_grad = table[:, :, 2:, 1:].sum(0)
        gain = max(m_f.sum() / max(f_f.sum(), 1e-12), LEAST_GAIN)
        uphill = np.einsum("cin,fci->fcn", motion, m_grad - gain * f_grad)
        inverse = np.linalg.pinv(gain * np.einsum("cin,cij,cjm->nm", motion, grad_grad, motion), hermitian=True)
        step = inverse @ uphill.sum((0, 1))
        length = float(np.linalg.norm(corner_motion @ step, axis=1).max())
        limited = step * min(1.0, LONGEST_STEP / max(length, 1e-12))
        homography = scaled.move(homography, np.linalg.inv(to_unit) @ _motion(limited, model) @ to_unit)
        if length < SHORTEST_STEP:
            break
    covariance = inverse @ np.einsum("fcn,fcm->nm", uphill, uphill) @ inverse
    variances = np.einsum("kin,nm,kim->k", corner_motion, covariance, corner_motion)
    return homography, float(np.sqrt(variances).mean()) + length


def _with_gradients(descriptors: np.ndarray) -> Tuple[List[np.ndarray], np.ndarray]:
    """Return descriptors F, (H, W, 4), with dF/dx and dF/dy, and the pairwise products of these three, (H, W, 9)."""
    gradients = [descriptors, cv2.Sobel(descriptors, -1, 1, 0) / 8, cv2.Sobel(descriptors, -1, 0, 1) / 8]
    return gradients, _products(gradients, gradients)


def _products(left: List[np.ndarray], right: List[np.ndarray]) -> np.ndarray:
    """Multiply each of the right with each of the left, (H, W, C), and sum over the channels: (H, W, N)."""
    return np.dstack([np.einsum("ijc,ijc->ij", one, other) for other in right for one in left])


def _motion(step: np.ndarray, model: str) -> np.ndarray:
    """Return the homography (3, 3) of a model's parameters; at 0 it is the identity."""
    if model == "similarity":
        stretch, turn, x, y = step
        return np.array([[1 + stretch, -turn, x], [turn, 1 + stretch, y], [0, 0, 1]])
    return np.eye(3) + np.append(step, np.zeros(9 - len(step))).reshape(3, 3)


def _jacobian(points: np.ndarray, model: str) -> np.ndarray:
    """Return the derivative of points (N, 2) with respect to each parameter of ``_motion`` at 0: (N, 2, parameters)."""
    x, y = points.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    if model == "similarity":
        rows = [(x, y), (-y, x), (one, zero), (zero, one)]
    else:
        rows = [(x, zero), (y, zero), (one, zero), (zero, x), (zero, y), (zero, one)]
        rows += [(-x * x, -x * y), (-x * y, -y * y)] if model == "homography" else []
    return np.array(rows).transpose(2, 1, 0)
