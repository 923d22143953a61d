import hashlib
import json
import os
import stat
import sys

import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.files import (
    check_outputs,
    check_outputs_apart,
    check_writable,
    new_figure,
    parse_json,
    read_bytes,
    replacing,
    save_figure,
    sha256,
    user_cache,
    write_bytes,
    write_json,
    write_text,
)


def test_a_new_file_has_the_usual_permissions_and_nothing_is_left_beside_it(tmp_path):
    folder = tmp_path / "made" / "too"
    write_bytes(folder / "file.bin", b"abc")
    assert [path.name for path in folder.iterdir()] == ["file.bin"]
    assert (folder / "file.bin").read_bytes() == b"abc"
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "private.bin", b"abc")
    finally:
        kept = os.umask(before)
    assert (stat.S_IMODE((tmp_path / "private.bin").stat().st_mode), kept) == (0o640, 0o027)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(),
        KeyboardInterrupt(),
        OSError(28, "No space left on device"),
        OSError("No space"),  # as NumPy raises it, without a number
        FileError("cannot read the input"),
    ],
)
def test_a_failure_keeps_what_was_there_and_leaves_no_part(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"before")

    def fail():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises((RuntimeError, KeyboardInterrupt, FileError)) as caught:
        fail()
    wanted = f"cannot write {path}: {error.strerror or error}" if type(error) is OSError else str(error)
    assert str(caught.value) == wanted
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_at_any_instruction_leaves_no_part(tmp_path):
    """Ctrl-C just after the file was made, before anybody knew its name, once left it."""
    path, written = tmp_path / "file.bin", replacing.__wrapped__.__code__

    def interrupt_at(number):
        """Interrupt ``replacing`` at its instruction ``number``; return whether it had that many."""
        left = number

        def trace(frame, event, _):
            nonlocal left
            if frame.f_code is not written:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(b"after")
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    number, seen = 0, set()
    path.write_bytes(b"before")
    while interrupt_at(number):
        assert list(tmp_path.iterdir()) == [path]
        seen.add(path.read_bytes())
        number += 1
    assert (number > 50, seen) == (True, {b"before", b"after"})


def test_what_is_written_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """So that a robot whose power goes has the old file or the new one, and none that is empty."""
    path, seen, handles = tmp_path / "out.bin", [], []
    path.write_bytes(b"old")
    sync = os.fsync

    def note(handle):
        seen.append((os.pread(handle, 100, 0), path.read_bytes()))
        handles.append(handle)
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_bytes(path, b"new")
    assert seen == [(b"new", b"old")]
    assert path.read_bytes() == b"new"
    with pytest.raises(OSError, match="Bad file descriptor"):  # a robot writes for weeks: none may stay open
        os.fstat(*handles)


def test_the_temporary_file_is_in_the_same_folder_and_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "video.mp4") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".mp4")


def test_a_parent_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(FileError, match=f"{folder} is not a folder"):
            write_bytes(folder / "x.png", b"")


@pytest.mark.parametrize("path", ["/proc/x.png", "/proc/deeper/x.png"])
@pytest.mark.parametrize("write", [check_writable, lambda path: write_bytes(path, b"")])
def test_where_nothing_can_be_made_it_is_one_line(path, write):
    """Root may write into any folder but that of the processes."""
    with pytest.raises(FileError, match=f"^cannot write {path}: No such file or directory$"):
        write(path)


def test_long_names_can_be_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    write_bytes(path, b"x")
    assert path.exists()


def test_sha256_agrees_with_hashlib(tmp_path):
    data = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "x").write_bytes(data)
    assert sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    with pytest.raises(FileError, match=r"cannot read .*/none: No such file"):
        sha256(tmp_path / "none")


def test_reading_what_is_not_there_says_what_was_wanted(tmp_path):
    with pytest.raises(FileError, match=r"engine not found: .*nothing"):
        read_bytes(tmp_path / "nothing", "engine")
    with pytest.raises(FileError, match=f"^cannot read file {tmp_path}: Is a directory$"):
        read_bytes(tmp_path)


def test_a_pipe_is_not_waited_for_and_a_device_not_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zeros.png"):
        with pytest.raises(FileError, match=f"cannot read image .*{name}: it is not a regular file"):
            read_bytes(tmp_path / name, "image")


def test_a_file_without_end_is_not_read(tmp_path):
    with (tmp_path / "sparse.png").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(FileError, match="it has 1099511627776 bytes, at most 2147483648 are accepted"):
        read_bytes(tmp_path / "sparse.png")
    (tmp_path / "three").write_bytes(b"abc")
    assert read_bytes(tmp_path / "three", largest=3) == b"abc"


def test_what_cannot_be_a_name_is_one_line(tmp_path):
    for name, said in (("n" * 300, "File name too long"), ("a\0b", "embedded null byte")):
        with pytest.raises(FileError, match=f"cannot read file .*: {said}"):
            read_bytes(tmp_path / name)


