"""Cameras and streams through OpenCV: V4L2 devices, CSI cameras of a Jetson, RTSP, and GStreamer pipelines."""

import math
import re
import socket
import time
from typing import List, Optional, Tuple
from urllib.parse import urlsplit

import cv2
import numpy as np

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras.nvidia import has_element
from irvis.runtime.cameras.reader import INFRARED, Reading, as_role
from irvis.runtime.cameras.uri import SourceUri, positive_number, whole_number
from irvis.runtime.errors import FileError, one_line
from irvis.runtime.video import retrieve, told_fps, utf8_name

GREY_FORMATS = ("Y16", "Y12", "Y10", "GREY", "Y8")  # read raw, without OpenCV's conversion to colour
# Only the newest frame is queued; the sink must not hold frames back to their presentation time.
SINK = "appsink drop=true max-buffers=1 sync=false"
TIMEOUT_MS = 2000  # for opening and for reading a stream
RTSP_PORT = 554  # default if the address has no port
NO_GSTREAMER = (
    "this OpenCV is built without GStreamer, which {} needs; use the system's: apt install python3-opencv (on a "
    "Jetson libopencv-python) gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav, and in a new venv "
    "with --system-site-packages pip install '.[system]' (on a Jetson '.[jetson]'): pip's OpenCV hides it"
)


