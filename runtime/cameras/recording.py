"""Recordings as sources: a video file, or a folder of images. A stamp is the frame number divided by the frame rate."""

import math
import os
from pathlib import Path
from typing import List, Optional, Sequence

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras.reader import INFRARED, Reading, as_role
from irvis.runtime.cameras.uri import SourceUri, positive_number, yes_or_no
from irvis.runtime.errors import FileError
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.pairs import images_by_stem
from irvis.runtime.video import VideoReader

FPS = 30.0  # default of a folder, and of a video whose frame rate is unknown
SKIPPED = 10  # the most frames of a video that are passed over at once: that takes time too, and some must be shown


class VideoFileReader:
    """Reads a video file: ``file://VIDEO?fps=30&loop=1``. Raises FileError if it cannot be opened.

    Reading raises EndedEarly at the end of a truncated video.
    """

    live = False

    def __init__(self, uri: SourceUri, role: str) -> None:
        self._path, self._role = Path(uri.location), role
        if not os.path.isfile(self._path):
            raise FileError(f"video not found: {self._path}")
        self._video = _Video(self._path)
        self._loop = uri.option("loop", yes_or_no, False)
        self.fps: float = uri.option("fps", positive_number, self._video.fps)
        self.loop_s = self._video.count / self.fps if self._loop and self._video.count else None
        self._count = 0

    def read(self, buffers: Buffers) -> Optional[Reading]:
        """Return the next frame; None at the end."""
        frame = self._video.next_frame(buffers)
        if frame is None:
            self._video.check_end()
        if frame is None and self._loop:
            self._video.close()
            self._video = _Video(self._path)
            frame = self._video.next_frame(buffers)
        if frame is None:
            return None
        self._count += 1
        return Reading(as_role(frame, self._role, buffers), (self._count - 1) / self.fps)

    def skip(self, until_s: float) -> int:
        """Pass over the frames with an earlier stamp, at most SKIPPED and not the file's end; return their number."""
        overdue = min(SKIPPED, math.ceil(until_s * self.fps) - self._count)
        skipped = 0
        while skipped < overdue and self._video.skip():
            skipped += 1
        self._count += skipped
        return skipped

    def close(self) -> None:
        """Close the file."""
        self._video.close()


class _Video(VideoReader):
    """A VideoReader that can pass over a frame."""

    def skip(self) -> bool:
        """Pass over the next frame, without converting it to BGR; return False at the end."""
        there = self._capture.grab()
        self.read += there
        return there


class FolderReader:
    """Reads the images of a folder in the order of their names: ``folder://DIR?fps=30&loop=1``.

    ``files``: read these instead, for example when two folders are matched by name. Raises FileError.
    """

    live = False

    def __init__(self, uri: SourceUri, role: str, files: Optional[Sequence[Path]] = None) -> None:
        self._files: List[Path] = list(files or sorted(images_by_stem(Path(uri.location)).values()))
        self._read = read_infrared if role == INFRARED else read_visible
        self._loop = uri.option("loop", yes_or_no, False)
        self.fps: float = uri.option("fps", positive_number, FPS)
        self.loop_s = len(self._files) / self.fps if self._loop else None
        self._count = 0

    def read(self, buffers: Buffers) -> Optional[Reading]:
        """Return the next image; None after the last."""
        if self._count >= len(self._files) and not self._loop:
            return None
        number, self._count = self._count, self._count + 1  # counted first, so that a bad file is skipped
        return Reading(self._read(self._files[number % len(self._files)]), number / self.fps)

    def skip(self, until_s: float) -> int:
        """Pass over the images with an earlier stamp, but not the last; return their number."""
        number, due = self._count, math.ceil(until_s * self.fps)
        self._count = max(number, due if self._loop else min(due, len(self._files) - 1))
        return self._count - number

    def close(self) -> None:
        """Do nothing: no file stays open."""
