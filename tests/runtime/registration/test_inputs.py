from pathlib import Path

import numpy as np
import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.images import read_infrared, read_visible, write_image
from irvis.runtime.registration import inputs
from irvis.runtime.registration.inputs import is_camera, load_frames
from irvis.runtime.samples import write_samples
from irvis.runtime.video import video_writer


@pytest.fixture
def samples(tmp_path):
    write_samples(tmp_path, 48, 64)
    return tmp_path


def test_two_files_are_a_pair_and_two_folders_are_their_pairs(samples):
    (pair,) = load_frames(str(samples / "ir/street.png"), str(samples / "vi/glare.png"))
    np.testing.assert_array_equal(pair.infrared, read_infrared(samples / "ir/street.png"))
    np.testing.assert_array_equal(pair.visible, read_visible(samples / "vi/glare.png"))
    assert pair.sizes == ((48, 64), (48, 64))
    assert [pair.name for pair in load_frames(str(samples / "ir"), str(samples / "vi"))] == ["glare", "smoke", "street"]


def test_of_too_many_every_so_many_is_read(samples, capsys, monkeypatch):
    monkeypatch.setattr(inputs, "PAIRS_AT_MOST", 2)
    assert [pair.name for pair in load_frames(str(samples / "ir"), str(samples / "vi"))] == ["glare", "street"]
    assert "using 2 of 3 pairs" in capsys.readouterr().out


def test_pairs_of_other_sizes_are_refused(samples):
    write_image(samples / "vi/street.png", np.zeros((60, 80), np.uint8))
    with pytest.raises(FileError, match=r"48x64 and 48x64\. Got 48x64 and 60x80 in street"):
        load_frames(str(samples / "ir"), str(samples / "vi"))


def test_cameras_give_a_pair_of_one_moment():
    (pair,) = load_frames("test://street?width=64&height=48&bits=16&fps=50", "test://street?width=64&height=48&fps=50")
    assert (pair.infrared.dtype, pair.infrared.shape) == (np.uint16, (48, 64))
    assert (pair.visible.dtype, pair.visible.shape) == (np.uint8, (48, 64, 3))
    assert pair.infrared.flags.owndata


def test_a_recording_shorter_than_that_gives_its_last(samples):
    (pair,) = load_frames(f"folder://{samples / 'ir'}?fps=100", f"folder://{samples / 'vi'}?fps=100")
    np.testing.assert_array_equal(pair.infrared, read_infrared(samples / "ir/street.png"))
    np.testing.assert_array_equal(pair.visible, read_visible(samples / "vi/street.png"))


def test_a_source_that_gives_nothing_is_one_line(samples, monkeypatch):
    monkeypatch.setattr(inputs, "GRAB_S", 0.5)
    ir, vi = f"folder://{samples / 'ir'}", f"folder://{samples / 'vi'}?fps=50"
    for path in (samples / "ir").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(FileError, match=r"no pair came from .*but 0 infrared and . visible frames"):
        load_frames(ir, vi)


def test_two_videos_give_one_pair_by_their_plain_names(tmp_path):
    paths = [str(tmp_path / name) for name in ("ir.avi", "vi.avi")]
    for path, level in zip(paths, (50, 200)):
        with video_writer(Path(path), 50.0) as write:
            for _ in range(3):
                write(np.full((48, 64, 3), level, np.uint8))
    (pair,) = load_frames(*paths)
    assert (pair.infrared.shape, pair.visible.shape) == ((48, 64), (48, 64, 3))
    assert abs(pair.infrared.mean() - 50) < 3
    assert abs(pair.visible.mean() - 200) < 3


def test_a_video_and_an_image_are_refused(samples):
    with pytest.raises(FileError, match="must both be cameras or videos, or neither"):
        load_frames("a.mp4", str(samples / "vi/street.png"))
    with pytest.raises(FileError, match=r"Got rtsp://me:\*\*\*@camera/ and "):
        load_frames("rtsp://me:secret@camera/", str(samples / "vi/street.png"))


def test_a_folder_named_like_a_video_is_a_folder(samples):
    (samples / "ir").rename(samples / "ir.mp4")
    assert len(load_frames(str(samples / "ir.mp4"), str(samples / "vi"))) == 3


def test_what_is_a_camera():
    for text in ("test://street", "gst:videotestsrc ! appsink", "bag:a.bag?topic=/x", "/dev/video0", "csi://0"):
        assert is_camera(text)
    for text in ("a.mp4", "dir/A.AVI"):
        assert is_camera(text)
    for text in ("ir.png", "folder/ir", "C:/ir.png", "/home/dev/ir.png"):
        assert not is_camera(text)
