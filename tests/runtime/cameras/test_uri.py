import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.runtime.cameras.uri import (
    OPTIONS,
    files_of_sources,
    parse_uri,
    positive_number,
    whole_number,
    without_passwords,
    yes_or_no,
)
from irvis.runtime.errors import FileError


@pytest.mark.parametrize(
    ("text", "scheme", "location", "options"),
    [
        ("v4l2:///dev/video0", "v4l2", "/dev/video0", {}),
        ("/dev/video2", "v4l2", "/dev/video2", {}),
        ("v4l2:///dev/video1?format=Y16&width=640", "v4l2", "/dev/video1", {"format": "Y16", "width": "640"}),
        ("csi://0?flip=2", "csi", "0", {"flip": "2"}),
        ("rtsp://10.0.0.2:554/a?b=c&loop=1", "rtsp", "rtsp://10.0.0.2:554/a?b=c&loop=1", {}),
        ("gst:videotestsrc ! a?b=c", "gst", "videotestsrc ! a?b=c", {}),
        ("file://clip.mp4?loop=1", "file", "clip.mp4", {"loop": "1"}),
        ("file:///a%20b/c%3Fd.mp4", "file", "/a b/c?d.mp4", {}),
        ("test://", "test", "", {}),
        ("test://smoke?fps=9", "test", "smoke", {"fps": "9"}),
        ("bag:b?topic=", "bag", "b", {"topic": ""}),  # a mistake to be told of, not to be left out
        ("bag:x/y.bag?topic=/ir/image", "bag", "x/y.bag", {"topic": "/ir/image"}),
    ],
)
def test_the_grammar(text, scheme, location, options):
    assert parse_uri(text) == (text, scheme, location, options)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("rtsp://me:secret@10.0.0.2:554/a?b=c", "rtsp://me:***@10.0.0.2:554/a?b=c"),
        ("rtsp://me:se/cr@et#!@10.0.0.2/a", "rtsp://me:***@10.0.0.2/a"),
        ("rtsp://me:se cret@10.0.0.2/a", "rtsp://me:***@10.0.0.2/a"),
        ("rtsp://me:@10.0.0.2/a", "rtsp://me:***@10.0.0.2/a"),
        ("rtsp://me@10.0.0.2:554/a", "rtsp://me@10.0.0.2:554/a"),
        ("rtsp://[fe80::1]:554/a@b", "rtsp://[fe80::1]:554/a@b"),
        ("rtsp://h/a?user=me&password=secret", "rtsp://h/a?user=me&password=***"),
        ("rtsp://h:554/a?channel=1&usr=me&pwd=se&cr@et", "rtsp://h:***@et"),
        ("rtsp://h:554/a?channel=1&usr=me&PWD=se&cret", "rtsp://h:554/a?channel=1&usr=me&PWD=***"),
        ("rtsp://h/user=me_password=secret_channel=1.sdp", "rtsp://h/user=me_password=***"),
        ("rtsp://h/a?loginuse=me&loginpas=secret", "rtsp://h/a?loginuse=me&loginpas=***"),
        ("rtsp://h/a?token=secret", "rtsp://h/a?token=***"),
        ("rtsp://h/a?channel=1&subtype=0", "rtsp://h/a?channel=1&subtype=0"),
        ('gst:srtsrc uri=srt://h:1 passphrase="se cret" ! x', "gst:srtsrc uri=srt://h:1 passphrase=*** ! x"),
        ("gst:souphttpsrc proxy-pw=secret ! x", "gst:souphttpsrc proxy-pw=*** ! x"),
        (
            "gst:rtspsrc location=rtsp://me:secret@h/a ! decodebin ! x name=a@b",
            "gst:rtspsrc location=rtsp://me:***@h/a ! decodebin ! x name=a@b",
        ),
        (
            'gst:rtspsrc location=rtsp://h:554/a user-id=me user-pw="se cret" ! decodebin',
            "gst:rtspsrc location=rtsp://h:554/a user-id=me user-pw=*** ! decodebin",
        ),
    ],
)
def test_what_is_printed_has_no_password_and_what_is_opened_has_it(given, text):
    uri = parse_uri(given)
    assert (uri.text, uri.location) == (text, given[4:] if uri.scheme == "gst" else given)
    assert without_passwords(f"cannot open {given}") == f"cannot open {text}"


@pytest.mark.parametrize(
    "given",
    [
        "rtsps://me:secret@host/a",
        " rtsp://me:secret@host/a",
        "test://me:secret@x?a=1",
        "http://host/a?password=secret",
        "csi://0?zoom=2&password=secret",
        "/nowhere?password=secret",
    ],
)
def test_no_error_about_a_name_shows_a_password(given):
    with pytest.raises(FileError, match=r"\*\*\*") as caught:
        parse_uri(given)
    assert "secret" not in str(caught.value)


def test_plain_paths_are_told_apart(tmp_path):
    for name in ("clip.MP4", "record.bag"):
        (tmp_path / name).touch()
    assert parse_uri(str(tmp_path)).scheme == "folder"
    assert parse_uri(f"file://{tmp_path}").scheme == "folder"
    assert parse_uri(str(tmp_path / "clip.MP4")).scheme == "file"
    assert parse_uri(str(tmp_path / "record.bag")).scheme == "bag"


def test_the_files_of_recordings_are_told_for_no_output_to_overwrite_them(tmp_path):
    for name in ("clip.mp4", "a.bag", "images/1.png", "ros2/metadata.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    recordings = ("{}/clip.mp4", "bag:{}/a.bag?topic=/x", "folder://{}/images?loop=1", "bag:{}/ros2")
    found = files_of_sources([*(uri.format(tmp_path) for uri in recordings), "test://", "csi://0"])
    wanted = ("clip.mp4", "a.bag", "images", "ros2", "images/1.png", "ros2/metadata.yaml")
    assert sorted(found) == sorted(str(tmp_path / name) for name in wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://host/x", "unknown kind of source: http://host/x; a source is v4l2://"),
        ("nowhere", "file or folder not found: nowhere; a source is"),
        ("", "is empty; a source is"),
        ("v4l2://", "names nothing"),
        ("n" * 5000, "file or folder not found"),
        ("file://" + "n" * 5000 + "?loop=2&a=1", "no option 'a'"),
        ("csi://0?zoom=2", "csi sources have no option 'zoom'; they have width, height, fps, flip"),
        (__file__, "not a source"),
    ],
)
def test_what_is_no_source_is_said_in_one_line(text, message):
    with pytest.raises(FileError, match=message) as caught:
        parse_uri(text)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(blacklist_characters="\0"), max_size=60))  # which no path and no argument can hold
def test_any_text_is_a_source_or_one_line(text):
    try:
        assert parse_uri(text).scheme in OPTIONS
    except FileError as error:
        message = str(error)
    else:
        return
    assert "\n" not in message.replace(text, "")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (positive_number, {"30": 30.0, "29.97": 29.97, ".5": 0.5}, ["0", "-1", "nan", "inf", "1e3", "", "1001"]),
        (whole_number, {"0": 0, "640": 640}, ["-1", "1.5", "", "1e3", "²"]),
        (yes_or_no, {"1": True, "Yes": True, "0": False, "NO": False}, ["", "2", "maybe"]),
    ],
)
def test_options_are_checked(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises(FileError, match=r"loop must be .*\. Got "):
            parse_uri("file://x?loop=1")._replace(options={"loop": text}).option("loop", kind, None)
