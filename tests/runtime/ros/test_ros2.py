"""The plain functions of the ROS nodes on messages that rosbags serialises as ROS writes them, without any ROS.

Nothing here starts ROS 2: the wiring in ``ros2.main`` has been run by no ROS 2 yet.
"""

import argparse
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from irvis.runtime import Fuser, IrvisError
from irvis.runtime.ros import node, ros2
from irvis.runtime.ros.image_message import fill, to_array
from irvis.runtime.samples import make_scene

pytest.importorskip("rosbags")
from rosbags.typesys import Stores, get_typestore

STORES = ("ROS1_NOETIC", "ROS2_FOXY", "ROS2_HUMBLE")
SIZE = (48, 64)


class Release:
    """The message types of one release of ROS, and the way over the wire and back."""

    def __init__(self, name):
        self.store = get_typestore(getattr(Stores, name))
        self.is_ros1 = name.startswith("ROS1")
        self.diagnostics = SimpleNamespace(
            **{
                name: self.store.types[f"diagnostic_msgs/msg/{name}"]
                for name in ("DiagnosticArray", "DiagnosticStatus", "KeyValue")
            }
        )

    def header(self, stamp, frame_id):
        fields = {"stamp": self.store.types["builtin_interfaces/msg/Time"](*stamp), "frame_id": frame_id}
        return self.store.types["std_msgs/msg/Header"](**fields, **({"seq": 0} if self.is_ros1 else {}))

    def image(self, stamp=(0, 0), frame_id="", frame=None):
        message = self.store.types["sensor_msgs/msg/Image"](
            self.header(stamp, frame_id), 0, 0, "", 0, 0, np.empty(0, np.uint8)
        )
        if frame is not None:
            fill(message, frame)
        return message

    def sent(self, message):
        """The message as a subscriber gets it."""
        name = message.__msgtype__
        if self.is_ros1:
            return self.store.deserialize_ros1(self.store.serialize_ros1(message, name), name)
        return self.store.deserialize_cdr(self.store.serialize_cdr(message, name), name)


@pytest.fixture(params=STORES, scope="module")
def release(request):
    return Release(request.param)


@pytest.mark.parametrize("kind", ["mono8", "bgr8", "mono16"])
def test_pictures_survive_the_wire(release, kind):
    infrared, visible = make_scene("smoke", 31, 47)
    frame = {"mono8": infrared, "bgr8": visible, "mono16": infrared.astype(np.uint16) * 257}[kind]
    message = release.sent(release.image((3, 4), "camera", frame))
    assert message.encoding == kind
    back = to_array(message)
    assert back.dtype == frame.dtype
    np.testing.assert_array_equal(back, frame)


def test_padding_order_and_byte_order_survive_the_wire(release):
    infrared, visible = make_scene("street", 20, 30)
    colour, heat = release.image(), release.image()
    rows = np.full((20, 95), 99, np.uint8)
    rows[:, :90] = visible[:, :, ::-1].reshape(20, 90)
    colour.height, colour.width, colour.encoding, colour.step, colour.data = 20, 30, "rgb8", 95, rows.reshape(-1)
    wide = (infrared.astype(np.uint16) * 200).astype(">u2")
    heat.height, heat.width, heat.encoding, heat.step, heat.is_bigendian = 20, 30, "16UC1", 60, 1
    heat.data = wide.reshape(-1).view(np.uint8)
    np.testing.assert_array_equal(to_array(release.sent(colour)), visible)
    np.testing.assert_array_equal(to_array(release.sent(heat)), wide)


def test_a_pair_is_fused_into_a_message_with_the_header_of_the_visible(release):
    infrared, visible = make_scene("glare", *SIZE)
    pair = release.image((5, 10), "lepton", infrared), release.image((5, 20_000_000), "camera", visible)
    fused = release.image()
    with Fuser(threads=1) as fuser:
        node.fuse_messages(fuser, release.sent(pair[0]), release.sent(pair[1]), fused)
        fused = release.sent(fused)
        np.testing.assert_array_equal(to_array(fused), fuser(infrared, visible))
    assert (fused.header.frame_id, fused.encoding, fused.height, fused.width) == ("camera", "bgr8", *SIZE)
    assert (fused.header.stamp.sec, fused.header.stamp.nanosec) == (5, 20_000_000)
    assert node.stamp_s(fused.header.stamp) == pytest.approx(5.02)


