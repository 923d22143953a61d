import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irvis.benchmarks.detection.objects import CLASSES, Labelled, labelled_pairs, read_objects, split_of
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.pairs import Pair

NOTHING = ([], [])


def write(tmp_path, text):
    path = tmp_path / "1.txt"
    path.write_text(text)
    return path


def test_boxes_are_corners_and_cut_at_the_image(tmp_path):
    boxes, classes = read_objects(write(tmp_path, "0 0.5 0.25 0.5 0.1\n\n5 0.0 1 0.2 0.4\n"), 6)
    np.testing.assert_allclose(boxes, [[0.25, 0.2, 0.75, 0.3], [0, 0.8, 0.1, 1]], atol=1e-6)
    assert classes.tolist() == [0, 5]
    assert (boxes.dtype, classes.dtype) == (np.float32, np.int64)


def test_an_empty_file_is_an_image_without_objects(tmp_path):
    boxes, classes = read_objects(write(tmp_path, " \n"), 6)
    assert (boxes.shape, classes.shape) == ((0, 4), (0,))


def test_each_pair_has_its_labels(samples, tmp_path):
    (tmp_path / "set").mkdir()
    for half in ("ir", "vi"):
        (tmp_path / "set" / half).symlink_to(samples / half)
    with pytest.raises(FileError, match="no folder of labels"):
        labelled_pairs(tmp_path / "set", 6)
    (tmp_path / "set" / "labels").mkdir()
    names = sorted(path.stem for path in (samples / "ir").iterdir())
    for number, name in enumerate(names):
        (tmp_path / "set" / "labels" / f"{name}.txt").write_text("1 0.5 0.5 0.1 0.1\n" * number)
    found = labelled_pairs(tmp_path / "set", 6)
    assert [one.pair.name for one in found] == names
    assert [len(one.objects.classes) for one in found] == list(range(len(names)))


@given(st.integers(3, 300), st.integers(0, 5))
def test_a_split_has_every_pair_once_and_a_tenth_in_each_small_part(count, seed):
    pairs = [Labelled(Pair(str(number), number, number), NOTHING) for number in range(count)]
    split = split_of(pairs, seed)
    assert sorted(int(one.pair.name) for part in split for one in part) == list(range(count))
    assert len(split.validation) == len(split.test) == max(1, round(count / 10))
    assert split_of(pairs, seed) == split


def test_ten_pairs_are_split_eight_one_one_by_the_seed():
    pairs = [Labelled(Pair(str(number), number, number), NOTHING) for number in range(10)]
    assert [len(part) for part in split_of(pairs, 0)] == [8, 1, 1]
    assert len({split_of(pairs, seed).test[0].pair.name for seed in range(20)}) > 3
    with pytest.raises(IrvisError, match=r"needs 3 labelled pairs or more\. Got 2"):
        split_of(pairs[:2], 0)


def test_real_labels(data):
    found = labelled_pairs(data / "M3FD" / "test", len(CLASSES))
    assert [len(one.objects.classes) for one in found] == [11, 17, 23, 14, 15, 1, 6, 38, 22, 6]
    assert all((boxes[:, :2] < boxes[:, 2:]).all() for boxes, _ in (one.objects for one in found))
