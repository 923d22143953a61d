"""``sensor_msgs/Image`` to NumPy and back, without cv_bridge, which brings its own OpenCV beside the robot's.

Messages of rospy (data: bytes), rclpy (array.array) and rosbags (numpy) are all accepted: only their fields are used.
"""

import array
from typing import Any, Dict, NamedTuple, Optional

import cv2
import numpy as np

from irvis.runtime.errors import FrameError
from irvis.runtime.sizes import format_size

LARGEST = 1 << 24  # pixels; a single message of a billion would bring the node down


class _Pixel(NamedTuple):
    dtype: str  # NumPy's type code, without the byte order
    channels: int
    to_bgr: Optional[int]  # OpenCV's conversion code; None if the pixels are BGR or grey already


# https://docs.ros.org/en/api/sensor_msgs/html/image__encodings_8h_source.html. 8UC3 does not define the channel order:
# BGR, as in OpenCV, whose type name it is.
ENCODINGS: Dict[str, _Pixel] = {
    "mono8": _Pixel("u1", 1, None),
    "8UC1": _Pixel("u1", 1, None),
    "mono16": _Pixel("u2", 1, None),
    "16UC1": _Pixel("u2", 1, None),
    "bgr8": _Pixel("u1", 3, None),
    "8UC3": _Pixel("u1", 3, None),
    "rgb8": _Pixel("u1", 3, cv2.COLOR_RGB2BGR),
    "bgra8": _Pixel("u1", 4, cv2.COLOR_BGRA2BGR),
    "rgba8": _Pixel("u1", 4, cv2.COLOR_RGBA2BGR),
}


def to_array(message: Any, what: str = "image") -> np.ndarray:
    """Return the picture of a ``sensor_msgs/Image``: uint8 or uint16 (H, W), or uint8 BGR (H, W, 3).

    It is a view of ``message.data`` without the padding, read-only if the data are. It is a copy only if the channel
    order is not BGR, or the byte order or the alignment is not this machine's. Raises FrameError, which names ``what``,
    if the fields contradict each other, the encoding is not in ENCODINGS or there are more than LARGEST pixels.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    pixel = ENCODINGS.get(message.encoding)
    if pixel is None:
        raise FrameError(f"{what} must be encoded as one of {', '.join(ENCODINGS)}. Got {message.encoding[:40]!r}")
    if min(height, width) < 1:
        raise FrameError(f"{what} is empty: {format_size((height, width))}")
    dtype = np.dtype((">" if message.is_bigendian else "<") + pixel.dtype)
    pixel_bytes = pixel.channels * dtype.itemsize
    if step < width * pixel_bytes:
        raise FrameError(
            f"{what} has a step of {step} bytes, but {width} pixels of {message.encoding} take {width * pixel_bytes}"
        )
    data = _octets(message.data)
    if data.size != step * height:
        raise FrameError(f"{what} holds {data.size} bytes, but {height} rows of {step} are {step * height}")
    if height * width > LARGEST:
        raise FrameError(f"{what} is too large: {format_size((height, width))} are more than {LARGEST} pixels")
    shape, strides = (height, width, pixel.channels), (step, pixel_bytes, dtype.itemsize)
    axes = 2 if pixel.channels == 1 else 3
    frame: np.ndarray = np.ndarray(shape[:axes], dtype, data, strides=strides[:axes])
    if pixel.to_bgr is not None:
        return cv2.cvtColor(frame, pixel.to_bgr)
    if not (dtype.isnative and frame.flags.aligned):
        return frame.astype(dtype.newbyteorder("="))
    return frame


def fill(message: Any, image: np.ndarray) -> None:
    """Fill a ``sensor_msgs/Image`` with a picture: all fields except the header, little-endian and without padding.

    Args:
        message: the new ``data`` will be of the same type as the old.
        image: uint8 (H, W) as mono8, uint8 BGR (H, W, 3) as bgr8, or uint16 (H, W) as mono16. It is copied.

    Raises FrameError for any other image.
    """
    encoding = {("uint8", 2): "mono8", ("uint8", 3): "bgr8", ("uint16", 2): "mono16"}.get(
        (image.dtype.name, image.ndim)
    )
    if encoding is None or not image.size or image.shape[2:] not in ((), (3,)):
        raise FrameError(
            f"a message takes uint8 (H, W) or (H, W, 3), or uint16 (H, W). Got {image.dtype} {image.shape}"
        )
    octets = np.ascontiguousarray(image, image.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    message.height, message.width = image.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = octets.size // image.shape[0]
    if isinstance(message.data, np.ndarray):
        message.data = octets.copy()
    elif isinstance(message.data, array.array):
        # rclpy checks each element of any other type: a tenth of a second for VGA in colour.
        message.data = array.array("B")
        message.data.frombytes(octets)
    else:
        message.data = octets.tobytes()


def _octets(data: Any) -> np.ndarray:
    """Return bytes, an array.array, a NumPy array or a sequence of integers as uint8 (N,), uncopied if possible."""
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError):  # not a buffer, or not contiguous
        return np.frombuffer(bytes(data), np.uint8)
