import cv2
import numpy as np
import pytest

from irvis.runtime.buffers import Buffers
from irvis.runtime.cameras import PairedSources, open_source
from irvis.runtime.cameras.reader import open_reader
from irvis.runtime.cameras.uri import parse_uri
from irvis.runtime.errors import EndedEarly, FileError
from irvis.runtime.images import write_image


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 24))
    for level in range(5):
        writer.write(np.full((24, 32, 3), 40 * level, np.uint8))
    writer.release()
    return tmp_path / "clip.avi"


@pytest.fixture
def folder(tmp_path):
    for level in range(3):
        write_image(tmp_path / f"frames/{level}.png", np.full((24, 32), 1000 * level, np.uint16))
    return tmp_path / "frames"


def readings(uri, role, most=100):
    reader = open_reader(parse_uri(uri), role)
    buffers = Buffers()
    found = []
    while len(found) < most:
        reading = reader.read(buffers)
        if reading is None:
            break
        found.append((reading.image.copy(), reading.stamp_s))
    reader.close()
    return found


@pytest.mark.parametrize(("role", "shape"), [("infrared", (24, 32)), ("visible", (24, 32, 3))])
def test_a_video_is_read_in_the_form_of_its_role(video, role, shape):
    found = readings(f"file://{video}", role)
    assert [image.shape for image, _ in found] == [shape] * 5
    np.testing.assert_allclose([image.mean() for image, _ in found], [0, 40, 80, 120, 160], atol=3)
    np.testing.assert_allclose([stamp for _, stamp in found], np.arange(5) / 25)


def test_a_video_played_in_a_loop_goes_on_in_time(video):
    found = readings(f"file://{video}?loop=1&fps=10", "visible", most=12)
    np.testing.assert_allclose([image.mean() for image, _ in found], [40 * (k % 5) for k in range(12)], atol=3)
    np.testing.assert_allclose([stamp for _, stamp in found], np.arange(12) / 10)


@pytest.mark.parametrize("options", ["", "?loop=1"])
def test_a_video_that_is_cut_off_gives_its_frames_and_then_says_so(video, options, cut_avi):
    whole = video.with_name("whole.avi")
    whole.write_bytes(video.read_bytes())
    cut_avi(video, 2)
    with open_source(f"file://{video}{options}", "visible", realtime=False) as source:
        frames = iter(source)
        assert next(frames).image.mean() < 3
        with pytest.raises(EndedEarly, match=r"clip.avi ends after 2 of its 5 frames"):
            list(frames)
        assert (source.status.frames, source.status.bad) == (2, 0)
    for uris in ((str(whole), str(video)), (str(video), str(whole))):
        with PairedSources(*uris, realtime=False) as pairs:
            with pytest.raises(EndedEarly, match=r"clip.avi"):
                list(pairs)
            assert pairs.status()["paired"] == 2


def test_the_frames_of_a_video_share_memory(video):
    reader, buffers = open_reader(parse_uri(str(video)), "visible"), Buffers()
    first, second = reader.read(buffers).image, reader.read(buffers).image
    assert np.shares_memory(first, second)


def test_a_folder_keeps_16_bits(folder):
    found = readings(str(folder), "infrared")
    assert [(image.dtype, image[0, 0], stamp) for image, stamp in found] == [
        (np.uint16, 1000 * k, pytest.approx(k / 30)) for k in range(3)
    ]
    assert len(readings(f"folder://{folder}?loop=1", "infrared", most=8)) == 8


def test_a_bad_image_of_a_folder_is_passed_over(folder, caplog):
    (folder / "1.png").write_bytes(b"no image")
    with open_source(str(folder), "infrared", realtime=False) as source:
        assert [int(frame.image[0, 0]) for frame in source] == [0, 2000]
        assert source.status.bad == 1
    assert "1.png" in caplog.text


def test_16_bits_are_refused_as_visible(folder):
    with open_source(str(folder), "visible", realtime=False) as source:
        assert list(source) == []
        assert source.status.bad == 3


def test_what_is_missing_or_broken_is_one_line(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nonsense" * 9)
    (tmp_path / "empty").mkdir()
    for uri, message in [
        (f"file://{tmp_path}/none.mp4", "video not found"),
        (str(tmp_path / "x.mp4"), "not a video"),
        (str(tmp_path / "empty"), "no image in folder"),
    ]:
        with pytest.raises(FileError, match=message):
            open_source(uri, "visible")


def test_frames_of_a_video_are_passed_over_up_to_a_time_or_its_end(video):
    reader, buffers = open_reader(parse_uri(f"file://{video}?loop=1"), "visible"), Buffers()
    assert reader.skip(0.0) == 0
    assert reader.skip(2 / 25) == 2
    reading = reader.read(buffers)
    assert (reading.image.mean(), reading.stamp_s) == (pytest.approx(80, abs=3), 2 / 25)
    assert reader.skip(60.0) == 2
    reading = reader.read(buffers)  # the loop's next round
    assert (reading.image.mean(), reading.stamp_s) == (pytest.approx(0, abs=3), 5 / 25)


def test_images_of_a_folder_are_passed_over_but_not_the_last(folder):
    for options, skipped, level in (("", 2, 2000), ("?loop=1", 301, 1000)):
        reader = open_reader(parse_uri(f"folder://{folder}{options}"), "infrared")
        assert reader.skip(301 / 30) == skipped
        assert reader.read(Buffers()).image[0, 0] == level
    ended = open_reader(parse_uri(str(folder)), "infrared")
    while ended.read(Buffers()):
        pass
    assert ended.skip(60.0) == 0


def test_a_scene_goes_on_from_where_it_was_skipped_to():
    reader = open_reader(parse_uri("test://street?width=32&height=24&fps=10"), "visible")
    assert reader.skip(0.45) == 5
    assert reader.read(Buffers()).stamp_s == 0.5
