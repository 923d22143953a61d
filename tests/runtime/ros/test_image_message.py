import array
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.runtime import FrameError
from irvis.runtime.ros.image_message import ENCODINGS, LARGEST, fill, to_array
from irvis.runtime.samples import make_scene

SIZES = st.integers(1, 12)


def make_message(encoding="mono8", height=2, width=3, padding=0, is_bigendian=0, seed=0):
    """A message of random bytes, padding too."""
    pixel = ENCODINGS[encoding]
    step = width * pixel.channels * np.dtype(pixel.dtype).itemsize + padding
    data = np.random.default_rng(seed).integers(0, 256, step * height, dtype=np.uint8).tobytes()
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=is_bigendian, step=step, data=data
    )


def read_slowly(message):
    """The same as ``to_array``, sample by sample, written from the definition of the message alone."""
    wide, channels = message.encoding in ("mono16", "16UC1"), {"bgr8": 3, "8UC3": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4}
    code, count = ("H" if wide else "B"), channels.get(message.encoding, 1)
    rows = []
    for y in range(message.height):
        row = message.data[y * message.step : (y + 1) * message.step]
        order = ">" if message.is_bigendian else "<"
        samples = struct.unpack_from(f"{order}{message.width * count}{code}", row)
        pixels = [samples[x * count : (x + 1) * count] for x in range(message.width)]
        if message.encoding.startswith("rgb"):
            pixels = [(blue, green, red) for red, green, blue, *_ in pixels]
        rows.append([pixel[:3] if count > 1 else pixel[0] for pixel in pixels])
    return np.array(rows, np.uint16 if wide else np.uint8)


@given(st.sampled_from(sorted(ENCODINGS)), SIZES, SIZES, st.integers(0, 5), st.booleans(), st.integers(0, 999))
def test_every_layout_reads_as_sample_by_sample(encoding, height, width, padding, is_bigendian, seed):
    message = make_message(encoding, height, width, padding, int(is_bigendian), seed)
    wanted = read_slowly(message)
    for data in (message.data, array.array("B", message.data), np.frombuffer(message.data, np.uint8)):
        message.data = data
        frame = to_array(message)
        assert frame.dtype == wanted.dtype
        assert frame.dtype.isnative
        assert frame.flags.aligned
        np.testing.assert_array_equal(frame, wanted)


@given(st.sampled_from([(np.uint8, ()), (np.uint8, (3,)), (np.uint16, ())]), SIZES, SIZES, st.integers(0, 999))
def test_what_is_filled_in_comes_back(kind, height, width, seed):
    dtype, channels = kind
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, *channels), dtype)
    for empty in (b"", array.array("B"), np.empty(0, np.uint8)):
        message = SimpleNamespace(data=empty)
        fill(message, image[::-1, ::-1])  # not contiguous
        assert type(message.data) is type(empty)
        assert (message.height, message.width) == (height, width)
        np.testing.assert_array_equal(to_array(message), image[::-1, ::-1])
        np.testing.assert_array_equal(read_slowly(message), image[::-1, ::-1])
        fill(message, image)
        assert not np.shares_memory(to_array(message), image)  # whose owner may write over it next


def test_encodings_are_those_that_viewers_know():
    frames = (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 258, np.uint16))
    for frame, encoding, step in zip(frames, ("mono8", "bgr8", "mono16"), (3, 9, 6)):
        message = SimpleNamespace(data=b"")
        fill(message, frame)
        assert (message.encoding, message.step, message.is_bigendian) == (encoding, step, 0)
    assert message.data == b"\2\1" * 6  # little-endian


@pytest.mark.parametrize("encoding", ["mono8", "bgr8", "16UC1"])
def test_what_needs_no_copy_is_a_view(encoding):
    message = make_message(encoding, padding=4)
    message.data = bytearray(message.data)
    frame = to_array(message)
    before = frame.copy()
    message.data[:] = bytes(255 - value for value in message.data)
    np.testing.assert_array_equal(frame, ~before)


def test_a_sequence_of_integers_is_taken_too():
    message = make_message()
    message.data = [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(to_array(message), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"encoding": "bayer_rggb8"}, r"infrared must be encoded as one of mono8, .*rgba8\. Got 'bayer_rggb8'"),
        ({"encoding": "x" * 1000}, r"Got 'x{40}'"),
        ({"height": 0}, "infrared is empty: 0x3"),
        ({"width": 0}, "infrared is empty: 2x0"),
        ({"step": 2}, "infrared has a step of 2 bytes, but 3 pixels of mono8 take 3"),
        ({"step": 4}, "infrared holds 6 bytes, but 2 rows of 4 are 8"),
        ({"data": b"12345"}, "infrared holds 5 bytes, but 2 rows of 3 are 6"),
        ({"data": b"1234567"}, "infrared holds 7 bytes"),
        ({"data": b""}, "infrared holds 0 bytes"),
        ({"height": 2**32 - 1, "width": 2**32 - 1}, "a step of 3 bytes, but 4294967295 pixels"),
        ({"height": 2**32 - 1, "width": 1, "step": 2**32 - 1}, "holds 6 bytes, but 4294967295 rows"),
        ({"encoding": "mono16"}, "3 pixels of mono16 take 6"),
        ({"encoding": "a\nb\x1b[2J"}, r"Got 'a\\nb\\x1b\[2J'"),
        (
            {"height": 1, "width": LARGEST + 1, "step": LARGEST + 1, "data": np.zeros(LARGEST + 1, np.uint8)},
            "infrared is too large: 1x16777217 are more than 16777216 pixels",
        ),
    ],
)
def test_contradictions_are_one_line(changes, line):
    message = make_message()
    vars(message).update(changes)
    with pytest.raises(FrameError, match=line) as caught:
        to_array(message, "infrared")
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from([*ENCODINGS, "32FC1", ""]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 9),
    st.integers(0, 2**32 - 1) | st.integers(0, 30),
    st.integers(0, 1),
    st.binary(max_size=60),
)
def test_whatever_comes_is_an_image_or_an_error_of_one_line(encoding, height, width, step, is_bigendian, data):
    message = SimpleNamespace(height=height, width=width, encoding=encoding, step=step, data=data)
    message.is_bigendian = is_bigendian
    line = ""
    try:
        assert to_array(message).shape[:2] == (height, width)
    except FrameError as error:
        line = str(error)
    assert "\n" not in line


@pytest.mark.parametrize("image", [np.zeros((2, 3)), np.zeros((2, 3, 4), np.uint8), np.zeros((0, 3), np.uint8)])
def test_only_fused_pictures_are_filled_in(image):
    with pytest.raises(FrameError, match=r"a message takes uint8 \(H, W\)"):
        fill(SimpleNamespace(data=b""), image)


def test_a_read_only_view_with_padding_is_fused_like_the_frame_itself():
    from irvis.runtime import Fuser

    infrared, visible = make_scene("street", 48, 64)
    padded = np.zeros((48, 200), np.uint8)
    padded[:, :192] = visible.reshape(48, 192)
    message = make_message("bgr8", 48, 64, padding=8)
    message.data = padded.tobytes()
    view = to_array(message)
    assert not view.flags.writeable
    with Fuser(threads=1) as fuser:
        np.testing.assert_array_equal(fuser(infrared, view), fuser(infrared, visible))
