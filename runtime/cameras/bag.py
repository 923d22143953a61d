"""Recordings of ROS 1 (.bag) and ROS 2 (a folder, .mcap) as sources, through the rosbags library: without ROS."""

from pathlib import Path
from typing import Any, Iterator, Optional, Tuple

import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras.reader import Reading, as_role
from irvis.runtime.cameras.uri import SourceUri, yes_or_no
from irvis.runtime.errors import FileError, FrameError, IrvisError, one_line
from irvis.runtime.images import decode
from irvis.runtime.ros.image_message import to_array

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
FAR_S = 60.0  # between a message's own stamp and its recording: then the stamp is of another clock


class BagReader:
    """Reads the images of a topic: ``bag:FILE?topic=/camera/image``; the topic may be left out where there is only one.

    Stamps are those of the messages' headers, since the bag's start, so that two topics of one bag, or of two that were
    recorded together, go together. Raises FileError where the bag or the topic cannot be read.
    """

    live = False
    fps: Optional[float] = None

    def __init__(self, uri: SourceUri, role: str) -> None:
        self._role, self._path = role, Path(uri.location)
        self._loop = uri.option("loop", yes_or_no, False)
        reader = _open_bag(self._path)
        try:
            self._topic = _choose_topic(reader, uri)
        finally:
            reader.close()
        # Opened again by whoever reads: SQLite, in which ROS 2 records, keeps to one thread.
        self._reader: Any = None
        self._messages: Iterator[Tuple[Any, int, bytes]] = iter(())
        self._played_s = 0.0  # by the rounds before this one
        self._count = 0

    def read(self, buffers: Buffers) -> Optional[Reading]:
        """Give the next image; None at the end, or behind a place where the file is damaged.

        Raises FileError where it is, FrameError for an image that cannot be used.
        """
        try:
            found = self._next()
        except IrvisError:
            raise
        except Exception as error:  # the library, and SQLite below it, raise of many kinds for a broken file
            raise FileError(f"{self._path} is damaged ({_told(error)})") from error
        if found is None:
            return None
        image, stamp_s = found
        return Reading(as_role(image, self._role, buffers), self._played_s + stamp_s)

    def close(self) -> None:
        """Give back the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _next(self) -> Optional[Tuple[np.ndarray, float]]:
        """Give the next image and its stamp, in seconds since the bag's start; None at the end."""
        if self._reader is None:
            self._reader = _open_bag(self._path)
            self._messages = self._iterate()
        reader = self._reader
        item = next(self._messages, None)
        if item is None and self._loop and self._count:
            self._played_s += reader.duration / 1e9
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
        image = to_array(message, self._role) if connection.msgtype == IMAGE else _decoded(message)
        return image, (stamp_ns - reader.start_time) / 1e9

    def _iterate(self) -> Iterator[Tuple[Any, int, bytes]]:
        """Give each message's connection, when it was recorded, in nanoseconds, and its bytes."""
        connections = [found for found in self._reader.connections if found.topic == self._topic]
        messages: Iterator[Tuple[Any, int, bytes]] = self._reader.messages(connections=connections)
        return messages


def _open_bag(path: Path) -> Any:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise FileError("rosbags is not installed, which reads bags: pip install rosbags") from error
    if not path.exists():
        raise FileError(f"bag not found: {path}")
    try:
        # A ROS 2 bag need not say what its messages look like; images have looked alike since Foxy.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_FOXY))
        reader.open()
    except Exception as error:  # of many kinds, as in ``read``
        raise FileError(f"not a bag that can be read: {path} ({_told(error)})") from error
    return reader


def _choose_topic(reader: Any, uri: SourceUri) -> str:
    """Give the topic that a URI names, or the only one of images. Raises FileError."""
    topics = sorted({found.topic for found in reader.connections if found.msgtype in (IMAGE, COMPRESSED)})
    wanted = uri.options.get("topic")
    if wanted is None and len(topics) == 1:
        return topics[0]
    if wanted in topics:
        return str(wanted)
    found = f"It has images on {', '.join(topics)}" if topics else "It has images on none"
    asked = f"no images on topic {wanted}" if wanted else "which topic? give ?topic=NAME"
    raise FileError(f"{uri.location}: {asked}. {found}")


def _told(error: Exception) -> str:
    return one_line(error, 120) or type(error).__name__  # some are bare assertions


def _decoded(message: Any) -> np.ndarray:
    try:
        image = decode(bytes(message.data))
    except FileError as error:
        raise FrameError(f"a compressed image {error}") from error
    if image is None:
        raise FrameError(f"OpenCV cannot decode a compressed image of format {message.format[:40]!r}")
    return image
