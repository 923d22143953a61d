"""Descriptors of what infrared and visible frames share: where edges are and how they run, but not their sign."""

import cv2
import numpy as np

from irvis.runtime.frames import to_grey
from irvis.runtime.infrared import InfraredScaler

NOISE = 1.0  # pixels of Gaussian blur before the gradient
SPREAD = 1.5  # pixels over which orientations are averaged: incoherent ones, such as noise, cancel
NEIGHBOURHOOD = 8.0  # pixels over which the contrast is normalised
FLOOR = 0.5  # times the mean gradient: weaker gradients stay weak


def to_plane(frame: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (H, W), or uint8 BGR (H, W, 3) -> float32 (H, W) in [0, 1], by percentiles."""
    return InfraredScaler()(to_grey(frame) if frame.ndim == 3 else frame)


def describe(plane: np.ndarray) -> np.ndarray:
    """float32 (H, W) -> float32 (H, W, 4): the orientation of edges, locally averaged and normalised in contrast.

    With the gradient g = m (cos t, sin t): G(m cos 2t, m sin 2t, m cos 4t, m sin 4t) / (G'(m) + FLOOR mean(m)), where
    G and G' are Gaussian blurs. Twice the angle is the same for either sign of an edge, so that an inverted frame has
    the same descriptors; four times the angle tells orientations apart more sharply. They are 0 without edges.
    """
    plane = cv2.GaussianBlur(plane, (0, 0), NOISE)
    x, y = cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)
    magnitude = cv2.magnitude(x, y) + np.float32(1e-4)  # far below one grey level; avoids 0 / 0
    cos2, sin2 = (x * x - y * y) / magnitude, 2 * x * y / magnitude
    cos4, sin4 = (cos2 * cos2 - sin2 * sin2) / magnitude, 2 * cos2 * sin2 / magnitude
    averaged = cv2.GaussianBlur(np.dstack([cos2, sin2, cos4, sin4]), (0, 0), SPREAD)
    contrast = cv2.GaussianBlur(magnitude, (0, 0), NEIGHBOURHOOD) + FLOOR * magnitude.mean()
    return averaged / contrast[..., None]
