import traceback

import cv2
import numpy as np
import pytest

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras import capture, nvidia
from irvis.runtime.cameras.capture import CameraReader, has_gstreamer, pipeline_of
from irvis.runtime.cameras.reader import as_role
from irvis.runtime.cameras.uri import parse_uri
from irvis.runtime.errors import FileError, FrameError
from irvis.runtime.video import VideoReader


def pipeline(uri, role="visible"):
    return pipeline_of(parse_uri(uri), role)


def test_pipelines_end_in_a_sink_that_keeps_only_the_newest():
    assert pipeline("gst:videotestsrc") == (
        "videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )
    assert "format=GRAY8" in pipeline("gst:videotestsrc", "infrared")
    assert pipeline("rtsp://10.0.0.2/a?b=c").startswith('rtspsrc location="rtsp://10.0.0.2/a?b=c" protocols=tcp')


def test_on_a_jetson_a_stream_is_copied_out_of_its_decoders_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(nvidia, "ELEMENTS", tmp_path)
    assert " ! decodebin ! videoconvert ! " in pipeline("rtsp://10.0.0.2/a")
    (tmp_path / "libgstnvvidconv.so").touch()
    assert " ! decodebin ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! " in pipeline("rtsp://10.0.0.2/a")


def test_what_nvidias_elements_link_to_is_loaded_on_a_jetson_alone(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(nvidia.ctypes, "CDLL", loaded.append)
    monkeypatch.setattr(nvidia, "ELEMENTS", tmp_path)
    nvidia.load_dispatch()
    assert loaded == []
    (tmp_path / "libgstnvvidconv.so").touch()
    nvidia.load_dispatch()
    assert loaded == ["libGLdispatch.so.0"]


def test_a_jetson_without_that_library_is_no_error_yet(tmp_path, monkeypatch):
    (tmp_path / "libgstnvvidconv.so").touch()
    monkeypatch.setattr(nvidia, "ELEMENTS", tmp_path)
    monkeypatch.setattr(nvidia, "DISPATCH", "libirvis-has-no-such.so.0")
    nvidia.load_dispatch()


def test_a_pipeline_with_a_sink_of_its_own_is_left_alone():
    text = "v4l2src device=/dev/video1 ! video/x-raw,format=GRAY16_LE ! appsink max-buffers=2"
    assert pipeline(f"gst:{text}", "infrared") == text


def test_csi_cameras_go_through_argus():
    text = pipeline("csi://1?width=1920&height=1080&fps=29.97&flip=2")
    assert text.startswith(
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=29970/1000 ! "
        "nvvidconv flip-method=2 ! "
    )


@pytest.mark.parametrize("uri", ['rtsp://host/a" ! filesink location=/tmp/x', "rtsp://host/a b"])
def test_an_address_cannot_smuggle_in_a_pipeline(uri):
    with pytest.raises(FileError, match="has no spaces"):
        pipeline(uri)


def test_a_csi_camera_has_a_number():
    for name in ("left", "²"):
        with pytest.raises(FileError, match="csi://0"):
            pipeline(f"csi://{name}")


@pytest.mark.skipif(has_gstreamer(), reason="this OpenCV has GStreamer")
@pytest.mark.parametrize("uri", ["gst:videotestsrc", "csi://0"])
def test_without_gstreamer_the_error_names_the_package(uri):
    with pytest.raises(FileError, match=r"apt install python3-opencv.*pip install .\.\[system\]"):
        CameraReader(parse_uri(uri), "visible")


class Device:
    """Answers as OpenCV's V4L2 backend does, whose devices this machine has none of: ``modes`` is what it takes."""

    def __init__(self, modes, frame, stamp_ms):
        self.values, self.modes, self.frame, self.stamp_ms = {}, modes, frame, stamp_ms
        self.released = False

    def __call__(self, *_):
        return self

    def isOpened(self):
        return True

    def set(self, name, value):
        if name in self.modes and value not in self.modes[name]:
            return False
        self.values[name] = value
        return True

    def get(self, name):
        if name == cv2.CAP_PROP_POS_MSEC:
            return self.stamp_ms()
        return self.values.get(name, self.modes.get(name, [0.0])[0])

    def grab(self):
        return True

    def retrieve(self, _):
        return True, self.frame

    def release(self):
        self.released = True


def fourcc(text):
    return cv2.VideoWriter.fourcc(*text)


def test_y16_is_asked_for_and_comes_as_16_bits(monkeypatch):
    frame = np.full((24, 32), 7000, np.uint16)
    device = Device({cv2.CAP_PROP_FOURCC: [fourcc("YUYV"), fourcc("Y16 ")]}, frame, lambda: 1e3 * clock[0] - 40)
    clock = [5000.0]
    monkeypatch.setattr(cv2, "VideoCapture", device)
    monkeypatch.setattr(capture.time, "monotonic", lambda: clock[0])
    reader = CameraReader(parse_uri("v4l2:///dev/video0?format=Y16&width=32&height=24&fps=9"), "infrared")
    assert device.values[cv2.CAP_PROP_CONVERT_RGB] == 0
    assert device.values[cv2.CAP_PROP_FPS] == 9
    reading = reader.read(Buffers())
    np.testing.assert_array_equal(reading.image, frame)
    assert reading.stamp_s == pytest.approx(5000 - 0.04)  # the driver's stamp
    for other_s in (0.0, 4990.0, 5000.5):  # a driver without stamps, or of another clock
        device.stamp_ms = lambda other_s=other_s: 1e3 * other_s
        assert reader.read(Buffers()).stamp_s == 5000

    def decode(_):
        clock[0] += 0.02
        return True, frame

    device.retrieve = decode
    assert reader.read(Buffers()).stamp_s == 5000  # when it came, not when it was decoded


@pytest.mark.parametrize("gstreamer", [False, True])
def test_what_ffmpeg_gives_after_its_timeout_is_as_old_and_not_taken(monkeypatch, gstreamer):
    clock, waits_s, opened = [5000.0], [0.5, 2.01], []

    class Stream(Device):
        def __call__(self, *given):
            opened.append(given)
            return self

        def grab(self):
            clock[0] += waits_s.pop(0)
            return True

    monkeypatch.setattr(cv2, "VideoCapture", Stream({}, np.zeros((24, 32, 3), np.uint8), lambda: 0.0))
    monkeypatch.setattr(capture, "has_gstreamer", lambda: gstreamer)
    monkeypatch.setattr(capture, "_check_server", lambda uri: None)
    monkeypatch.setattr(capture.time, "monotonic", lambda: clock[0])
    reader = CameraReader(parse_uri("rtsp://host/a"), "visible")
    assert reader.read(Buffers()).stamp_s == 5000.5
    assert (reader.read(Buffers()) is None) == (not gstreamer)
    if not gstreamer and hasattr(cv2, "CAP_PROP_N_THREADS"):  # each thread would hold a frame back
        options = opened[0][2]
        assert dict(zip(options[::2], options[1::2]))[cv2.CAP_PROP_N_THREADS] == 1


@pytest.mark.parametrize("newer", [False, True], ids=["rows", "flat"])  # as OpenCV up to 4.9 and from 4.11 gives it
@pytest.mark.parametrize("option", ["", "?format=Y16"])
def test_a_camera_of_y16_alone_keeps_its_16_bits(monkeypatch, option, newer):
    raw = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) + 7000
    modes = {
        cv2.CAP_PROP_FOURCC: [fourcc("Y16 ")],
        cv2.CAP_PROP_FRAME_WIDTH: [32.0],
        cv2.CAP_PROP_FRAME_HEIGHT: [24.0],
        cv2.CAP_PROP_CONVERT_RGB: [1.0, 0.0],
    }
    device = Device(modes, None, lambda: 0.0)

    def retrieve(_):  # as OpenCV's backend does
        if device.get(cv2.CAP_PROP_CONVERT_RGB):
            return True, cv2.cvtColor((raw >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        return True, raw.view(np.uint8).reshape(1, -1) if newer else raw

    monkeypatch.setattr(device, "retrieve", retrieve)
    monkeypatch.setattr(cv2, "VideoCapture", device)
    reading = CameraReader(parse_uri(f"v4l2:///dev/video1{option}"), "infrared").read(Buffers())
    assert reading.image.dtype == np.uint16
    np.testing.assert_array_equal(reading.image, raw)
    if not option:  # of a visible camera 8 bits are what is wanted
        device.values.clear()
        assert CameraReader(parse_uri("v4l2:///dev/video1"), "visible").read(Buffers()).image.shape == (24, 32, 3)


def test_a_grey_camera_of_8_bits_comes_in_rows_too(monkeypatch):
    raw = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)
    modes = {
        cv2.CAP_PROP_FOURCC: [fourcc("GREY")],
        cv2.CAP_PROP_FRAME_WIDTH: [32.0],
        cv2.CAP_PROP_FRAME_HEIGHT: [24.0],
    }
    monkeypatch.setattr(cv2, "VideoCapture", Device(modes, raw.reshape(1, -1), lambda: 0.0))
    reader = CameraReader(parse_uri("v4l2:///dev/video0"), "infrared")
    np.testing.assert_array_equal(reader.read(Buffers()).image, raw)


@pytest.mark.parametrize(
    ("told", "fps"),
    [(0.0, None), (-1.0, None), (np.inf, None), (np.nan, None), (90000.0, None), (29.97, 29.97), (1000.0, 1000.0)],
)
def test_a_rate_that_no_camera_has_is_none(monkeypatch, tmp_path, told, fps):
    monkeypatch.setattr(cv2, "VideoCapture", Device({cv2.CAP_PROP_FPS: [told]}, None, lambda: 0.0))
    assert CameraReader(parse_uri("v4l2:///dev/video0"), "visible").fps == fps
    (tmp_path / "a.avi").write_bytes(b"")
    assert VideoReader(tmp_path / "a.avi").fps == (fps or 30.0)


@pytest.mark.parametrize(
    ("option", "modes", "message"),
    [
        ("format=Y16", {cv2.CAP_PROP_FOURCC: [fourcc("YUYV")]}, "refuses format Y16: gives YUYV; v4l2-ctl"),
        ("width=640", {cv2.CAP_PROP_FRAME_WIDTH: [320.0]}, "refuses width 640: gives 320"),
    ],
)
def test_a_mode_that_the_camera_did_not_take_is_refused(monkeypatch, option, modes, message):
    device = Device(modes, None, lambda: 0.0)
    monkeypatch.setattr(cv2, "VideoCapture", device)
    with pytest.raises(FileError, match=message):
        CameraReader(parse_uri(f"v4l2:///dev/video0?{option}"), "infrared")
    assert device.released  # for the next attempt, with another option


def test_frames_take_the_form_of_their_role():
    colour = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    assert as_role(colour, "infrared", Buffers()).shape == (24, 32)
    assert as_role(colour, "visible", Buffers()) is colour
    assert as_role(colour[:, :, :1], "visible", Buffers()).shape == (24, 32)
    for role, frame in [
        ("visible", colour.astype(np.uint16)),
        ("infrared", colour[:, :, :2]),
        ("infrared", colour / 2),
    ]:
        with pytest.raises(FrameError, match="Got"):
            as_role(frame, role, Buffers())


@pytest.mark.parametrize(
    ("gstreamer", "advice"),
    [(False, "set OPENCV_FFMPEG_LOGLEVEL=16 to see why"), (True, "try the same with gst-launch-1.0")],
)
def test_a_password_reaches_opencv_and_no_message(monkeypatch, gstreamer, advice):
    opened = []

    class Refusing:
        def __init__(self, name, *_):
            opened.append(name)

        def isOpened(self):
            return False

    monkeypatch.setattr(cv2, "VideoCapture", Refusing)
    monkeypatch.setattr(capture, "has_gstreamer", lambda: gstreamer)
    monkeypatch.setattr(capture, "_check_server", lambda uri: None)
    with pytest.raises(FileError, match=rf"cannot open rtsp://me:\*\*\*@10\.0\.0\.7/a; {advice}"):
        CameraReader(parse_uri("rtsp://me:secret@10.0.0.7/a"), "visible")
    assert "rtsp://me:secret@10.0.0.7/a" in opened[0]


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://me:secret@127.0.0.1:1/a",
        "rtsp://me:secret/1@127.0.0.1:1/a",  # of which urlsplit takes "secret" for a port, and says so
        "rtsp://me:secret@127.0.0.1\N{ACCOUNT OF}:1/a",
        "rtsp://me:secret\udce9@127.0.0.1/a",
        "rtsp://me:secret@127.0.0.1/a b",
    ],
)
def test_no_error_shows_a_password(monkeypatch, uri):
    monkeypatch.setattr(capture, "has_gstreamer", lambda: True)
    if " " in uri:
        monkeypatch.setattr(capture, "_check_server", lambda uri: None)
    with pytest.raises(FileError, match=r"rtsp://me:\*\*\*@127") as caught:
        CameraReader(parse_uri(uri), "visible")
    assert "secret" not in "".join(traceback.format_exception(None, caught.value, None))


def test_an_address_that_would_crash_opencv_is_refused():
    for text in ("rtsp://127.0.0.1:1/caf\udce9", "v4l2:///dev/video\udce9", "gst:videotestsrc ! caf\udce9"):
        with pytest.raises(FileError, match="only by names in UTF-8"):
            CameraReader(parse_uri(text), "visible")
