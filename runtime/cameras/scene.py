"""A test source that needs no camera: a generated scene that moves past, the same in infrared and visible."""

import functools
import math
from typing import Tuple

import cv2
import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras.reader import INFRARED, Reading
from irvis.runtime.cameras.uri import SourceUri, positive_number, whole_number
from irvis.runtime.errors import FileError
from irvis.runtime.samples import SCENES, make_scene
from irvis.runtime.sizes import DEFAULT_SIZE, MINIMUM

SPEED = 0.15  # frame widths per second
COUNTS = (7000, 12)  # of 16-bit infrared: those of a cold scene, and counts per grey level


class SceneReader:
    """Reads ``test://street?width=640&height=480&fps=30``, or smoke or glare; infrared also takes ``bits=16``.

    The scene's position depends only on the time: two sources that start together show the same. Raises FileError.
    """

    live = False

    def __init__(self, uri: SourceUri, role: str) -> None:
        name = uri.location or SCENES[0]
        if name not in SCENES:
            raise FileError(
                f"a test source is one of {', '.join(f'test://{scene}' for scene in SCENES)}. Got {uri.text}"
            )
        height = uri.option("height", whole_number, DEFAULT_SIZE[0])
        width = uri.option("width", whole_number, DEFAULT_SIZE[1])
        if not (MINIMUM <= height <= 4096 and MINIMUM <= width <= 4096):
            raise FileError(
                f"width and height must be {MINIMUM} to 4096 pixels. Got {width} and {height} in {uri.text}"
            )
        bits = uri.option("bits", whole_number, 8)
        if bits not in (8, 16) or (bits == 16 and role != INFRARED):
            raise FileError(f"bits must be 8, or 16 for infrared. Got {bits} in {uri.text}")
        self.fps: float = uri.option("fps", positive_number, 30.0)
        infrared, visible = _panorama(name, height, width)
        self._picture = infrared if role == INFRARED else visible
        if bits == 16:
            self._picture = COUNTS[0] + COUNTS[1] * infrared.astype(np.uint16)
        self._count = 0

    def read(self, buffers: Buffers) -> Reading:
        """Return the next frame; the scene never ends."""
        stamp_s = self._count / self.fps
        self._count += 1
        picture = self._picture
        width = picture.shape[1] // 3
        left = round(stamp_s * SPEED * width) % (2 * width)
        image = buffers("scene", (picture.shape[0], width, *picture.shape[2:]), picture.dtype)
        np.copyto(image, picture[:, left : left + width])
        return Reading(image, stamp_s)

    def skip(self, until_s: float) -> int:
        """Pass over the frames with an earlier stamp; return their number."""
        number, self._count = self._count, max(self._count, math.ceil(until_s * self.fps))
        return self._count - number

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


@functools.lru_cache(maxsize=2)
def _panorama(name: str, height: int, width: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the scene, its mirror image and the scene again, side by side: a view of ``width`` can move for ever.

    Painting takes seconds at DEFAULT_SIZE and a minute at 1080x1920, so a scene of more pixels is enlarged to them.
    """
    share = min(1.0, math.sqrt(math.prod(DEFAULT_SIZE) / (height * width)))
    painted = make_scene(name, math.ceil(height * share), math.ceil(width * share))
    halves = (cv2.resize(half, (width, height), interpolation=cv2.INTER_CUBIC) for half in painted)
    infrared, visible = (np.concatenate([half, half[:, ::-1], half], axis=1) for half in halves)
    return infrared, visible
