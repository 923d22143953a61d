import pytest

from irvis.runtime.errors import LONGEST, FileError, FrameError, ModelError


@pytest.mark.parametrize("kind", [FileError, FrameError, ModelError])
def test_an_error_is_a_line_that_a_terminal_can_show(kind):
    assert str(kind("cannot read Wärme  红外.png")) == "cannot read Wärme  红外.png"
    assert str(kind("a\nb\x1b[2J\udcff\u202e")) == r"a\nb\x1b[2J\udcff\u202e"


def test_an_endless_one_keeps_what_is_wrong_and_what_to_do():
    line = str(ModelError(f"cannot load {'n' * 10**6}; rebuild it"))
    assert len(line) < LONGEST + 10
    assert line.startswith("cannot load nnn")
    assert line.endswith("nnn; rebuild it")
