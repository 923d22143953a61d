import numpy as np
import pytest

from irvis.runtime.errors import FileError
from irvis.runtime.images import write_image
from irvis.runtime.pairs import find_halves, match_folders, pairs_of


def put(folder, *names):
    for name in names:
        write_image(folder / name, np.zeros((2, 2), np.uint8))
    return folder


def test_files_are_matched_by_stem_whatever_their_suffix(tmp_path):
    infrared = put(tmp_path / "ir", "b.png", "a.png", "only.png", ".hidden.png")
    visible = put(tmp_path / "vi", "a.jpg", "b.bmp", "other.png")
    (visible / "a.txt").write_text("notes")
    assert [(p.name, p.infrared.name, p.visible.name) for p in match_folders(infrared, visible)] == [
        ("a", "a.png", "a.jpg"),
        ("b", "b.png", "b.bmp"),
    ]


def test_no_common_name_says_examples(tmp_path):
    with pytest.raises(FileError, match="Found 1 such as a and 2 such as b"):
        match_folders(put(tmp_path / "ir", "a.png"), put(tmp_path / "vi", "b.png", "c.png"))


def test_empty_and_missing_folders_are_named(tmp_path):
    full = put(tmp_path / "full", "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"no image in folder .*empty"):
        match_folders(full, tmp_path / "empty")
    with pytest.raises(FileError, match=r"folder not found: .*nowhere"):
        match_folders(tmp_path / "nowhere", full)


def test_a_stem_that_stands_for_two_files_is_refused(tmp_path):
    with pytest.raises(FileError, match="both named a"):
        match_folders(put(tmp_path / "ir", "a.png", "a.jpg"), put(tmp_path / "vi", "a.png"))


@pytest.mark.parametrize("names", [("ir", "vi"), ("infrared", "visible"), ("Ir", "Vis")])
def test_the_halves_are_found_under_the_names_that_data_sets_use(tmp_path, names):
    put(tmp_path / names[0], "a.png"), put(tmp_path / names[1], "a.png")
    assert [path.name for path in find_halves(tmp_path)] == list(names)
    assert len(pairs_of(tmp_path)) == 1


def test_a_folder_without_halves_is_refused(tmp_path):
    with pytest.raises(FileError, match="no folder named ir"):
        pairs_of(tmp_path)
