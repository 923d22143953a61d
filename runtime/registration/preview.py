"""A picture for judging a registration, and a description of what it does."""

import math
from typing import Optional

import cv2
import numpy as np

from irvis.runtime.frames import to_grey
from irvis.runtime.infrared import InfraredScaler
from irvis.runtime.panels import side_by_side, stack_rows
from irvis.runtime.registration.homography import Registration, corners_of, project
from irvis.runtime.registration.warp import Warp

TILES = 8  # of the mosaic, over the height
USED, LEFT_OUT, FROM_INFRARED = (80, 255, 80), (0, 200, 255), (255, 80, 255)  # BGR


def draw_preview(
    registration: Registration,
    infrared: np.ndarray,
    visible: np.ndarray,
    points: Optional[np.ndarray] = None,
    used: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Draw infrared and visible together, as they come on the left and registered on the right: uint8 BGR (H, 1600, 3).

    Above, the infrared's edges in orange over the visible, with the pairs of points; below, both in alternating tiles.

    Args:
        registration: the registration to judge.
        infrared: uint8 or uint16 (H, W).
        visible: uint8, BGR (H, W, 3) or grey (H, W).
        points: float64 (N, 4), as ``points.fit`` takes; each is drawn as a ring at its visible point and a cross at
            its mapped infrared point.
        used: bool (N,), which of them the fit uses.
    """
    infrared = cv2.convertScaleAbs(InfraredScaler()(infrared.astype(np.uint16)), alpha=255.0)
    visible = visible if visible.ndim == 3 else cv2.cvtColor(visible, cv2.COLOR_GRAY2BGR)
    warp = Warp(registration)
    before = cv2.resize(infrared, visible.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    edges = [_edges_over(visible, before), _edges_over(visible, warp(infrared), warp.outside)]
    if points is not None and used is not None:
        _draw_points(edges[1], points, used, project(registration.homography, points[:, :2]))
    tiles = [_mosaic(visible, before), _mosaic(visible, warp(infrared), warp.outside)]
    return stack_rows([side_by_side(row, ("as they come", "registered")) for row in (edges, tiles)])


def describe(registration: Registration) -> str:
    """Describe in one line what a registration does to the infrared: magnify, turn, shift and stretch."""
    (height, width), matrix = registration.infrared_size, registration.homography
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    there = project(matrix, centre)
    right, down = there - (np.array(registration.visible_size[::-1]) - 1) / 2
    jacobian = _jacobian(matrix, centre)
    degrees = math.degrees(math.atan2(jacobian[1, 0] - jacobian[0, 1], jacobian[0, 0] + jacobian[1, 1]))
    scales = [np.linalg.svd(_jacobian(matrix, corner), compute_uv=False) for corner in corners_of((height, width))]
    stretch = np.max(scales) / np.min(scales) - 1
    turned = f"{abs(degrees):.2f} degrees {'clockwise' if degrees >= 0 else 'counter-clockwise'}"
    aside = f"{abs(right):.1f} px {'right' if right >= 0 else 'left'} of"
    apart = f"{abs(down):.1f} px {'below' if down >= 0 else 'above'}"
    text = (
        f"the infrared is magnified {math.sqrt(np.linalg.det(jacobian)):.3f} times and turned {turned}; "
        f"its centre lies {aside} and {apart} the visible's"
    )
    return text + (f"; its scale differs by {stretch:.1%} over the frame" if stretch >= 0.001 else "")


def _jacobian(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the derivative (2, 2) of a homography at a point."""
    depth = matrix[2, :2] @ point + matrix[2, 2]
    return (matrix[:2, :2] - np.outer(project(matrix, point), matrix[2, :2])) / depth


def _edges_over(visible: np.ndarray, infrared: np.ndarray, outside: Optional[np.ndarray] = None) -> np.ndarray:
    """Draw the infrared's edges over the visible in grey: edges show whether the two coincide, while hues mislead.

    The strongest twentieth of the gradients is full orange.
    """
    smooth = cv2.GaussianBlur(infrared.astype(np.float32), (0, 0), 1.5)
    strength = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    strength = np.clip(strength / max(float(np.percentile(strength, 95)), 1e-6), 0, 1)[..., None]
    if outside is not None:
        strength[outside > 0] = 0
    grey = cv2.cvtColor(to_grey(visible), cv2.COLOR_GRAY2BGR)
    return np.rint(grey * (1 - strength) + strength * np.array((0, 140, 255))).astype(np.uint8)


def _mosaic(visible: np.ndarray, infrared: np.ndarray, outside: Optional[np.ndarray] = None) -> np.ndarray:
    side = max(1, visible.shape[0] // TILES)
    row, column = np.ogrid[: visible.shape[0], : visible.shape[1]]
    infrared_here = (row // side + column // side) % 2 == 1
    if outside is not None:
        infrared_here &= outside == 0
    return np.where(infrared_here[..., None], infrared[..., None], visible)


def _draw_points(picture: np.ndarray, points: np.ndarray, used: np.ndarray, mapped: np.ndarray) -> None:
    size = max(6, picture.shape[0] // 60)
    for (x, y), (u, v), is_used in zip(np.rint(points[:, 2:]).astype(int), np.rint(mapped).astype(int), used):
        ring = (int(x), int(y))
        cv2.circle(picture, ring, size, USED if is_used else LEFT_OUT, 2, cv2.LINE_AA)
        cross = (int(u), int(v))
        cv2.line(picture, ring, cross, FROM_INFRARED, 1, cv2.LINE_AA)
        cv2.drawMarker(picture, cross, FROM_INFRARED, cv2.MARKER_TILTED_CROSS, size, 2, cv2.LINE_AA)
