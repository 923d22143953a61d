import logging
import math
import signal
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from irvis.runtime.cameras import open_source
from irvis.runtime.cameras import source as source_module
from irvis.runtime.cameras.frame import FramePool
from irvis.runtime.cameras.reader import Reading
from irvis.runtime.cameras.source import OVERDUE_S, STALLED_S, Playhead, Source
from irvis.runtime.cameras.uri import parse_uri
from irvis.runtime.errors import FileError, FrameError

TEST = "test://street?width=32&height=24"
URI = parse_uri(TEST)


class Camera:
    """A camera that gives what the test puts into ``script``: a frame's level, None when it is lost, an error."""

    live, fps = True, 30.0

    def __init__(self, script, opened):
        self.script, self.closed = script, False
        opened.append(self)

    def read(self, buffers):
        while not self.closed:
            if self.script:
                step = self.script.pop(0)
                if isinstance(step, Exception):
                    raise step
                if step is None:
                    return None
                image = buffers("image", (24, 32))
                image[:] = step
                return Reading(image, time.monotonic())
            time.sleep(0.002)
        return None

    def close(self):
        self.closed = True


@pytest.fixture
def script():
    return []


@pytest.fixture
def opened():
    """The cameras that were opened; unplugged at the end, since no thread can be called back from a driver."""
    cameras = []
    yield cameras
    for camera in cameras:
        camera.closed = True


@pytest.fixture
def camera(script, opened):
    with Source(URI, "infrared", open_again=lambda: Camera(script, opened)).start() as source:
        yield source
        opened[-1].closed = True


def test_the_newest_frame_is_kept_and_older_ones_are_counted(camera, script, wait_for):
    script += [1, 2, 3]
    wait_for(lambda: camera.status.frames == 3)
    frame = camera.read()
    assert frame.image[0, 0] == 3
    assert camera.status.dropped == 2
    assert camera.read(timeout_s=0.05) is None
    script += [4]
    assert camera.read().image[0, 0] == 4


def test_a_wait_is_no_longer_than_was_asked(camera, monkeypatch):
    waits, wait = [], camera._changed.wait
    monkeypatch.setattr(camera._changed, "wait", lambda timeout=None: waits.append(timeout) or wait(timeout))
    assert camera.read(timeout_s=0.01) is None
    assert waits
    assert max(waits) <= 0.01


def test_a_held_frame_is_not_written_over_and_its_memory_is_used_again(camera, script, wait_for):
    script += [1]
    held = camera.read()
    for level in range(2, 40):
        script.append(level)
        wait_for(lambda level=level: camera.status.frames == level)
    assert (held.image == 1).all()
    seen = set()
    held.release()
    for level in range(40, 80):
        script.append(level)
        frame = camera.read()
        seen.add(frame)
        frame.release()
    assert len(seen) <= FramePool.USUAL


def test_the_memory_of_frames_that_nobody_read_is_used_again(camera, script, wait_for):
    seen = set()
    for count in range(3, 120, 3):
        script += [1, 2, 3]
        wait_for(lambda count=count: camera.status.frames == count)
        frame = camera.read()
        seen.add(frame)
        frame.release()
    assert camera.status.dropped >= 2 * 30
    assert len(seen) <= FramePool.USUAL


def test_a_lost_camera_is_opened_again(camera, script, opened, caplog, wait_for):
    script += [1]
    camera.read().release()
    script += [None]
    wait_for(lambda: len(opened) == 2)
    assert opened[0].closed
    script += [2]
    assert camera.read().image[0, 0] == 2
    assert camera.status.reconnects == 1
    assert camera.status.state == "streaming"
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        "lost; trying to open it again",
        "frames again",
    ]


def test_it_is_tried_again_with_growing_pauses_until_it_is_back(script, opened, monkeypatch):
    failures, pauses = [FileError("no such camera"), cv2.error("can't open camera by index")] * 3, []

    def opens():
        if opened and failures:
            raise failures.pop()
        return Camera(script, opened)

    source = Source(URI, "visible", open_again=opens)
    with source.start():
        with monkeypatch.context() as patched:
            patched.setattr(source._stopping, "wait", pauses.append)
            script += [None, 7]
            assert source.read().image[0, 0] == 7
        assert source.status.reconnects == 1
        opened[-1].closed = True
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_the_time_that_a_camera_was_away_is_none_of_its_intervals(camera, script, opened, monkeypatch, wait_for):
    clock = [time.monotonic()]
    monkeypatch.setattr(source_module.time, "monotonic", lambda: clock[0])
    for level in range(40):
        if level == 20:
            script.append(None)
            wait_for(lambda: len(opened) == 2)
        clock[0] += 1 / 30 if level != 20 else 3600.0
        script.append(level)
        wait_for(lambda level=level: camera.status.frames == level + 1)
    assert camera.status.fps == pytest.approx(30, rel=0.01)