def test_a_truncated_message_is_refused_in_one_line(release):
    message = release.image((1, 2), "camera", make_scene("street", *SIZE)[1])
    message.data = message.data[:-1]
    with pytest.raises(IrvisError, match="visible holds 9215 bytes, but 48 rows of 192 are 9216") as caught:
        to_array(release.sent(message), "visible")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("level", node.LEVELS)
def test_a_report_survives_the_wire(release, level):
    report = node.Report(level, "no infrared on /lepton for 1.2 s", [("fused", "12"), ("rate_hz", "9.8")])
    array = node.diagnostic_array(release.diagnostics, release.header((7, 8), ""), report)
    array = release.sent(array)
    (status,) = array.status
    assert status.level == {"OK": 0, "WARN": 1, "ERROR": 2}[level]
    assert (status.name, status.message, status.hardware_id) == ("irvis: fusion", report.message, "")
    assert [(value.key, value.value) for value in status.values] == report.values
    assert array.header.stamp.sec == 7


def test_a_recorded_stream_goes_through_the_core(release):
    scenes = [make_scene("street", *SIZE, seed=seed) for seed in range(3)]
    published, lines = [], []
    core = node.FusionCore(
        node.Settings(),
        new_message=release.image,
        publish=lambda message: (published.append(release.sent(message)), feed()),
        now_s=lambda: 10.0,
        report=lambda report: None,
        warn=lines.append,
    )

    def feed():
        if len(published) == len(scenes):
            return core.stop()
        frames = scenes[len(published)]
        infrared, visible = (
            release.sent(release.image((9, nanosec), name, frame))
            for nanosec, name, frame in zip((0, 1000), ("lepton", "camera"), frames)
        )
        return core.put(infrared, visible)

    feed()
    core.run()
    assert not lines
    assert core.counts["fused"] == 3
    with Fuser() as fuser:
        for message, frames in zip(published, scenes):
            np.testing.assert_array_equal(to_array(message), fuser(*frames))


# Of ros2 itself.


def test_parameters_are_those_that_the_node_was_given():
    given = {"engine": "a.engine", "slop_s": 0.02, "use_sim_time": True, "qos_overrides./fused.depth": 3}
    found = {name: SimpleNamespace(value=value) for name, value in given.items()}
    ros_node = SimpleNamespace(get_parameters_by_prefix=lambda prefix: found if prefix == "" else {})
    assert ros2.parameters_of(ros_node) == {"engine": "a.engine", "slop_s": 0.02}


def test_everything_after_ros_args_is_ros_own():
    parser = argparse.ArgumentParser()
    ros2.add_arguments(parser)
    arguments = parser.parse_args(
        "--model a.onnx --ros-args -r infrared:=/lepton -p crop:=true --log-level info".split()
    )
    assert arguments.engine == "a.onnx"
    assert arguments.ros_args == ["-r", "infrared:=/lepton", "-p", "crop:=true", "--log-level", "info"]
    assert parser.parse_args([]).ros_args == []


@pytest.mark.skipif(importlib.util.find_spec("rclpy") is not None, reason="ROS 2 is here")
def test_without_ros_2_the_command_says_what_to_do():
    parser = argparse.ArgumentParser()
    ros2.add_arguments(parser)
    with pytest.raises(IrvisError, match=r"rclpy.*source /opt/ros/humble/setup\.bash"):
        ros2.main(parser.parse_args([]))


@pytest.mark.parametrize("ok", [True, False])
def test_what_ends_the_spinning_is_kept_unless_ros_shut_down(ok):
    """After a shutdown rclpy raises of several kinds; before it, an error must not pass unseen in a thread."""
    error, stopped, failures = RuntimeError("a callback failed"), [], []

    def spin():
        raise error

    core = SimpleNamespace(stop=lambda: stopped.append(True))
    ros2._spin(SimpleNamespace(ok=lambda: ok), SimpleNamespace(spin=spin), core, failures)
    assert stopped == [True]
    assert failures == ([error] if ok else [])
