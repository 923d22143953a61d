"""Video files in and out, through OpenCV."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Callable, Iterator, Optional, Tuple, Union

import cv2
import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.errors import EndedEarly, FileError, printable
from irvis.runtime.files import replacing
from irvis.runtime.frames import to_grey
from irvis.runtime.sizes import format_size

FPS = 30.0  # of a video that does not report its rate
FASTEST_FPS = 1000.0
RESERVE = 8 << 20  # bytes of disk space kept for a video's index, without which most players reject it
COUNTED = (".mp4", ".avi", ".mov")  # store their frame count; for others OpenCV estimates it from rate and length
LACKING = 0.02  # of a video's frames that may be missing at its end, or one: some count frames that no decoder returns
FOURCC = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".mov": "mp4v"}

logger = logging.getLogger("irvis.video")


def is_video(path: Path) -> bool:
    """Return whether a file is a video that can be read, judging by its suffix."""
    return path.suffix.lower() in FOURCC


class VideoReader:
    """Iterates over the frames of a video file: uint8 BGR (H, W, 3). Raises FileError if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        # Files only: OpenCV would wait for a pipe, and take any other name for an address or a pattern of names.
        self._capture = cv2.VideoCapture(utf8_name(path)) if os.path.isfile(path) else cv2.VideoCapture()
        if not self._capture.isOpened():
            raise FileError(f"not a video that OpenCV can read: {path}")
        self.fps = told_fps(self._capture) or FPS
        self.count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))  # 0 if the container does not say
        self.read = 0
        self._path, self._ended = path, False

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            frame = self.next_frame(Buffers())
            if frame is None:
                return
            yield frame

    def next_frame(self, buffers: Buffers) -> Optional[np.ndarray]:
        """Return the next frame, in memory of ``buffers``, or None at the end."""
        frame = retrieve(self._capture, buffers) if self._capture.grab() else None
        self.read += frame is not None
        self._ended = frame is None
        return frame

    def check_end(self) -> None:
        """Raise EndedEarly if the file ended after clearly fewer frames than its header says."""
        lacking = self.count - self.read
        if self._ended and self._path.suffix.lower() in COUNTED and lacking > max(1, LACKING * self.count):
            raise EndedEarly(
                f"{self._path} ends after {self.read} of its {self.count} frames: it is cut off or damaged; copy it "
                "again, or use what was made from them"
            )

    def grey(self) -> Iterator[np.ndarray]:
        """Iterate over the frames' luminance: uint8 (H, W)."""
        return (to_grey(frame) for frame in self)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def utf8_name(name: Union[str, Path]) -> str:
    """Return a name as OpenCV takes it. Raises FileError if it is not UTF-8: OpenCV would end the process."""
    try:
        str(name).encode()
    except UnicodeEncodeError as error:
        raise FileError(f"OpenCV takes videos and cameras only by names in UTF-8: {name}; rename it") from error
    return str(name)


def told_fps(capture: cv2.VideoCapture) -> Optional[float]:
    """Return the frames per second of an open capture; None if unknown, for which OpenCV has 0, -1, inf, NaN, 90000."""
    fps: float = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= FASTEST_FPS else None


def retrieve(capture: cv2.VideoCapture, buffers: Buffers) -> Optional[np.ndarray]:
    """Return the frame that was grabbed, as OpenCV decodes it, in memory of ``buffers``; None if decoding fails."""
    there, frame = capture.retrieve(buffers.latest("retrieved"))
    return buffers.keep("retrieved", frame) if there else None


@contextlib.contextmanager
def video_writer(path: Optional[Path], fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends uint8 frames, (H, W) or BGR (H, W, 3), to a video that appears when it is complete.

    Without a frame, no video appears.

    If ``path`` is None, the function must not be called. Raises FileError if the video cannot be written; the function
    does so while the disk still has room for the end of the video, because OpenCV does not report a full disk. A video
    that still lacks its end, as on a disk that something else filled, replaces no older one: FileError at the end.
    """
    if path is None:
        yield _no_video
        return
    if not is_video(path):
        raise FileError(f"cannot write a video as {path}: its suffix must be one of {' '.join(FOURCC)}")
    name = printable(utf8_name(path))
    code = cv2.VideoWriter.fourcc(*FOURCC[path.suffix.lower()])
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    writer: Optional[cv2.VideoWriter] = None
    temporary = path
    size: Tuple[int, ...] = ()
    with contextlib.ExitStack() as stack:

        def write(frame: np.ndarray) -> None:
            nonlocal writer, temporary, size
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < RESERVE:
                raise FileError(f"cannot write {path}: its disk is full ({RESERVE >> 20} MiB are kept for its index)")
            if writer is None:  # only now, so that a video without frames replaces no other
                with contextlib.ExitStack() as opening:
                    temporary = opening.enter_context(replacing(path))
                    opened = cv2.VideoWriter(str(temporary), code, fps, (frame.shape[1], frame.shape[0]))
                    if not opened.isOpened():
                        raise FileError(f"OpenCV has no encoder for {path}; try .avi")
                    stack.enter_context(opening.pop_all())
                writer, size = opened, frame.shape[:2]
                kept = size[0] // 2 * 2, size[1] // 2 * 2
                if kept != size and opened.getBackendName() == "FFMPEG":
                    told = format_size(kept), format_size(size)
                    logger.warning(
                        "%s holds the upper left %s of the frames of %s: OpenCV writes even sides only", name, *told
                    )
            if frame.shape[:2] != size:  # OpenCV would drop it silently
                raise FileError(
                    f"frames changed from {format_size(size)} to {format_size(frame.shape)}; {path} ends there"
                )
            writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame)

        try:
            yield write
        finally:
            if writer is not None:
                writer.release()
        if writer is not None:
            _check_plays(temporary, path)


def _check_plays(temporary: Path, path: Path) -> None:
    """Raise FileError if a video that was just written does not play: OpenCV does not report a write that failed."""
    capture = cv2.VideoCapture(str(temporary))
    plays = capture.isOpened() and capture.grab()
    capture.release()
    if not plays:
        raise FileError(
            f"cannot write {path}: what was recorded does not play, so the disk or a quota must have become full; make "
            "room. A file of that name that was there before was kept"
        )


def _no_video(frame: np.ndarray) -> None:
    raise AssertionError("no video was asked for")
