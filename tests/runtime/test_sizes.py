import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.runtime.sizes import format_size, parse_count, parse_size


@given(st.integers(16, 99999), st.integers(16, 99999))
def test_a_size_survives_being_written_and_read(height, width):
    assert parse_size(format_size((height, width))) == (height, width)


def test_height_comes_first():
    assert parse_size("480x640") == (480, 640)
    assert parse_size(" 480X640 ") == (480, 640)


@pytest.mark.parametrize(
    "text", ["", "480", "480x", "x640", "480x640x3", "480,640", "-480x640", "48.0x640", "axb", "\u0664\u0668\u0660x640"]
)
def test_what_is_no_size_is_refused_and_shown(text):
    with pytest.raises(argparse.ArgumentTypeError, match="HEIGHTxWIDTH") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["15x640", "480x15", "0x0"])
def test_sizes_too_small_for_the_student_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="16 or more") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


def test_argparse_turns_a_bad_size_into_a_usage_error(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=parse_size)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--size", "640"])
    assert caught.value.code == 2
    assert "HEIGHTxWIDTH" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "", "9" * 5000, "٣x"])
def test_a_count_is_a_whole_number_from_1(text):
    assert (parse_count("1"), parse_count("12000")) == (1, 12000)
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number, 1 or more"):
        parse_count(text)