def test_what_cannot_be_written_is_told_beforehand_and_nothing_is_made(tmp_path):
    check_writable(tmp_path / "new" / "deeper" / "report.json")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "report.json")
    with pytest.raises(FileError, match="is a folder"):
        check_writable(tmp_path)
    for place in (tmp_path, tmp_path / "new"):
        with pytest.raises(FileError, match="n: File name too long"):
            check_writable(place / ("n" * 300))


def test_neither_a_pipe_nor_a_device_nor_a_link_to_one_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "null", "/dev/stdout", "/dev/null"):
        for write in (check_writable, lambda path: write_bytes(path, b"x")):
            with pytest.raises(FileError, match=f"cannot write {path}: it is not a regular file"):
                write(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "null").is_char_device()


def test_a_link_to_a_file_or_to_nothing_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"before")
    for name, target in (("to a file", "file"), ("to nothing", "nothing")):
        (tmp_path / name).symlink_to(target)
        check_writable(tmp_path / name)
        write_bytes(tmp_path / name, b"after")
        assert (tmp_path / name).read_bytes() == b"after"
    assert (tmp_path / "file").read_bytes() == b"before"


@pytest.mark.parametrize(
    "output", ["in", "folder/../in", "link", "hard", "a.engine", "a.engine.json", "b.plan.json", "c.trt.json"]
)
def test_an_output_that_is_an_input_under_any_name_is_refused(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "in").write_bytes(b"")
    (tmp_path / "link").symlink_to("in")
    os.link("in", "hard")
    with pytest.raises(FileError, match=f"{output} would overwrite an input"):
        check_outputs([None, output], [tmp_path / "in", "a.engine", "b.plan", "c.trt", None])


def test_two_outputs_of_one_path_are_refused_and_others_are_checked(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="two outputs would go to"):
        check_outputs([tmp_path / "a", tmp_path / "b" / ".." / "a"])
    with pytest.raises(FileError, match="is not a folder"):
        check_outputs([tmp_path / "a", tmp_path / "file" / "b"], [tmp_path / "a.json"])
    check_outputs([tmp_path / "a", None], [tmp_path / "file", tmp_path / "none"])
    check_outputs_apart([None, tmp_path / "a", None], [])
    check_outputs([tmp_path / "a"], ["of a URI: \0"])
    check_outputs([tmp_path / "m.onnx.json"], [tmp_path / "m.onnx"])  # only an engine has a sidecar
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("value", [None, 1.5, "[[", {"a": [1, {"b": "ü}"}]}, [[[]]], [[1, {}]] * 200])
def test_json_is_parsed(value):
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b"[" * 101 + b"]" * 101,
        b"[" + b"[]," * 200 + b"[" * 100 + b"]" * 101,  # after many that were closed
    ],
)
def test_json_that_would_end_python_38_is_refused_before_it_is_parsed(text):
    with pytest.raises(ValueError, match="nested deeper than 100"):
        parse_json(text)


def test_what_is_no_json_is_a_value_error():
    assert parse_json(b"[" * 100 + b"]" * 100)
    for data in (b"", b"{", b"]", b"\xff", b"[1,]", b'"\xed\xa0\x80"', '"UTF-16"'.encode("utf-16")):
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            parse_json(data)


def test_json_that_was_written_is_read_again_whatever_the_names_in_it(tmp_path):
    document = {"Wärme": [1, 2.5, None], os.fsdecode(b"caf\xe9"): "two\nlines"}
    write_json(tmp_path / "a.json", [float("inf"), document])
    assert parse_json((tmp_path / "a.json").read_bytes()) == [float("inf"), document]
    assert "Wärme" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_in_a_text_a_name_that_is_no_utf_8_is_escaped(tmp_path):
    write_text(tmp_path / "a.md", "Wärme, " + os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == r"Wärme, caf\udce9"


def test_a_name_with_dollars_is_drawn_as_it_is_and_the_powers_of_a_scale_as_formulas(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    figure = new_figure()
    axis = figure.subplots()
    axis.plot([1, 1000], label="a$_$b")
    axis.set_yscale("log")
    axis.set_title("x$1$")
    axis.legend()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        save_figure(figure, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">a$_$b<" in drawn
    assert ">x$1$<" in drawn
    assert ">$" not in drawn


def test_numbers_that_json_has_not_are_refused_where_asked_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")], allow_nan=False)
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home_is_told_so(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache("teachers") == tmp_path / ".cache" / "irvis" / "teachers"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 1_234_567)
    with pytest.raises(FileError, match="no home folder to cache in; set HOME or XDG_CACHE_HOME"):
        user_cache("teachers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("teachers") == tmp_path / "irvis" / "teachers"
