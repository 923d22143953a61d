"""The core on plain objects with the fields of messages, and with the student that irvis ships."""

import argparse
import dataclasses
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from irvis.runtime import FileError, Fuser, IrvisError
from irvis.runtime.cameras.pairing import SLOP_S
from irvis.runtime.ros import node, settings
from irvis.runtime.ros.image_message import fill, to_array
from irvis.runtime.ros.node import FusionCore, Settings
from irvis.runtime.samples import SCENES, make_scene

SIZE = (48, 64)
NOW_S = 1000.0


def make_message(image=None, at_s=NOW_S, frame_id="camera"):
    """A message of ROS 1: stamps there have secs and nsecs."""
    seconds, part = divmod(at_s, 1)
    stamp = SimpleNamespace(secs=int(seconds), nsecs=round(part * 1e9))
    message = SimpleNamespace(data=b"", header=SimpleNamespace(seq=7, stamp=stamp, frame_id=frame_id))
    if image is not None:
        fill(message, image)
    return message


def make_pair(scene="street", at_s=NOW_S, size=SIZE):
    infrared, visible = make_scene(scene, *size)
    return make_message(infrared, at_s, "lepton"), make_message(visible, at_s + 0.01, "camera")


class Running:
    """A core that runs in a thread, with all that it gives."""

    def __init__(self, **told):
        self.published, self.reports, self.warnings, self.errors = [], [], [], []
        self.published_in = set()
        self.gate = threading.Event()  # while it is not set, publishing waits, as a slow model would
        self.gate.set()
        self.core = FusionCore(
            Settings(**told),
            new_message=make_message,
            publish=self.publish,
            now_s=lambda: NOW_S + 0.05,
            report=self.reports.append,
            warn=self.warnings.append,
        )
        self.thread = threading.Thread(target=self.run)

    def publish(self, message):
        self.published_in.add(threading.current_thread())
        self.published.append(message)
        assert self.gate.wait(60)

    def run(self):
        try:
            self.core.run()
        except IrvisError as error:
            self.errors.append(error)

    def wait_for(self, condition):
        deadline_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.core.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(autouse=True)
def _no_reports(monkeypatch):
    """Let no report of the core's own end the time that a test asks about."""
    monkeypatch.setattr(node, "REPORT_S", 3600)


@pytest.fixture
def running():
    with Running() as running:
        yield running


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The core's monotonic clock, which a test moves by hand: on a busy machine a second passes unasked."""
    clock = SimpleNamespace(s=50.0)
    monkeypatch.setattr(node, "monotonic", lambda: clock.s)
    return clock


def make_core(**told):
    """A core that nobody runs."""
    return Running(**told).core


def put(core, *pair):
    """What the synchroniser and the subscribers do with a pair."""
    core.saw(pair[0], "infrared")
    core.saw(pair[1], "visible")
    core.put(*pair)


def test_a_pair_is_fused_as_by_the_fuser_and_keeps_the_header_of_the_visible(running):
    with Fuser() as fuser:
        for scene in SCENES:
            pair = make_pair(scene)
            done = len(running.published)
            running.core.put(*pair)
            running.wait_for(lambda done=done: len(running.published) > done)
            fused = running.published[-1]
            np.testing.assert_array_equal(to_array(fused), fuser(*map(to_array, pair)))
            assert (fused.encoding, fused.step, fused.header.frame_id) == ("bgr8", 64 * 3, "camera")
            assert node.stamp_s(fused.header.stamp) == pytest.approx(NOW_S + 0.01, abs=1e-6)
            assert fused.header is not pair[1].header  # rospy writes a number into it
    assert running.published_in == {running.thread}


def test_grey_visible_and_sixteen_bits_in_any_byte_order_are_fused(running):
    infrared, visible = make_scene("smoke", *SIZE)
    counts = 7000 + 10 * infrared.astype(np.uint16)
    heat, grey = make_message(counts), make_message(np.ascontiguousarray(visible[:, :, 1]))
    heat.is_bigendian, heat.data = 1, counts.astype(">u2").tobytes()
    running.core.put(heat, grey)
    running.wait_for(lambda: running.published)
    with Fuser() as fuser:
        np.testing.assert_array_equal(to_array(running.published[0]), fuser(counts, visible[:, :, 1]))
    assert running.published[0].encoding == "mono8"


def test_infrared_that_comes_in_colour_is_taken_as_grey(running):
    infrared, visible = make_scene("street", *SIZE)
    running.core.put(make_message(np.dstack([infrared] * 3)), make_message(visible))
    running.wait_for(lambda: running.published)
    with Fuser() as fuser:
        np.testing.assert_array_equal(to_array(running.published[0]), fuser(infrared, visible))


