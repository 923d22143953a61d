import pytest

from irvis.runtime.errors import FileError, ModelError
from irvis.student.plugins import FORM, call_function


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module in the current folder."""
    (tmp_path / "own_plugin.py").write_text(
        "import sys\n"
        "from irvis.runtime.errors import FileError\n"
        "def joined(*arguments): return '-'.join(arguments)\n"
        "def broken(): raise RuntimeError('no\\nmodel')\n"
        "def leaves(): sys.exit(3)\n"
        "def says(): raise FileError('a line of its own')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_plugin", raising=False)


def test_a_function_of_the_current_folder_is_called(own):
    assert call_function("own_plugin:joined", "a", "b") == "a-b"


@pytest.mark.parametrize("name", ["own_plugin:broken", "own_plugin:leaves", "own_plugin:none", "no_such_module:f"])
def test_what_goes_wrong_in_it_is_one_line_with_its_name(own, name):
    with pytest.raises(ModelError) as caught:
        call_function(name)
    assert str(caught.value).startswith(f"{name} cannot be called from ")
    assert len(str(caught.value).splitlines()) == 1


def test_an_error_of_its_own_stays(own):
    with pytest.raises(FileError, match="a line of its own"):
        call_function("own_plugin:says")


def test_the_form():
    assert FORM.fullmatch("my.package:build")
    assert not FORM.fullmatch("my.package")
    assert not FORM.fullmatch("a.onnx:b:c")
