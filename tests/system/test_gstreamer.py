"""Real GStreamer and a real RTSP server, with the system's OpenCV, as on a Jetson: ``make test-system``."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from irvis.runtime.cameras import PairedSources, capture, open_source
from irvis.runtime.cameras.capture import has_gstreamer
from irvis.runtime.errors import FileError

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not has_gstreamer(), reason="this OpenCV has no GStreamer: run `make test-system`"),
]

PYTHON = "/usr/bin/python3"  # Debian's, which has gi
LIVE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1"


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def serve(port):
    """Start the RTSP server; give the process. All are ended."""
    processes = []

    def start():
        program = [PYTHON, str(Path(__file__).with_name("rtsp_server.py")), str(port)]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        if process.stdout.readline() != "ready\n":
            pytest.skip("no RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly")
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def take(source, count):
    images = []
    for frame in source:
        images.append(frame.image.copy())
        if len(images) == count:
            return images
    raise AssertionError("the source ended")


@pytest.mark.parametrize(
    ("uri", "role", "shape", "dtype"),
    [
        (f"gst:{LIVE}", "visible", (120, 160, 3), np.uint8),
        (f"gst:{LIVE}", "infrared", (120, 160), np.uint8),
        (f"gst:{LIVE.replace('raw,', 'raw,format=GRAY16_LE,')} ! appsink", "infrared", (120, 160), np.uint16),
    ],
)
def test_a_pipeline_delivers(uri, role, shape, dtype):
    with open_source(uri, role) as source:
        images = take(source, 10)
        assert source.fps == 30
    assert {(image.shape, image.dtype) for image in images} == {(shape, np.dtype(dtype))}
    assert any((images[0] != image).any() for image in images)  # the ball moves
    assert images[0].max() > (200 if dtype is np.uint8 else 50000)


def test_two_pipelines_are_paired():
    with PairedSources(f"gst:{LIVE.replace('30/1', '9/1')}", f"gst:{LIVE}") as pairs:
        skews = [abs(pair.skew_ms) for _, pair in zip(range(20), pairs)]
    assert max(skews) <= 20


def test_a_pipeline_that_cannot_run_is_one_line():
    # OpenCV 4.6 waits for it for ever, others say so at once.
    with pytest.raises(FileError, match=r"cannot open gst:nosuchelement|gst:nosuchelement did not open within 10 s"):
        open_source("gst:nosuchelement", "visible")


def test_a_pipeline_that_ends_and_cannot_go_on_is_opened_again():
    with open_source(f"gst:{LIVE.replace('is-live=true', 'is-live=true num-buffers=15')}", "visible") as source:
        take(source, 40)
        assert source.status.reconnects >= 2


def test_rtsp_delivers_and_a_server_that_was_killed_is_picked_up_again(serve, port):
    server = serve()
    with open_source(f"rtsp://127.0.0.1:{port}/test", "visible") as source:
        assert take(source, 10)[0].shape == (120, 160, 3)
        server.kill()
        server.wait()
        limit = time.monotonic() + 10
        while source.status.state != "reconnecting":
            source.read(0.05)
            assert time.monotonic() < limit
        time.sleep(1.5)  # well into the pauses between attempts
        serve()
        restarted = time.monotonic()
        frame = source.read(10)
        assert frame is not None
        seconds = time.monotonic() - restarted
        print(f"picked up {seconds:.2f} s after the server was back")
        assert seconds < 3
        assert source.status.reconnects == 1
        take(source, 5)


def test_a_server_that_falls_silent_is_lost_through_ffmpeg_after_two_seconds_without_a_frame_of_before(
    serve, port, monkeypatch
):
    monkeypatch.setattr(capture, "has_gstreamer", lambda: False)
    server = serve()
    with open_source(f"rtsp://127.0.0.1:{port}/test", "visible") as source:
        take(source, 30)
        server.send_signal(signal.SIGSTOP)
        silent_s = time.monotonic()
        while source.read(0.5) is not None:
            pass
        while source.status.state != "reconnecting":
            assert source.read(0.05) is None
            assert time.monotonic() - silent_s < 4
        server.send_signal(signal.SIGCONT)
        assert source.read(10) is not None


def test_a_server_that_is_not_there_is_one_line(port):
    with pytest.raises(FileError, match=r"cannot open rtsp://127\.0\.0\.1"):
        open_source(f"rtsp://127.0.0.1:{port}/test", "visible")
