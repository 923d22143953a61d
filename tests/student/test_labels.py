import numpy as np
import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.pairs import Pair
from irvis.student.labels import label_of, read_boxes


def test_labels_stand_beside_the_halves_or_beside_the_images(tmp_path):
    apart = Pair("01", tmp_path / "ir" / "01.png", tmp_path / "vi" / "01.png")
    together = Pair("1", tmp_path / "1_ir.png", tmp_path / "1_vi.png")
    with pytest.raises(FileError, match="no folder of labels"):
        label_of(apart)
    (tmp_path / "labels").mkdir()
    with pytest.raises(FileError, match=r"01\.txt is missing; make an empty file"):
        label_of(apart)
    with pytest.raises(FileError, match=r"1\.png is missing; make a mask of zeros"):
        label_of(together, ".png")
    for name in ("01.txt", "1.png"):
        (tmp_path / "labels" / name).touch()
    assert label_of(apart) == tmp_path / "labels" / "01.txt"
    assert label_of(together, ".png") == tmp_path / "labels" / "1.png"


def test_a_line_a_box_and_none_where_there_is_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0 0.5 0.25 0.5 0.1\n\n5 0.0 1 0.2 0.4\n")
    boxes = read_boxes(path, 6)
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[0, 0.5, 0.25, 0.5, 0.1], [5, 0, 1, 0.2, 0.4]], rtol=1e-6)
    path.write_text(" \n")
    assert read_boxes(path, 6).shape == (0, 5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1", "must be: class x y width height"),
        ("0 0.5 0.5 0.1 0.1 0.9", "must be: class x y width height"),
        ("car 0.5 0.5 0.1 0.1", "must be: class x y width height"),
        ("0.5 0.5 0.5 0.1 0.1", "must be: class x y width height"),
        ("nan 0.5 0.5 0.1 0.1", "must be: class x y width height"),
        ("inf 0.5 0.5 0.1 0.1", "must be: class x y width height"),
        ("0 nan 0.5 0.1 0.1", "must be: class x y width height"),
        ("0 0.5 0.5 0.1 inf", "must be: class x y width height"),
        ("0 0.5 1.5 0.1 0.1", "must be: class x y width height"),
        ("0 320 240 64 48", "must be: class x y width height"),
        ("0 0.5 0.5 0 0.1", "must be: class x y width height"),
        ("3 0.5 0.5 0.1 0.1", "is of class 3, and the classes are 0 to 2"),
        ("-1 0.5 0.5 0.1 0.1", "is of class -1, and the classes are 0 to 2"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, said):
    path = tmp_path / "a.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(FileError) as caught:
        read_boxes(path, 3)
    assert str(caught.value).startswith(f"{path}:2 {said}")
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="labels are not text"):
        read_boxes(path, 3)