class CameraReader:
    """Reads a camera or a stream. A frame's stamp is the driver's if V4L2 provides one, else its time of arrival.

    Raises FileError if the camera is missing or rejects an option, or if OpenCV lacks GStreamer.
    """

    live = True

    def __init__(self, uri: SourceUri, role: str) -> None:
        _check_utf8(uri)
        self._role = role
        self._is_v4l2 = uri.scheme == "v4l2"
        self._timeout_s = TIMEOUT_MS / 1e3 if _by_ffmpeg(uri) else math.inf
        self._capture = _open_v4l2(uri, role) if self._is_v4l2 else _open_stream(uri, role)
        self.fps = told_fps(self._capture)

    def read(self, buffers: Buffers) -> Optional[Reading]:
        """Wait for the next frame; None if the camera is lost."""
        asked_s = time.monotonic()
        # After its timeout FFmpeg gives what its decoder still holds: frames as old as that.
        if not self._capture.grab() or time.monotonic() - asked_s > self._timeout_s:
            return None
        stamp_s = self._stamp_s()
        frame = retrieve(self._capture, buffers)
        if frame is None:
            return None
        if self._is_v4l2 and frame.shape[0] == 1:
            frame = self._in_rows(frame)
        return Reading(as_role(frame, self._role, buffers), stamp_s)

    def skip(self, until_s: float) -> int:
        """Return 0: a camera passes over frames itself."""
        return 0

    def close(self) -> None:
        """Release the device."""
        self._capture.release()

    def _in_rows(self, frame: np.ndarray) -> np.ndarray:
        """Return a raw frame as (H, W): newer versions of OpenCV give its bytes as (1, N), see their issue 27166."""
        height, width = (int(self._capture.get(name)) for name in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        pixels = frame.view(np.uint16) if frame.nbytes == 2 * height * width else frame
        return pixels.reshape(height, width) if pixels.size == height * width else frame

    def _stamp_s(self) -> float:
        """Return when the grabbed frame was captured, on the clock of time.monotonic()."""
        now_s = time.monotonic()
        if self._is_v4l2:
            # V4L2 stamps with the same clock; a driver that uses another returns a time far off, or 0.
            driver_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            if 0 <= now_s - driver_s < 1:
                return driver_s
        return now_s


def has_gstreamer() -> bool:
    """Return whether this OpenCV was built with GStreamer."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


def _by_ffmpeg(uri: SourceUri) -> bool:
    return uri.scheme == "rtsp" and not has_gstreamer()


def _check_utf8(uri: SourceUri) -> None:
    try:
        utf8_name(uri.location)
    except FileError:  # whose message has the password
        raise FileError(f"OpenCV takes videos and cameras only by names in UTF-8: {uri.text}; rename it") from None


def _open_v4l2(uri: SourceUri, role: str) -> cv2.VideoCapture:
    """Open a V4L2 device and check that it accepted each option: OpenCV does not report those it rejected."""
    capture = cv2.VideoCapture(uri.location, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise FileError(
            f"cannot open camera {uri.location}; check that it is connected, readable by you and not in use: "
            "v4l2-ctl --list-devices"
        )
    pixel_format = uri.options.get("format")
    if pixel_format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*pixel_format.ljust(4)[:4]))
    numbers: List[Tuple[str, int, Optional[float]]] = [
        ("width", cv2.CAP_PROP_FRAME_WIDTH, uri.option("width", whole_number, None)),
        ("height", cv2.CAP_PROP_FRAME_HEIGHT, uri.option("height", whole_number, None)),
        ("fps", cv2.CAP_PROP_FPS, uri.option("fps", positive_number, None)),
    ]
    for _, identifier, wanted in numbers:
        if wanted is not None:
            capture.set(identifier, wanted)
    found = _fourcc(capture)
    refused = [("format", pixel_format, found)] if pixel_format and found != pixel_format.strip() else []
    for name, identifier, wanted in numbers[:2]:  # not the rate, which some drivers do not report
        if wanted is not None and capture.get(identifier) != wanted:
            refused.append((name, f"{wanted:g}", f"{capture.get(identifier):g}"))
    if refused:
        capture.release()
        asked = ", ".join(f"{name} {wanted}: gives {given}" for name, wanted, given in refused)
        raise FileError(f"camera {uri.location} refuses {asked}; v4l2-ctl -d {uri.location} --list-formats-ext")
    if found in GREY_FORMATS and (pixel_format or role == INFRARED):  # without a format, visible still becomes BGR
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0.0)
    return capture


def _fourcc(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)).strip()


def _open_stream(uri: SourceUri, role: str) -> cv2.VideoCapture:
    if uri.scheme == "rtsp":
        _check_server(uri)
    if _by_ffmpeg(uri):
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        if hasattr(cv2, "CAP_PROP_N_THREADS"):
            # FFmpeg decodes as many frames at once as it has threads, and holds each back until the last has come.
            options += [cv2.CAP_PROP_N_THREADS, 1]
        capture = cv2.VideoCapture(uri.location, cv2.CAP_FFMPEG, options)
        advice = "set OPENCV_FFMPEG_LOGLEVEL=16 to see why"
    elif has_gstreamer():
        capture = cv2.VideoCapture(pipeline_of(uri, role), cv2.CAP_GSTREAMER)
        advice = "try the same with gst-launch-1.0, and see GST_DEBUG=3"
    else:
        raise FileError(NO_GSTREAMER.format(f"{uri.scheme}:"))
    if not capture.isOpened():
        raise FileError(f"cannot open {uri.text}; {advice}")
    return capture


def _check_server(uri: SourceUri) -> None:
    """Raise FileError if no server answers at the address: OpenCV's GStreamer backend would wait for ever."""
    try:
        parts = urlsplit(uri.location)
        with socket.create_connection((parts.hostname or "", parts.port or RTSP_PORT), TIMEOUT_MS / 1e3):
            pass
    except OSError as error:
        raise FileError(f"cannot open {uri.text}: {one_line(error)}") from error
    except ValueError:  # whose message may quote the password
        raise FileError(f"not an address: {uri.text}; write special characters of a password as %XX") from None


def pipeline_of(uri: SourceUri, role: str) -> str:
    """Return the GStreamer pipeline of a csi:, rtsp: or gst: source, including OpenCV's sink. Raises FileError.

    A user's pipeline that ends in an appsink is used unchanged, which 16-bit frames require:
    ``gst:v4l2src device=/dev/video1 ! video/x-raw,format=GRAY16_LE ! appsink``.
    """
    sink = f"videoconvert ! video/x-raw,format={'GRAY8' if role == INFRARED else 'BGR'} ! {SINK}"
    if uri.scheme == "gst":
        return uri.location if re.search(r"!\s*appsink\b[^!]*$", uri.location) else f"{uri.location} ! {sink}"
    if uri.scheme == "rtsp":
        if re.search(r"[\s\"!]", uri.location):
            raise FileError(f"an RTSP address has no spaces, quotes or exclamation marks. Got {uri.text}")
        # TCP: a server that dies is noticed at once, and a lost packet does not corrupt the picture.
        # A Jetson's hardware decoder, which decodebin prefers, leaves frames in memory that only nvvidconv reads.
        copied = "nvvidconv ! video/x-raw,format=BGRx ! " if has_element("nvvidconv") else ""
        return f'rtspsrc location="{uri.location}" protocols=tcp latency=0 ! decodebin ! {copied}{sink}'
    width, height = uri.option("width", whole_number, 1280), uri.option("height", whole_number, 720)
    fps, flip = uri.option("fps", positive_number, 30.0), uri.option("flip", whole_number, 0)
    if not (uri.location.isascii() and uri.location.isdecimal()):
        raise FileError(f"a CSI camera is csi://0, csi://1 and so on. Got {uri.text}")
    return (
        f"nvarguscamerasrc sensor-id={uri.location} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={round(fps * 1000)}/1000 ! "
        f"nvvidconv flip-method={flip} ! video/x-raw,format=BGRx ! {sink}"
    )