def test_closing_while_it_is_away_ends_the_thread(script, opened, wait_for):
    def opens():
        if opened:
            raise FileError("no such camera")
        return Camera(script, opened)

    source = Source(URI, "visible", open_again=opens).start()
    script.append(None)
    wait_for(lambda: source.status.state == "reconnecting")
    source.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "grab visible"]


def test_a_camera_that_falls_silent_is_reported_within_a_second_and_again_when_it_is_back(camera, script, caplog):
    script += [1]
    camera.read().release()
    silent_since = time.monotonic()
    while camera.status.state != "stalled":
        assert camera.read(timeout_s=0.1) is None
    assert STALLED_S <= time.monotonic() - silent_since < 1
    script += [2]
    camera.read().release()
    assert camera.status.state == "streaming"
    assert ["no frame for" in record.message for record in caplog.records] == [True, False]


@pytest.mark.parametrize("fps", [None, 1.0, 30.0])
def test_a_camera_of_one_frame_a_second_is_taken_for_what_it_is(script, opened, caplog, monkeypatch, fps, wait_for):
    """Told at once where it tells its rate, else found after its first frames."""
    monkeypatch.setattr(Camera, "fps", fps)
    with Source(URI, "infrared", open_again=lambda: Camera(script, opened)).start() as source:
        for level in range(6):
            script.append(level)
            wait_for(lambda level=level: source.status.frames == level + 1)
            due_s = time.monotonic() + 1.0
            while time.monotonic() < due_s:
                source.check()
                time.sleep(0.02)
        assert 0.9 < source.status.fps < (1.1 if fps != 30.0 else 2.5)
        opened[-1].closed = True
    silences = sum("no frame for" in record.message for record in caplog.records)
    assert silences == {None: 1, 1.0: 0}.get(fps, silences)
    assert silences <= 3


def test_after_a_long_silence_the_next_is_reported_within_a_second_too(camera, script, monkeypatch, wait_for):
    clock = [time.monotonic()]
    monkeypatch.setattr(source_module.time, "monotonic", lambda: clock[0])
    for level in range(40):
        clock[0] += 1 / 30 if level != 20 else 3600.0
        script.append(level)
        wait_for(lambda level=level: camera.status.frames > level)
    assert camera.check() == "streaming"
    clock[0] += 1.0
    assert camera.check() == "stalled"


def test_a_bad_frame_costs_itself_alone(camera, script, caplog):
    script += [FrameError("torn"), FrameError("torn"), 5]
    assert camera.read().image[0, 0] == 5
    assert camera.status.bad == 2
    assert caplog.messages == [f"infrared {TEST}: torn (1 bad frames so far)"]


@pytest.mark.parametrize("before", [0, 280, 292])  # the log's limit of 300 is behind the address, or in the password
def test_no_password_is_logged(script, opened, caplog, before):
    uri = parse_uri("rtsp://me:hunter2@10.0.0.7/a")
    script += [cv2.error("x" * (before - len("rtsp://me:")) + f" {uri.location} ! decodebin"), None, 5]
    with Source(uri, "infrared", open_again=lambda: Camera(script, opened)).start() as source:
        assert source.read(timeout_s=10).image[0, 0] == 5
        opened[-1].closed = True
    assert "(1 bad frames so far)" in caplog.text
    assert "lost; trying to open it again" in caplog.text
    assert "hun" not in caplog.text + "".join(thread.name for thread in threading.enumerate())


def test_what_nobody_foresaw_ends_it_and_is_raised_to_whoever_reads(camera, script, opened):
    script += [1, ZeroDivisionError("a bug")]
    camera.read().release()
    with pytest.raises(ZeroDivisionError):
        camera.read()
    assert camera.ended
    assert opened[-1].closed  # the device is free for whoever opens it next


def test_a_stamp_is_the_captures(script, opened):
    with Source(URI, "infrared", open_again=lambda: Camera(script, opened), delay_s=0.2).start() as source:
        script.append(1)
        frame = source.read()
        assert frame.grabbed_s - frame.stamp_s == pytest.approx(0.2, abs=0.05)
        opened[-1].closed = True


class Slow:
    """Ten seconds of 60 frames a second, each of which takes 0.2 s of the test's clock to decode."""

    live, fps = False, 60.0

    def __init__(self, clock):
        self.clock, self.count = clock, 0

    def read(self, buffers):
        if self.count >= 600:
            return None
        self.clock[0] += 0.2
        self.count += 1
        return Reading(buffers("image", (24, 32)), (self.count - 1) / 60)

    def skip(self, until_s):
        number, self.count = self.count, max(self.count, math.ceil(60 * until_s))
        return self.count - number

    def close(self):
        pass


def play(clock, wait_for, **options):
    """The frames of Slow, and the status at its end."""
    frames = []
    with Source(URI, "infrared", open_again=lambda: Slow(clock), sink=frames.append, **options).start(
        clock[0]
    ) as source:
        wait_for(lambda: source.ended)
    assert (source.failure, source.status.state) == (None, "ended")
    return frames, source.status