def test_the_newest_pair_wins_and_nobody_waits(running):
    running.gate.clear()
    running.core.put(*make_pair(at_s=1.0))
    running.wait_for(lambda: running.published)  # and held up there
    started = time.monotonic()
    for number in range(2, 8):
        running.core.put(*make_pair(at_s=float(number)))
    assert time.monotonic() - started < 30  # and not the minute that the gate would hold
    running.gate.set()
    running.wait_for(lambda: len(running.published) == 2)
    assert node.stamp_s(running.published[1].header.stamp) == pytest.approx(7.01)
    running.wait_for(lambda: running.core.counts["fused"] == 2)
    assert running.core.counts["paired"] == 7
    assert running.core.counts["dropped"] == 5


def test_many_threads_put_pairs_and_each_is_fused_or_counted(running):
    pairs = [make_pair(scene) for scene in SCENES]
    threads = [
        threading.Thread(target=lambda pair=pair: [put(running.core, *pair) for _ in range(40)]) for pair in pairs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = running.core.counts
    running.wait_for(lambda: counts["fused"] + counts["dropped"] == 120)
    assert counts["infrared"] == counts["visible"] == counts["paired"] == 120
    assert counts["fused"] == len(running.published)


def test_a_bad_pair_costs_one_line_and_the_next_is_fused(running):
    good = make_pair()
    running.core.put(*good)
    running.wait_for(lambda: running.core.counts["fused"] == 1)
    for spoil in ({"step": 1}, {"encoding": "32FC1"}, {"data": b""}):
        bad = make_pair()
        vars(bad[0]).update(spoil)
        before = running.core.counts["refused"]
        running.core.put(*bad)
        running.wait_for(lambda before=before: running.core.counts["refused"] > before)
    running.core.put(*make_pair(size=(16, 16))[:1], good[1])
    running.wait_for(lambda: running.core.counts["refused"] == 4)
    report = running.core.diagnostics()
    assert report.level == "WARN"  # one was fused
    assert "4 pairs refused: infrared and visible differ in size" in report.message
    assert running.warnings == [
        "pair refused, 1 so far: infrared has a step of 1 bytes, but 64 pixels of mono8 take 64"
    ]
    running.core.put(*good)
    running.wait_for(lambda: running.core.counts["fused"] == 2)
    assert len(running.published) == 2


SPOILT = {
    "a step of none": {"step": 0},
    "a step too short": {"step": 63},
    "a step too long": {"step": 2**32 - 1},
    "short data": {"data": bytes(48 * 64 - 1)},
    "long data": {"data": bytes(48 * 64 + 1)},
    "no data": {"data": b""},
    "no height": {"height": 0, "data": b""},
    "one pixel": {"height": 1, "width": 1, "step": 1, "data": b"x"},
    "a strip": {"height": 1, "width": 48 * 64, "step": 48 * 64},
    "a width without data": {"width": 2**32 - 1, "step": 2**32 - 1},
    "more than a camera has": {"height": 1, "width": 1 << 25, "step": 1 << 25, "data": np.zeros(1 << 25, np.uint8)},
    "NaN": {"encoding": "32FC1", "step": 256, "data": np.full(48 * 64, np.nan, np.float32).tobytes()},
    "Bayer": {"encoding": "bayer_grbg8"},
    "no encoding": {"encoding": ""},
    "an encoding to spoil the log": {"encoding": "\n[ERROR] all is lost\x1b[2J" * 999},
    "deeper than it says": {"encoding": "mono16"},
    "both spoilt": {"encoding": "", "data": b"", "height": 0},
}


@pytest.mark.parametrize("which", [0, 1], ids=["infrared", "visible"])
def test_whatever_a_camera_sends_costs_a_line_in_five_seconds_and_the_next_pair_is_fused(running, clock, which):
    for number, changes in enumerate(SPOILT.values(), 1):
        pair = make_pair()
        vars(pair[which]).update(changes)
        running.core.put(*pair)
        running.wait_for(lambda number=number: running.core.counts["refused"] == number)
    assert len(running.warnings) == 1
    clock.s += node.WARN_S
    running.core.put(*pair)
    running.wait_for(lambda: len(running.warnings) == 2)
    assert running.warnings[1].startswith(f"pair refused, {len(SPOILT) + 1} so far: ")
    assert all(line.isprintable() and len(line) < 300 for line in running.warnings)
    good = make_pair()
    running.core.put(*good)
    running.wait_for(lambda: running.published)
    with Fuser() as fuser:
        np.testing.assert_array_equal(to_array(running.published[0]), fuser(*map(to_array, good)))


def test_stamps_that_jump_repeat_or_lie_are_fused_all_the_same(running):
    for number, at_s in enumerate((NOW_S, NOW_S, NOW_S - 500, NOW_S + 500, 0.0, -1e9, 2.0**32 - 2), 1):
        put(running.core, *make_pair(at_s=at_s))
        running.wait_for(lambda number=number: running.core.counts["fused"] == number)
        assert node.stamp_s(running.published[-1].header.stamp) == pytest.approx(at_s + 0.01, abs=1e-3)
        report = running.core.diagnostics()
        assert report.message == "fusing" or "frames later than" in report.message
        assert "nan" not in dict(report.values)["latency_median_ms"]


def test_a_node_that_only_refuses_is_in_error(running):
    infrared, visible = make_pair()
    put(running.core, visible, infrared)  # exchanged: the colour one is fused, for it is grey enough
    running.wait_for(lambda: running.core.counts["fused"] == 1)
    running.core.diagnostics()
    infrared.encoding = "yuv422"
    put(running.core, infrared, visible)
    running.wait_for(lambda: running.core.counts["refused"] == 1)
    report = running.core.diagnostics()
    assert report.level == "ERROR"
    assert "1 pairs refused: infrared must be encoded as one of mono8" in report.message


def test_reports_come_each_second_and_end_with_the_node(monkeypatch):
    monkeypatch.setattr(node, "REPORT_S", 0.05)
    with Running() as running:
        put(running.core, *make_pair())
        running.wait_for(lambda: sum(dict(report.values)["fused"] == "1" for report in running.reports) >= 3)
    assert not [thread for thread in threading.enumerate() if thread.name == "irvis-report"]
    assert running.reports[-1] == node.Report("OK", "fusing", running.reports[-1].values)


def test_latency_is_from_the_older_stamp_and_lateness_a_warning(clock):
    with Running(deadline_ms=45) as running:
        running.gate.clear()
        running.core.put(*make_pair(at_s=NOW_S))
        running.wait_for(lambda: running.published)
        clock.s += 0.25
        running.gate.set()
        running.wait_for(lambda: running.core.counts["fused"] == 1)
        late = running.core.diagnostics()
        running.core.put(*make_pair(at_s=NOW_S + 0.02))
        running.wait_for(lambda: running.core.counts["fused"] == 2)
        in_time = running.core.diagnostics()
    assert (late.level, late.message) == ("WARN", "1 of 1 frames later than 45 ms")
    values = dict(late.values)
    assert float(values["latency_median_ms"]) == float(values["latency_worst_ms"]) == 50
    assert float(values["since_arrival_median_ms"]) == 250
    assert (in_time.level, in_time.message) == ("OK", "fusing")
    assert dict(in_time.values)["latency_median_ms"] == "30.0"
    assert dict(in_time.values)["late"] == "0"


def test_the_rate_is_of_the_time_since_the_last_report(clock):
    with Running() as running:
        for number in range(1, 4):
            put(running.core, *make_pair())
            running.wait_for(lambda number=number: running.core.counts["fused"] == number)
        clock.s += 0.5
        assert dict(running.core.diagnostics().values)["rate_hz"] == "6.0"
        put(running.core, *make_pair())
        running.wait_for(lambda: running.core.counts["fused"] == 4)
        clock.s += 0.5
        assert dict(running.core.diagnostics().values)["rate_hz"] == "2.0"
        clock.s += 0.5
        values = dict(running.core.diagnostics().values)
    assert values["rate_hz"] == "0.0"
    assert values["latency_median_ms"] == "nan"
    assert values["fused"] == "4"


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        ((), "no infrared on /lepton for 2.5 s; no visible on visible for 2.5 s"),
        (("visible",), "no infrared on /lepton for 2.5 s"),
        (("infrared",), "no visible on visible for 2.5 s"),
        (("infrared", "visible"), "both cameras send, but no two stamps are within 0.02 s of each other"),
    ],
)
def test_silence_for_a_second_names_the_topic(clock, seen, line):
    with Running(infrared_topic="/lepton", slop_s=0.02) as running:
        put(running.core, *make_pair())
        running.wait_for(lambda: running.core.counts["fused"] == 1)
        clock.s += 0.9
        assert running.core.diagnostics().level == "OK"
        clock.s += 1.6
        for name in seen:
            running.core.saw(make_message(), name)
        report = running.core.diagnostics()
    assert (report.level, report.message) == ("WARN", line)


