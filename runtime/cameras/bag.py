"""Recordings of ROS 1 (.bag) and ROS 2 (a folder, .mcap) as sources. The rosbags library reads them; no ROS needed."""

import contextlib
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras.reader import Reading, as_role
from irvis.runtime.cameras.uri import SourceUri, yes_or_no
from irvis.runtime.errors import FileError, FrameError, IrvisError, one_line
from irvis.runtime.images import decode
from irvis.runtime.ros.image_message import to_array

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
PAUSE_S = 0.1  # between the rounds of a loop, so that no last frame is paired with a first one
FAR_S = 60.0  # a message's stamp and recording time that are farther apart come from different clocks


class _Message(NamedTuple):
    kind: str  # IMAGE or COMPRESSED
    content: Any  # its image is not decoded yet
    stamp_s: float  # since the start of the recording


class BagReader:
    """Reads the images of a topic: ``bag:FILE?topic=/camera/image``. The topic may be omitted if there is only one.

    Stamps are those of the message headers, relative to the start of the bag, so that two topics of one bag can be
    paired; for two bags that were recorded together see ``align``. Raises FileError if the bag or the topic cannot be
    read.
    """

    live = False
    fps: Optional[float] = None

    def __init__(self, uri: SourceUri, role: str) -> None:
        self._role, self.path = role, Path(uri.location)
        self._loop = uri.option("loop", yes_or_no, False)
        reader = _open_bag(self.path)
        try:
            self._topic = _choose_topic(reader, uri)
            # Of a loop; stamps count from its start.
            self.span_ns: Tuple[int, int] = (reader.start_time, reader.end_time)
        finally:
            reader.close()
        # Reopened by the thread that reads: a SQLite connection, as of a ROS 2 bag, is bound to one thread.
        self._reader: Any = None
        self._messages: Iterator[Tuple[Any, int, bytes]] = iter(())
        self._played_s = 0.0  # total of the previous loops
        self._count = 0
        self._ahead: Optional[_Message] = None  # looked at, but not returned yet

    def read(self, buffers: Buffers) -> Optional[Reading]:
        """Return the next image; None at the end, or after the error for a damaged file.

        Raises FileError where the file is damaged, FrameError for an image that cannot be used.
        """
        found, self._ahead = self._peek(), None
        if found is None:
            return None
        with _damage_told(self.path):
            image = to_array(found.content, self._role) if found.kind == IMAGE else _decoded(found.content)
        return Reading(as_role(image, self._role, buffers), found.stamp_s)

    def skip(self, until_s: float) -> int:
        """Pass over the images with an earlier stamp, up to the end of the bag; return their number.

        Raises FileError where the file is damaged.
        """
        skipped, played_s = 0, self._played_s
        while True:
            found = self._peek()
            if found is None or found.stamp_s >= until_s or self._played_s > played_s:
                return skipped
            self._ahead = None
            skipped += 1

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _peek(self) -> Optional[_Message]:
        """Return the next message, which stays the next one; None at the end."""
        if self._ahead is None:
            with _damage_told(self.path):
                self._ahead = self._next()
        return self._ahead

    def _next(self) -> Optional[_Message]:
        if self._reader is None:
            self._reader = _open_bag(self.path)
            self._messages = self._iterate()
        reader = self._reader
        item = next(self._messages, None)
        if item is None and self._loop and self._count:
            self._played_s += (self.span_ns[1] - self.span_ns[0]) / 1e9 + PAUSE_S
            self._messages = self._iterate()
            item = next(self._messages, None)
        if item is None:
            return None
        connection, recorded_ns, data = item
        message = reader.deserialize(data, connection.msgtype)
        self._count += 1
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 10**9 + stamp.nanosec
        if abs(stamp_ns - recorded_ns) > FAR_S * 1e9:
            stamp_ns = recorded_ns
        return _Message(connection.msgtype, message, self._played_s + (stamp_ns - self.span_ns[0]) / 1e9)

    def _iterate(self) -> Iterator[Tuple[Any, int, bytes]]:
        """Return an iterator of (connection, recording time in nanoseconds, bytes), one for each message."""
        connections = [found for found in self._reader.connections if found.topic == self._topic]
        messages: Iterator[Tuple[Any, int, bytes]] = self._reader.messages(connections=connections)
        return messages


def align(bags: Sequence[BagReader]) -> None:
    """Let the stamps of bags that were recorded together count from the earliest start, and their loops last as long.

    Raises FileError for bags whose times do not overlap.
    """
    starts, ends = zip(*(bag.span_ns for bag in bags))
    if max(starts) > min(ends):
        names = " and ".join(str(bag.path) for bag in bags)
        raise FileError(f"{names} were not recorded at the same time: they have no moment in common; give two that do")
    for bag in bags:
        bag.span_ns = (min(starts), max(ends))


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Raise the errors of rosbags and SQLite, which are of many types for a broken file, as FileError."""
    try:
        yield
    except IrvisError:
        raise
    except Exception as error:
        raise FileError(f"{path} is damaged ({_told(error)})") from error


def _open_bag(path: Path) -> Any:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise FileError("bags need rosbags, which is not installed: pip install rosbags") from error
    if not path.exists():
        raise FileError(f"bag not found: {path}")
    try:
        # A ROS 2 bag need not define its message types; those of images have been the same since Foxy.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_FOXY))
        reader.open()
    except Exception as error:  # many types, as in ``read``
        raise FileError(f"cannot read bag {path} ({_told(error)})") from error
    return reader


def _choose_topic(reader: Any, uri: SourceUri) -> str:
    """Return the topic that the URI names, or the only image topic. Raises FileError."""
    topics = sorted({found.topic for found in reader.connections if found.msgtype in (IMAGE, COMPRESSED)})
    wanted = uri.options.get("topic")
    if wanted is None and len(topics) == 1:
        return topics[0]
    if wanted in topics:
        return str(wanted)
    found = f"It has images on {', '.join(topics)}" if topics else "It has no images on any topic"
    asked = f"no images on topic {wanted}" if wanted else "choose a topic with ?topic=NAME"
    raise FileError(f"{uri.location}: {asked}. {found}")


def _told(error: Exception) -> str:
    return one_line(error, 120) or type(error).__name__  # some are assertions without a message


def _decoded(message: Any) -> np.ndarray:
    try:
        image = decode(bytes(message.data))
    except FileError as error:
        raise FrameError(f"a compressed image {error}") from error
    if image is None:
        raise FrameError(f"OpenCV cannot decode a compressed image of format {message.format[:40]!r}")
    return image