@pytest.fixture
def clock(monkeypatch):
    """The source's clock, which only the test's reader moves."""
    clock = [1000.0]
    real = time.monotonic
    monkeypatch.setattr(source_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    assert time.monotonic is real
    return clock


@pytest.mark.parametrize("delay_s", [0.0, 0.5])
def test_a_recording_that_cannot_be_decoded_in_time_passes_over_what_is_overdue(clock, caplog, delay_s, wait_for):
    frames, status = play(clock, wait_for, delay_s=delay_s)
    ages = [frame.grabbed_s - frame.stamp_s - delay_s for frame in frames]
    assert max(ages) < 0.2 + OVERDUE_S
    assert len(frames) == status.frames > 40
    assert 590 <= status.frames + status.dropped <= 601
    assert status.fps == pytest.approx(5, abs=0.5)
    assert caplog.messages == []


def test_without_realtime_a_slow_recording_gives_every_frame(clock, wait_for):
    frames, status = play(clock, wait_for, realtime=False)
    assert (len(frames), status.frames, status.dropped) == (600, 600, 0)
    assert status.fps == pytest.approx(5, abs=0.01)


def test_what_passing_over_does_not_help_is_told_once(clock, caplog, monkeypatch, wait_for):
    monkeypatch.setattr(Slow, "skip", lambda self, until_s: 0)
    play(clock, wait_for)
    (message,) = caplog.messages
    assert "s late: it cannot be decoded in time; use --every-frame or a lower ?fps=" in message


def test_two_recordings_pass_over_the_same_frames():
    playhead = Playhead()
    assert playhead.after(0.0, 0.05) < 0  # in time
    assert playhead.after(0.0, 0.30) == 0.30  # the one is late,
    assert playhead.after(0.02, 0.05) == 0.30  # so the other, which is not,
    assert playhead.after(0.1, 0.45) == 0.30  # goes on from there as well, even if it is later
    assert playhead.after(0.31, 0.55) == 0.55


def test_a_recording_plays_at_its_own_pace():
    with open_source(f"{TEST}&fps=50", "visible") as source:
        started = time.monotonic()
        frames = []
        for frame in source:
            frames.append((frame.stamp_s, time.monotonic()))
            if len(frames) == 11:
                break
        assert time.monotonic() - started >= 0.15
        assert all(taken >= stamp for stamp, taken in frames)


def test_without_realtime_none_is_dropped_and_it_waits(tmp_path):
    source = Source(URI, "infrared", realtime=False).start()
    with source:
        stamps = []
        for frame in source:
            stamps.append(frame.stamp_s)
            if len(stamps) == 20:
                break
            time.sleep(0.002)
        assert source.status.dropped == 0
        source._alive_s -= 60
        assert source.check() == "streaming"  # it waits for us
        np.testing.assert_allclose(np.diff(stamps), 1 / 30, atol=1e-6)
    assert not source._thread.is_alive()


def test_what_cannot_be_opened_is_said_at_once():
    with pytest.raises(FileError, match="cannot open camera /dev/video77"):
        open_source("/dev/video77", "visible")
    with pytest.raises(FrameError, match=r"the delay of the visible frames must be a number of seconds\. Got nan"):
        open_source("test://", "visible", delay_s=math.nan)


def test_a_camera_that_opens_too_late_is_closed(script, opened, monkeypatch, wait_for):
    monkeypatch.setattr(source_module, "OPEN_S", 0.05)
    returns = threading.Event()

    def opens():
        returns.wait(60)
        return Camera(script, opened)

    with pytest.raises(FileError, match=r"/dev/video0 did not open within 0\.05 s; try the same with"):
        Source(parse_uri("v4l2:///dev/video0"), "visible", open_again=opens)
    returns.set()
    wait_for(lambda: opened and opened[0].closed)


def test_a_camera_that_opens_after_ctrl_c_is_closed(script, opened, wait_for):
    returns = threading.Event()

    def opens():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        returns.wait(60)
        return Camera(script, opened)

    with pytest.raises(KeyboardInterrupt):
        Source(parse_uri("v4l2:///dev/video0"), "visible", open_again=opens)
    returns.set()
    wait_for(lambda: opened and opened[0].closed)


def test_one_whose_thread_does_not_start_frees_its_camera(script, opened, monkeypatch):
    def fails(_):
        raise RuntimeError("can't start new thread")  # in Python's words

    source = Source(URI, "infrared", open_again=lambda: Camera(script, opened))
    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        source.start()
    assert opened[0].closed


def test_logging_is_not_flooded_by_a_camera_that_gives_only_rubbish(camera, script, caplog, wait_for):
    caplog.set_level(logging.WARNING)
    script += [FrameError("torn")] * 30
    wait_for(lambda: camera.status.bad == 30)
    assert len(caplog.messages) == 2  # the 1st and the 10th