def test_before_the_model_is_open_the_report_says_so():
    report = make_core(engine="my.engine").diagnostics()
    assert (report.level, report.message) == ("WARN", "opening my.engine")


def test_a_missing_model_ends_the_node_with_its_error():
    with Running(engine="no.onnx") as running:
        running.thread.join(20)
        assert [type(error) for error in running.errors] == [FileError]
    assert "model not found: no.onnx" in str(running.errors[0])


def test_the_registration_is_the_fusers(tmp_path):
    from irvis.runtime.registration import Registration

    homography = np.array([[1, 0, 3], [0, 1, 2], [0, 0, 1]], np.float64)
    path = tmp_path / "registration.json"
    Registration(homography, SIZE, SIZE, "points").save(path)
    pair = make_pair()
    with Running(registration=str(path), crop=True) as running, Fuser(registration=path, crop=True) as fuser:
        running.core.put(*pair)
        running.wait_for(lambda: running.published)
        fused = to_array(running.published[0])
        np.testing.assert_array_equal(fused, fuser(*map(to_array, pair)))
    assert fused.shape[0] < SIZE[0]


def test_stamps_of_both_kinds_are_seconds():
    assert node.stamp_s(SimpleNamespace(secs=3, nsecs=250_000_000)) == 3.25
    assert node.stamp_s(SimpleNamespace(sec=3, nanosec=250_000_000)) == 3.25


