"""The ROS 1 node against a real roscore: what it subscribes to, publishes and reports, and how it ends."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from irvis.runtime import Fuser
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.pairs import pairs_of
from irvis.runtime.ros import node as ros_node
from irvis.runtime.ros.image_message import fill, to_array

pytestmark = pytest.mark.system

rospy = pytest.importorskip("rospy", reason="no rospy: apt-get install ros-core python3-rospy")
import message_filters
import rosgraph
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "ros_node.py"
IRVIS = [sys.executable, "-m", "irvis.runtime.cli", "ros1"]
INFRARED, VISIBLE = "/lepton/image_raw", "/camera/image_raw"
REMAPPED = [f"infrared:={INFRARED}", f"visible:={VISIBLE}"]
SIZE = (60, 80)  # TNO's own takes a second a frame without a GPU, and 10 Hz should be possible on a busy machine
PERIOD_S, JITTER_S = 0.1, 0.01


@contextlib.contextmanager
def started(command, log):
    """A program in a process group of its own, of which nothing is left afterwards, whatever happens."""
    with open(log, "w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(20)  # roscore gives its own, in groups of theirs, 17 s
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def wait_for(condition, what, limit_s=20):
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, f"no {what} within {limit_s} s"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """A roscore on a free port of loopback, with this process as a node."""
    if shutil.which("roscore") is None:
        pytest.skip("no roscore: apt-get install ros-core, or source /opt/ros/noetic/setup.bash")
    folder = tmp_path_factory.mktemp("ros")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_MASTER_URI", f"http://127.0.0.1:{port}")
        patch.setenv("ROS_IP", "127.0.0.1")
        patch.setenv("ROS_HOME", str(folder))
        patch.delenv("ROS_HOSTNAME", raising=False)
        with started(["roscore", "-p", str(port)], folder / "roscore.log"):
            wait_for(rosgraph.is_master_online, "master")
            rospy.init_node("cameras", ["test"], disable_signals=True)
            yield folder
            rospy.signal_shutdown("the tests are done")


@pytest.fixture(scope="module")
def frames(request):
    """Ten pairs at SIZE: of TNO, or generated where that is absent."""
    try:
        folder = request.getfixturevalue("data") / "TNO" / "test"
    except pytest.skip.Exception:
        folder = request.getfixturevalue("samples")
    pairs = pairs_of(folder)[:10]
    read = [(read_infrared(pair.infrared), read_visible(pair.visible)) for pair in pairs]
    return [[cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA) for frame in pair] for pair in read]


@pytest.fixture(scope="module")
def wanted(frames):
    with Fuser() as fuser:
        return [fuser(*pair) for pair in frames]


class Cameras:
    """Publishes pairs at 10 Hz, each message when its stamp says; keeps which frame has which stamp."""

    def __init__(self, frames):
        self.frames, self.sent = frames, {}
        self.random = random.Random(1)
        self.infrared = rospy.Publisher(INFRARED, Image, queue_size=10)
        self.visible = rospy.Publisher(VISIBLE, Image, queue_size=10)

    def connect(self):
        both = self.infrared, self.visible
        wait_for(lambda: all(publisher.get_num_connections() for publisher in both), "subscriber")

    def run(self, count, infrared=True):
        start_s = time.time() + 0.05
        for number in range(count):
            at_s = start_s + number * PERIOD_S
            index = number % len(self.frames)
            queue = [(at_s, self.visible, self.frames[index][1], "camera")]
            if infrared:
                jittered_s = at_s + self.random.uniform(-JITTER_S, JITTER_S)
                queue.append((jittered_s, self.infrared, self.frames[index][0], "lepton"))
            for stamp_s, publisher, frame, frame_id in sorted(queue, key=lambda entry: entry[0]):
                time.sleep(max(0, stamp_s - time.time()))
                message = Image()
                fill(message, frame)
                message.header.stamp, message.header.frame_id = rospy.Time.from_sec(stamp_s), frame_id
                publisher.publish(message)
                if publisher is self.visible:
                    self.sent[message.header.stamp.to_nsec()] = index

    def close(self):
        self.infrared.unregister()
        self.visible.unregister()


@pytest.fixture
def cameras(master, frames):
    cameras = Cameras(frames)
    yield cameras
    cameras.close()


@contextlib.contextmanager
def listening(topic, kind):
    """What comes on a topic, in a list that grows."""
    messages = []
    subscriber = rospy.Subscriber(topic, kind, messages.append, queue_size=100, buff_size=1 << 24)
    try:
        yield messages
    finally:
        subscriber.unregister()


def counts(status):
    return {value.key: float(value.value) for value in status.values}


def test_tno_at_ten_hertz_with_jitter(cameras, wanted, master):
    log = master / "node.log"
    with listening("/fused", Image) as fused, listening("/diagnostics", DiagnosticArray) as reports, started(
        [*IRVIS, *REMAPPED, "_slop_s:=0.04", "--deadline-ms", "5000"], log
    ) as node:

        def said():
            return [status for array in reports for status in array.status if status.name == "irvis: fusion"]

        cameras.connect()
        wait_for(lambda: said() and "opening" not in said()[-1].message, "open model")
        cameras.run(40)

        def is_done():
            last = counts(said()[-1]) if said() else {}
            return bool(last) and last["paired"] == last["fused"] + last["dropped"] >= 40

        wait_for(is_done, "report on all pairs")
        report = counts(said()[-1])
        assert report["infrared"] == report["visible"] == report["paired"] == 40
        assert report["refused"] == report["late"] == 0
        assert len(fused) == report["fused"] >= 5  # on a slow machine the rest was dropped for newer ones
        assert any(status.level == 0 and status.message == "fusing" for status in said())
        busy = [counts(status) for status in said() if counts(status)["rate_hz"] > 0]
        assert all(0 < entry["latency_median_ms"] <= entry["latency_worst_ms"] < 5000 for entry in busy)

        stamps = [message.header.stamp.to_nsec() for message in fused]
        assert stamps == sorted(set(stamps))
        for stamp, message in zip(stamps, fused):
            assert (message.height, message.width, message.header.frame_id) == (*SIZE, "camera")
            expected = wanted[cameras.sent[stamp]]  # KeyError: a stamp that no visible message had
            assert message.encoding == ("bgr8" if expected.ndim == 3 else "mono8")
            np.testing.assert_array_equal(to_array(message), expected)

        # A bad frame costs a line, not the node.
        bad = Image(height=60, width=80, encoding="yuv422", step=160, data=bytes(160 * 60))
        good = Image()
        fill(good, cameras.frames[0][1])
        bad.header.stamp = good.header.stamp = rospy.Time.now()
        cameras.infrared.publish(bad)
        cameras.visible.publish(good)
        wait_for(lambda: any("refused" in status.message for status in said()), "report on the bad pair")

        before = len(said())
        cameras.run(25, infrared=False)
        wait_for(lambda: f"no infrared on {INFRARED} for" in said()[-1].message, "report on the silent camera")
        assert said()[-1].level == 1
        assert not any("no visible" in status.message for status in said()[before:])

        node.send_signal(signal.SIGINT)
        assert node.wait(10) == 130
        with pytest.raises(ProcessLookupError):
            os.killpg(node.pid, 0)
    lines = log.read_text().splitlines()
    assert len(lines) == 3, lines
    assert lines[0].endswith(f"{INFRARED} and {VISIBLE} to /fused")
    assert "pair refused, 1 so far: infrared must be encoded as one of" in lines[1]
    assert lines[2] == "irvis ros1: interrupted"


def test_a_lost_message_does_not_shift_all_pairs_after_it():
    """Two cameras of 30 Hz, 5 ms apart, of which one loses a message."""
    rospy.rostime.set_rostime_initialized(True)
    cameras, skews_ms = [message_filters.SimpleFilter() for _ in range(2)], []
    core = SimpleNamespace(
        settings=ros_node.Settings(),
        saw=lambda message, name: None,
        put=lambda *pair: skews_ms.append(1e3 * abs((pair[0].header.stamp - pair[1].header.stamp).to_sec())),
    )
    ros_node.synchronise(message_filters, *cameras, core)
    sent = sorted(
        (100 + k / 30 + 0.005 * camera, camera) for k in range(300) for camera in (0, 1) if (k, camera) != (5, 0)
    )
    for at_s, camera in sent:
        cameras[camera].signalMessage(SimpleNamespace(header=SimpleNamespace(stamp=rospy.Time.from_sec(at_s))))
    assert len(skews_ms) == 299
    assert max(skews_ms) < 5.1


def test_rosnode_kill_ends_it_with_0(cameras, master):
    log = master / "killed.log"
    with started([*IRVIS, *REMAPPED, "__name:=fusion"], log) as node:
        cameras.connect()
        cameras.run(3)
        subprocess.run(["rosnode", "kill", "/fusion"], check=True, timeout=20, stdout=subprocess.DEVNULL)
        assert node.wait(10) == 0
    assert "Traceback" not in log.read_text()


def test_what_cannot_run_is_one_line(master):
    cases = [
        (["_engin:=x", "__name:=mistyped"], "unknown parameter engin (a ROS master keeps it"),
        (["infrared:=/bad topic", "__name:=illegal"], "parameter infrared_topic must be a topic name"),
        (["_engine:=no.onnx", "__name:=missing"], "model not found: no.onnx"),
        (["__master:=http://127.0.0.1:9", "__name:=lost"], "no ROS master at http://127.0.0.1:9; start `roscore`"),
    ]
    with contextlib.ExitStack() as stack:
        logs = [master / f"refused {number}.log" for number in range(len(cases))]
        nodes = [stack.enter_context(started([*IRVIS, *case[0]], log)) for case, log in zip(cases, logs)]
        for node, log, (_, line) in zip(nodes, logs, cases):
            assert node.wait(30) == 1
            said = log.read_text()
            assert said.splitlines()[-1].startswith(f"irvis ros1: {line}")
            assert "Traceback" not in said


def test_the_example_sends_jpeg(cameras, wanted, master):
    log = master / "example.log"
    with listening("/fused/compressed", CompressedImage) as received, started(
        [sys.executable, str(EXAMPLE), *REMAPPED], log
    ) as node:
        cameras.connect()
        cameras.run(10)
        wait_for(lambda: received, "JPEG")
        message = received[0]
        assert (message.format, message.header.frame_id) == ("jpeg", "camera")
        picture = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
        expected = wanted[cameras.sent[message.header.stamp.to_nsec()]]
        assert picture.shape == expected.shape
        assert np.abs(picture.astype(int) - expected).mean() < 6  # what JPEG costs
        node.send_signal(signal.SIGINT)
        assert node.wait(10) == 0
    assert "Traceback" not in log.read_text()
