import random

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags")
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras import PairedSources, open_source
from irvis.runtime.cameras.bag import BagReader
from irvis.runtime.cameras.uri import parse_uri
from irvis.runtime.errors import FileError
from irvis.runtime.ros.image_message import fill

START_NS = 1_700_000_000 * 10**9
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def header(types, stamp_ns):
    time_type, header_type = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
    values = {"stamp": time_type(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), "frame_id": "camera"}
    if "seq" in header_type.__dataclass_fields__:
        values["seq"] = 0
    return header_type(**values)


def write_bag(path, messages, ros1):
    """Write (topic, recorded at, stamped at, image, compressed), times in ns since the start."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_FOXY)
    serialize = store.serialize_ros1 if ros1 else store.serialize_cdr
    if ros1:
        writer = Writer1(path)
    else:
        try:
            writer = Writer2(path, version=8)
        except TypeError:  # rosbags 0.9
            writer = Writer2(path)
    with writer:
        connections = {}
        for topic, recorded_ns, stamped_ns, image, compressed in messages:
            kind = COMPRESSED if compressed else IMAGE
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            stamp = header(store.types, START_NS + stamped_ns)
            if compressed:
                data = cv2.imencode(".png", image)[1].ravel()
                message = store.types[kind](header=stamp, format="png", data=data)
            else:
                message = store.types[kind](
                    header=stamp, height=0, width=0, encoding="", is_bigendian=0, step=0, data=np.empty(0, np.uint8)
                )
                fill(message, image)
            writer.write(connections[topic], START_NS + recorded_ns, serialize(message, kind))
    return path


@pytest.fixture(params=["ros1", "ros2"])
def bag(request, tmp_path):
    """Five pairs at 10 Hz: infrared of 16 bits, visible compressed, which arrived 60 ms late."""
    messages = []
    for k in range(5):
        taken = k * 10**8
        messages.append(("/ir", taken, taken, np.full((20, 30), 1000 * k, np.uint16), False))
        messages.append(("/vi", taken + 60 * 10**6, taken + 10**6, np.full((20, 30, 3), 40 * k, np.uint8), True))
    name = "record.bag" if request.param == "ros1" else "record"
    return write_bag(tmp_path / name, messages, request.param == "ros1")


def test_two_topics_are_paired_by_their_headers(bag):
    with PairedSources(f"bag:{bag}?topic=/ir", f"bag:{bag}?topic=/vi", realtime=False) as pairs:
        found = [(int(p.infrared.image[0, 0]), int(p.visible.image[0, 0, 0]), round(p.skew_ms, 3)) for p in pairs]
    assert found == [(1000 * k, 40 * k, -1.0) for k in range(5)]


def test_frames_are_in_the_form_of_their_role(bag):
    with open_source(f"bag:{bag}?topic=/ir", "infrared", realtime=False) as source:
        assert [(frame.image.shape, frame.image.dtype) for frame in source] == [((20, 30), np.uint16)] * 5
    with open_source(f"bag:{bag}?topic=/vi", "infrared", realtime=False) as source:
        assert [frame.image.shape for frame in source] == [(20, 30)] * 5


def test_a_loop_goes_on_in_time(bag):
    with open_source(f"bag:{bag}?topic=/ir&loop=1", "infrared", realtime=False) as source:
        stamps = [frame.stamp_s for _, frame in zip(range(12), source)]
    assert (np.diff(stamps) > 0).all()


def test_the_only_topic_need_not_be_named(tmp_path):
    frame = np.zeros((20, 30), np.uint8)
    write_bag(tmp_path / "one.bag", [("/ir", k * 10**8, k * 10**8, frame, False) for k in range(3)], ros1=True)
    with open_source(str(tmp_path / "one.bag"), "infrared", realtime=False) as source:
        assert len(list(source)) == 3


def test_a_stamp_of_another_clock_gives_way_to_the_recordings(tmp_path):
    frame = np.zeros((20, 30), np.uint8)
    messages = [("/ir", k * 10**8, -START_NS + k, frame, False) for k in range(3)]  # since the camera's start
    write_bag(tmp_path / "one.bag", messages, ros1=True)
    with open_source(str(tmp_path / "one.bag"), "infrared", realtime=False) as source:
        np.testing.assert_allclose(np.diff([frame.stamp_s for frame in source]), 0.1, atol=1e-6)


@pytest.fixture(params=["ros1", "ros2"])
def two_bags(request, tmp_path):
    """Eight pairs at 10 Hz in two bags: the level is the tenth of a second. The visible one begins with the third."""
    uris = []
    for topic, first, last in (("/ir", 0, 7), ("/vi", 3, 9)):
        messages = [
            (topic, k * 10**8, k * 10**8, np.full((20, 30), k, np.uint8), False) for k in range(first, last + 1)
        ]
        name = topic[1:] + (".bag" if request.param == "ros1" else "")
        uris.append(f"bag:{write_bag(tmp_path / name, messages, request.param == 'ros1')}")
    return uris


@pytest.mark.parametrize("realtime", [False, True])
def test_two_bags_that_start_at_different_times_are_paired_by_the_clock(two_bags, realtime):
    with PairedSources(*two_bags, realtime=realtime) as pairs:
        found = []
        for pair in pairs:
            found.append((int(pair.infrared.image[0, 0]), int(pair.visible.image[0, 0]), round(pair.skew_ms, 3)))
            assert not realtime or pair.visible.grabbed_s >= pair.visible.stamp_s
    assert set(found) <= {(k, k, 0.0) for k in range(3, 8)}
    assert found if realtime else len(found) == 5


def test_two_bags_of_different_lengths_go_on_together_in_loops(two_bags):
    with PairedSources(*(f"{uri}?loop=1" for uri in two_bags), realtime=False) as pairs:
        found = [[int(frame.image[0, 0]) for frame in pair] for _, pair in zip(range(15), pairs)]
    assert found == 3 * [[k, k] for k in range(3, 8)]


def test_two_bags_of_different_times_are_refused(two_bags, tmp_path):
    later = write_bag(tmp_path / "later.bag", [("/vi", 10**12, 10**12, np.zeros((20, 30), np.uint8), False)], ros1=True)
    with pytest.raises(FileError, match=r"later\.bag were not recorded at the same time"):
        PairedSources(two_bags[0], f"bag:{later}")


def test_images_are_passed_over_up_to_a_time_or_the_end_of_the_bag(two_bags):
    for options, level in (("", None), ("?loop=1", 0)):
        reader, buffers = BagReader(parse_uri(two_bags[0] + options), "infrared"), Buffers()
        assert reader.skip(0.25) == 3
        assert int(reader.read(buffers).image[0, 0]) == 3
        assert reader.skip(0.35) == 0
        assert reader.skip(60.0) == 4
        reading = reader.read(buffers)
        assert (reading and int(reading.image[0, 0])) == level
        reader.close()


def damageable(bag):
    """The file of a bag that holds its messages."""
    return bag if bag.is_file() else next(bag.glob("*.db3"))


def test_a_damaged_message_costs_that_frame(bag):
    file = damageable(bag)
    file.write_bytes(file.read_bytes().replace(b"mono16", b"\xff" * 6, 1))  # no text
    with open_source(f"bag:{bag}?topic=/ir", "infrared", realtime=False) as source:
        assert len(list(source)) == 4
        assert source.status.bad == 1


def test_a_loop_of_which_no_message_can_be_read_ends(bag):
    file = damageable(bag)
    file.write_bytes(file.read_bytes().replace(b"mono16", b"\xff" * 6))
    reader = BagReader(parse_uri(f"bag:{bag}?topic=/ir&loop=1"), "infrared")
    for _ in range(5):
        with pytest.raises(FileError, match="is damaged"):
            reader.read(Buffers())
    assert reader.read(Buffers()) is None
    reader.close()


def test_no_damage_shows_a_traceback(bag):
    file = damageable(bag)
    whole, chance = file.read_bytes(), random.Random(1)
    lines = []
    for _ in range(30):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        file.write_bytes(damaged)
        try:
            with open_source(f"bag:{bag}?topic=/ir", "infrared", realtime=False) as source:
                assert len(list(source)) <= 5
        except FileError as error:
            lines.append(str(error))
    assert lines
    assert "\n" not in "".join(lines)


def test_what_cannot_be_read_is_one_line(bag, tmp_path):
    (tmp_path / "broken.bag").write_bytes(b"#ROSBAG V2.0\nnonsense")
    for uri, message in [
        (f"bag:{bag}", r"choose a topic with \?topic=NAME. It has images on /ir, /vi"),
        (f"bag:{bag}?topic=/heat", "no images on topic /heat. It has images on /ir, /vi"),
        ("bag:none.bag", "bag not found: none.bag"),
        (f"bag:{tmp_path}/broken.bag", "cannot read bag .*broken.bag"),
    ]:
        with pytest.raises(FileError, match=message) as caught:
            open_source(uri, "infrared")
        assert "\n" not in str(caught.value)