def test_failures_to_publish_are_silent_only_once_ros_shuts_down():
    def publish(message):
        raise RuntimeError("publish() to a closed topic")

    node.ignoring_shutdown(publish, lambda: True)("x")
    with pytest.raises(RuntimeError, match="closed topic"):
        node.ignoring_shutdown(publish, lambda: False)("x")


def test_missing_ros_is_one_line_with_what_to_do():
    with pytest.raises(
        IrvisError, match=r"ROS cannot be imported \(No module named 'no_such_ros'\): source it"
    ) as caught:
        node.import_ros(["json", "no_such_ros"], "source it")
    assert "\n" not in str(caught.value)


# Settings.


def parse(*argv):
    parser = argparse.ArgumentParser()
    settings.add_options(parser)
    return parser.parse_args(argv)


def test_the_command_line_goes_before_parameters_and_these_before_defaults():
    parameters = {"engine": "a.engine", "slop_s": 1, "resize": True}
    told = settings.read_settings(parameters, parse("--model", "b.onnx", "--deadline-ms", "33", "--crop"))
    assert told == Settings(engine="b.onnx", slop_s=1, resize=True, deadline_ms=33, crop=True)
    assert settings.read_settings({}, parse()) == Settings()


def test_the_slop_is_that_of_the_loop_and_below_the_interval_of_30_hz():
    assert settings.read_settings({}, parse()).slop_s == SLOP_S < 1 / 30
    parser = argparse.ArgumentParser()
    settings.add_options(parser)
    assert "below the frame interval (default: 0.02)" in " ".join(parser.format_help().split())


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        (
            {"engin": "x"},
            "unknown parameter engin (a ROS master keeps it until `rosparam delete`); known are infra",
        ),
        ({"infrared_topic": ""}, "parameter infrared_topic must be a topic name, such as /camera/image. Got ''"),
        ({"fused_topic": "my topic"}, "parameter fused_topic must be a topic name, such as /camera/image. Got 'my "),
        ({"visible_topic": "a\n"}, "parameter visible_topic must be a topic name"),
        ({"engine": 12}, "parameter engine must be of type str. Got 12"),
        ({"crop": 1}, "parameter crop must be of type bool. Got 1"),
        ({"queue_size": True}, "parameter queue_size must be of type int. Got True"),
        ({"queue_size": 1.5}, "parameter queue_size must be of type int. Got 1.5"),
        ({"slop_s": "fast"}, "parameter slop_s must be of type float. Got 'fast'"),
        ({"slop_s": 0}, "parameter slop_s must be above 0. Got 0"),
        ({"deadline_ms": float("nan")}, "parameter deadline_ms must be above 0. Got nan"),
        ({"slop_s": float("inf")}, "parameter slop_s must be above 0. Got inf"),
    ],
)
def test_bad_parameters_are_one_line(parameters, line):
    with pytest.raises(IrvisError) as caught:
        settings.read_settings(parameters, parse())
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().slop_s = 1
