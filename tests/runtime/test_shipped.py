from pathlib import Path

import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.fuser import Fuser
from irvis.runtime.shipped import NAMES, SHIPPED_MODEL, find_model, name_onnx


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".md"])
def test_each_name_has_its_files(name, suffix):
    path = find_model(name, suffix)
    assert path.is_file()
    assert path.name == name + suffix


def test_the_student_is_the_default():
    assert find_model(None) == find_model("student") == SHIPPED_MODEL


def test_a_file_is_itself_even_where_it_is_called_as_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("other.onnx", "fast.onnx", "folder/fast", "slow"):
        assert find_model(text) == Path(text)
    Path("student").mkdir()  # a folder is no model
    assert find_model("student") == SHIPPED_MODEL
    Path("fast").write_bytes(b"")
    assert find_model("fast") == Path("fast")


def test_the_word_for_an_onnx_finds_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        assert name_onnx(find_model(name)) == name
    Path("link.onnx").symlink_to(SHIPPED_MODEL)
    for file in ("student.onnx", "other.onnx", "link.onnx"):  # one's own, which stays in its folder
        assert name_onnx(tmp_path / file) == file


def test_a_fuser_takes_a_name():
    pytest.importorskip("onnxruntime")
    with Fuser("fast") as fuser:
        assert fuser.model == find_model("fast")
    with pytest.raises(FileError, match="slow"):
        Fuser("slow")
