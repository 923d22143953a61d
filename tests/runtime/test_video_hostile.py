"""Videos from outside that are none."""

import os

import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.video import VideoReader


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(FileError, match="not a video"):
        VideoReader(tmp_path / "x.mp4")


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://127.0.0.1:1/a.avi\n",
        "ffconcat version 1.0\nfile ../outside.avi\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["HLS", "list of addresses", "list of files outside", "SDP"],
)
def test_a_playlist_is_no_video(tmp_path, content):
    (tmp_path / "x.mp4").write_text(content)
    with pytest.raises(FileError, match="not a video"):
        VideoReader(tmp_path / "x.mp4")
