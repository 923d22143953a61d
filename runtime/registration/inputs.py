"""The input of ``irvis calibrate``: pairs of frames from files, folders, recordings or the cameras themselves."""

import os
import re
from pathlib import Path
from typing import List, NamedTuple, Tuple

import numpy as np

from irvis.runtime.cameras.uri import without_passwords
from irvis.runtime.errors import FileError
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.pairs import Pair, match_folders
from irvis.runtime.registration.homography import Size
from irvis.runtime.sizes import format_size
from irvis.runtime.spread import spread_end_to_end
from irvis.runtime.video import is_video

PAIRS_AT_MOST = 64  # more add nothing new and take long
SETTLED = 10  # pairs until a camera's exposure has settled
SLOP_S = 0.1  # the cameras stand still; this only allows for slow ones
GRAB_S = 5.0  # the longest wait for a pair


class Frames(NamedTuple):
    """A frame pair in memory."""

    name: str
    infrared: np.ndarray  # uint8 or uint16 (H, W)
    visible: np.ndarray  # uint8, BGR (H, W, 3) or grey (H, W)

    @property
    def sizes(self) -> Tuple[Size, Size]:
        """(H, W) of the infrared and of the visible."""
        return self.infrared.shape[:2], self.visible.shape[:2]


def load_frames(infrared: str, visible: str) -> List[Frames]:
    """Read the pairs from two images or two folders, or grab one from two cameras; all have the same two sizes.

    If there are more than PAIRS_AT_MOST, that many are read, evenly spaced. Raises IrvisError.
    """
    if is_camera(infrared) != is_camera(visible):
        names = f"{without_passwords(infrared)} and {without_passwords(visible)}"
        raise FileError(f"infrared and visible must both be cameras or videos, or neither. Got {names}")
    if is_camera(infrared):
        return [_grab(infrared, visible)]
    pairs = _pairs(Path(infrared), Path(visible))
    if len(pairs) > PAIRS_AT_MOST:
        print(f"using {PAIRS_AT_MOST} of {len(pairs)} pairs, evenly spaced")
        pairs = spread_end_to_end(pairs, PAIRS_AT_MOST)
    frames = [Frames(pair.name, read_infrared(pair.infrared), read_visible(pair.visible)) for pair in pairs]
    for pair in frames:
        if pair.sizes != frames[0].sizes:
            wanted, found = (" and ".join(map(format_size, some.sizes)) for some in (frames[0], pair))
            raise FileError(f"all pairs must have the sizes of the first, {wanted}. Got {found} in {pair.name}")
    return frames


def is_camera(text: str) -> bool:
    """Return whether a text names a camera or a video (see ``irvis.runtime.cameras.uri``), not an image or a folder."""
    named = "://" in text or re.match(r"(gst|bag|v4l2|csi):|/dev/", text) is not None
    return named or (is_video(Path(text)) and not os.path.isdir(text))


def _grab(infrared: str, visible: str) -> Frames:
    """Return a synchronised pair once the exposure has settled, or the last pair of recordings that end earlier."""
    from irvis.runtime.cameras import PairedSources

    found = None
    with PairedSources(infrared, visible, slop_s=SLOP_S) as sources:
        for _ in range(SETTLED):
            pair = sources.read(GRAB_S)
            if pair is None:
                break
            found = Frames("the cameras", pair.infrared.image.copy(), pair.visible.image.copy())
            pair.release()
        if found is None:
            counts = " and ".join(f"{source.status.frames} {role}" for role, source in sources.sources.items())
            names = f"{without_passwords(infrared)} and {without_passwords(visible)}"
            raise FileError(f"no pair came from {names} within {GRAB_S:g} s, but {counts} frames")
    return found


def _pairs(infrared: Path, visible: Path) -> List[Pair]:
    for path in (infrared, visible):
        if not path.exists():
            raise FileError(f"file or folder not found: {path}")
    if infrared.is_dir() != visible.is_dir():
        raise FileError(f"infrared and visible must both be images, or both folders. Got {infrared} and {visible}")
    return match_folders(infrared, visible) if infrared.is_dir() else [Pair(visible.stem, infrared, visible)]
