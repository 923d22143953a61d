import contextlib
import os
import resource
from collections import namedtuple

import numpy as np
import pytest

from irvis.runtime import video
from irvis.runtime.errors import EndedEarly, FileError
from irvis.runtime.video import VideoReader, video_writer

FRAME = np.full((48, 64, 3), 90, np.uint8)
NOT_UTF8 = os.fsdecode(b"caf\xe9.avi")


@pytest.mark.parametrize("suffix", list(video.FOURCC))
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / "日本" / f"video{suffix}"
    with video_writer(path, 25.0) as write:
        for frame in (FRAME, FRAME[:, :, 0], FRAME):
            write(frame)
        assert not path.exists()
    with VideoReader(path) as reader:
        assert (len(list(reader)), reader.fps) == (3, 25.0)


def test_a_row_or_column_that_opencv_leaves_out_is_told(tmp_path, caplog):
    for height, width in ((24, 32), (25, 32), (24, 33)):
        with video_writer(tmp_path / "clip.mp4", 30) as write:
            write(np.zeros((height, width, 3), np.uint8))
        with VideoReader(tmp_path / "clip.mp4") as reader:
            assert next(iter(reader)).shape == (24, 32, 3)
    told = f"{tmp_path / 'clip.mp4'} holds the upper left 24x32 of the frames of {{}}: OpenCV writes even sides only"
    assert [record.getMessage() for record in caplog.records] == [told.format("25x32"), told.format("24x33")]


def test_without_a_frame_no_other_video_is_replaced(tmp_path):
    path = tmp_path / "video.avi"
    path.write_bytes(b"an older one")
    with video_writer(path, 25.0):
        pass
    assert path.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_without_an_encoder_no_other_video_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "video.avi"
    path.write_bytes(b"an older one")
    # Of nothing it writes, as where there is no encoder; a class of OpenCV's cannot be changed in each version of it.
    nothing = video.cv2.VideoWriter()
    stand_in = type("VideoWriter", (), {"fourcc": video.cv2.VideoWriter_fourcc, "__new__": lambda *_: nothing})
    monkeypatch.setattr(video.cv2, "VideoWriter", stand_in)
    with video_writer(path, 25.0) as write, pytest.raises(FileError, match="no encoder for"):
        write(FRAME)
    assert path.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_becomes_full_is_said_while_the_video_can_be_ended(tmp_path, monkeypatch):
    path, room = tmp_path / "video.avi", [video.RESERVE, video.RESERVE, video.RESERVE - 1]
    disk = namedtuple("disk", "f_bavail f_frsize")
    monkeypatch.setattr(video.os, "statvfs", lambda folder: disk(room.pop(0), 1))
    with video_writer(path, 25.0) as write:
        write(FRAME)
        write(FRAME)
        with pytest.raises(FileError, match=r"cannot write .*video.avi: its disk is full"):
            write(FRAME)
    with VideoReader(path) as reader:
        assert len(list(reader)) == 2


@pytest.mark.parametrize("suffix", list(video.FOURCC))
def test_a_video_that_was_not_stored_whole_replaces_no_other(tmp_path, suffix):
    path = write(tmp_path / f"video{suffix}", 2)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = "cannot write .*: what was recorded does not play"
    with contextlib.ExitStack() as stack:
        stack.enter_context(video_writer(path, 25.0))(FRAME)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # like a disk that another program filled
        try:
            with pytest.raises(FileError, match=told):
                stack.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_frames_of_another_size_are_said_rather_than_left_out(tmp_path):
    with video_writer(tmp_path / "video.avi", 25.0) as write:
        write(FRAME)
        with pytest.raises(FileError, match="frames changed from 48x64 to 64x48"):
            write(FRAME.transpose(1, 0, 2))
    with VideoReader(tmp_path / "video.avi") as reader:
        assert len(list(reader)) == 1


def write(path, count):
    with video_writer(path, 25.0) as append:
        for _ in range(count):
            append(FRAME)
    return path


def test_a_video_that_is_cut_off_is_told_at_its_end_and_not_before(tmp_path, cut_avi):
    path = cut_avi(write(tmp_path / "video.avi", 60), 20)
    with VideoReader(path) as reader:
        next(iter(reader))
        reader.check_end()
        assert len(list(reader)) == 19
        with pytest.raises(EndedEarly, match=r"video.avi ends after 20 of its 60 frames: it is cut off"):
            reader.check_end()


@pytest.mark.parametrize("suffix", list(video.FOURCC))
def test_a_whole_video_of_any_kind_is_not_taken_for_one_that_is_cut_off(tmp_path, suffix):
    for count in (1, 7, 120):
        with VideoReader(write(tmp_path / f"video{suffix}", count)) as reader:
            assert len(list(reader)) == count
            reader.check_end()


@pytest.mark.parametrize(
    ("name", "count", "is_told"),
    [
        ("video.avi", 0, False),  # the container does not tell
        ("video.avi", 9, False),
        ("video.avi", 10, True),
        ("video.mkv", 99, False),  # reckoned by OpenCV
    ],
)
def test_a_count_that_is_unknown_reckoned_or_one_off_is_let_pass(tmp_path, name, count, is_told):
    with VideoReader(write(tmp_path / name, 8)) as reader:
        assert len(list(reader)) == 8
        reader.count = count
        if is_told:
            with pytest.raises(EndedEarly):
                reader.check_end()
        else:
            reader.check_end()


def test_a_name_that_would_crash_opencv_is_refused(tmp_path):
    with pytest.raises(FileError, match="only by names in UTF-8"), video_writer(tmp_path / NOT_UTF8, 25.0):
        pass
    (tmp_path / NOT_UTF8).write_bytes(b"")
    with pytest.raises(FileError, match="only by names in UTF-8"):
        VideoReader(tmp_path / NOT_UTF8)
    assert os.listdir(tmp_path) == [NOT_UTF8]
