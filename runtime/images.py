"""Image files in and out. Infrared is uint8 or uint16 (H, W), visible uint8 BGR (H, W, 3) or grey (H, W)."""

import re
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from irvis.runtime.errors import FileError
from irvis.runtime.files import read_bytes, write_bytes
from irvis.runtime.frames import to_grey

PNG = b"\x89PNG\r\n\x1a\n"
JPEG, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def is_image(path: Path) -> bool:
    """Return whether a file is an image that can be read, judging by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read_image(path: Union[str, Path], what: str = "image") -> np.ndarray:
    """Return the image as stored: uint8 or uint16, (H, W), or (H, W, 3) in BGR order. Raises FileError."""
    content = read_bytes(path, what)  # not cv2.imread: that fails on some non-ASCII paths
    try:
        image = decode(content)
    except FileError as error:
        raise FileError(f"{what} {error}: {path}") from error
    if image is None:
        raise FileError(f"{what} is not an image that OpenCV can read: {path} ({len(content)} bytes)")
    if image.dtype not in (np.uint8, np.uint16):
        raise FileError(f"{what} must hold 8 or 16 bits a channel. Got {image.dtype} in {path}; convert it first")
    if image.ndim == 3 and image.shape[2] != 3:
        if image.shape[2] != 4:
            raise FileError(f"{what} must have 1, 3 or 4 channels. Got {image.shape[2]} in {path}")
        image = np.ascontiguousarray(image[:, :, :3])  # an alpha plane says nothing about the scene
    return image


def decode(content: bytes) -> Optional[np.ndarray]:
    """Return the image in a file's content, as stored; None if OpenCV cannot read it.

    Raises FileError if it has more pixels than allowed.
    """
    if not content or (content.startswith(PNG) and not _has_whole_chunks(content)):
        return None
    if content.startswith(JPEG) and content.rfind(JPEG_END) < content.rfind(JPEG_SCAN):
        return None  # cut off: OpenCV 4.5 would fill the rest with grey
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        limit = re.search(r"CV_IO_MAX_IMAGE_\w+", str(error))
        if limit:
            raise FileError(f"is larger than the environment's OPEN{limit.group()} allows") from error
        return None


def _has_whole_chunks(png: bytes) -> bool:
    """Return whether a PNG holds all its chunks: OpenCV 5.0 allocates the size that a chunk claims, up to 4 GiB."""
    at, kind = len(PNG), b""
    while at < len(png) and kind != b"IEND":
        kind = png[at + 4 : at + 8]
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return at <= len(png)


def read_infrared(path: Union[str, Path]) -> np.ndarray:
    """Return an infrared frame, uint8 or uint16 (H, W); a colour file is converted to grey. Raises FileError."""
    image = read_image(path, "infrared image")
    return to_grey(image) if image.ndim == 3 else image


def read_visible(path: Union[str, Path]) -> np.ndarray:
    """Return a visible frame, uint8, BGR (H, W, 3) or grey (H, W). Raises FileError."""
    image = read_image(path, "visible image")
    if image.dtype != np.uint8:
        raise FileError(
            f"visible image must hold 8 bits a channel. Got {image.dtype} in {path}; convert it first, or exchange the "
            "two: only infrared may hold 16"
        )
    return image


def write_image(path: Union[str, Path], image: np.ndarray) -> None:
    """Write uint8 (H, W) or BGR (H, W, 3) in the format of the path's suffix, whole or not at all. Raises FileError."""
    path = Path(path)
    if not is_image(path):
        raise FileError(f"cannot write an image as {path}: its suffix must be one of {' '.join(SUFFIXES)}")
    try:
        encoded, data = cv2.imencode(path.suffix, image)
    except cv2.error:  # how OpenCV 4.5 reports it
        encoded = False
    if not encoded:
        raise FileError(f"OpenCV cannot encode {image.dtype} {image.shape} as {path.suffix}: {path}")
    write_bytes(path, data.tobytes())
