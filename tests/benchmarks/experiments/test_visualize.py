import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from irvis.benchmarks.experiments import features, grids, sheets, visualize
from irvis.benchmarks.experiments.boxes import Box
from irvis.benchmarks.experiments.scenes import chosen, read_scene
from irvis.benchmarks.experiments.sheets import Tile, wrapped
from irvis.runtime.cli import guarded
from irvis.runtime.images import write_image
from irvis.runtime.pairs import pairs_of
from irvis.student.checkpoint import save_student
from irvis.student.network import Student, StudentConfig

BUILDER = """
import torch

class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encode, self.decode = torch.nn.Conv2d(2, 4, 3, stride=2), torch.nn.ConvTranspose2d(4, 1, 4, stride=2)

    def forward(self, infrared, visible):
        return self.decode(self.encode(torch.cat([infrared, visible], dim=1)))
"""
TOY = "toy_visualize_teacher:Toy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two students and a toy teacher."""
    folder = tmp_path_factory.mktemp("visualize")
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        taught = {"teachers": {TOY: "ab"}} if name == "one" else {}
        save_student(folder / f"{name}.safetensors", Student(StudentConfig(8, 2, 1, 1)), taught)
    (folder / "toy_visualize_teacher.py").write_text(BUILDER)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def drawn(monkeypatch):
    """The rows of each sheet that is drawn, beside the file."""
    rows = []
    for module in (features, grids):
        original = module.draw_sheet
        monkeypatch.setattr(
            module, "draw_sheet", lambda given, *rest, f=original: (rows.append(given), f(given, *rest))
        )
    return rows


def run(*argv):
    parser = argparse.ArgumentParser()
    visualize.add_arguments(parser)
    arguments = parser.parse_args([*map(str, argv)])
    return guarded("irvis visualize", lambda: visualize.main(arguments))


def labels(rows):
    return [[tile.label if tile else "" for tile in row] for row in rows]


def test_the_colour_bar_of_one_row_is_told_whole(monkeypatch, tmp_path):
    whole = []

    def measure(figure, path, **_):
        figure.draw_without_rendering()
        told = figure.axes[-1].yaxis.label.get_window_extent()
        whole.append(0 <= told.y0 < told.y1 <= figure.bbox.height and told.x1 <= figure.bbox.width)

    monkeypatch.setattr(sheets, "save_figure", measure)
    tiles = [Tile("a network", np.zeros((120, 200), np.uint8))] * 4
    sheets.draw_sheet([tiles], tmp_path / "one.png", sheets.Bar("inferno", (-1.5, 2.5), features.UNIT))
    assert whole == [True]


@pytest.mark.parametrize("bar", [None, sheets.Bar("inferno", (-1.5, 2.5), features.UNIT)])
def test_no_title_is_cut(tmp_path, bar):
    tiles = [Tile("a network\nits student", np.full((150, 150), 200, np.uint8))] * 5
    sheets.draw_sheet([tiles], tmp_path / "one.png", bar)
    drawn = cv2.imread(str(tmp_path / "one.png"), cv2.IMREAD_GRAYSCALE)
    assert (drawn[:2] == 255).all()
    assert (drawn[:60] < 128).any()


def test_teachers_stand_above_their_students(samples, drawn, folder):
    options = ["--teacher", f"{TOY},feature=encode", "--student", "one.safetensors", "-o", "pairs.png"]
    assert run("features", samples, "--pair", "street", "--pair", "smoke", *options) == 0
    (rows,) = drawn
    assert [row[0] for row in labels(rows)] == ["street, infrared", "visible", "smoke, infrared", "visible"]
    assert rows[0][1].label == TOY
    assert rows[1][1].label.startswith("its student, cosine ")
    assert rows[0][1].picture.shape == (96, 128, 3)  # a feature of half the size, too
    assert (rows[0][1].picture != rows[1][1].picture).any()
    height, width = cv2.imread("pairs.png").shape[:2]
    assert 500 < width < 1000 < height  # two columns and a bar, four rows


def test_networks_that_are_no_pair_stand_one_after_another(samples, drawn):
    options = ["--student", "one.safetensors", "--student", "two.safetensors", "--scale", "own", "-o", "row.pdf"]
    assert run("features", samples, "--crop", "30,20,64,48", *options) == 0
    assert run("features", samples, "--teacher", f"{TOY},feature=encode", *options) == 0
    first, second = labels(drawn[0]), labels(drawn[1])
    assert [label.splitlines()[0] for label in first[0]] == ["glare, infrared", "visible", "one", "two"]
    assert [label.splitlines()[0] for label in second[0]] == ["glare, infrared", "visible", TOY, "one", "two"]
    assert drawn[0][0][2].picture.shape == (48, 64, 3)
    assert " to " in first[0][2]  # the ends of its own scale
    with open("row.pdf", "rb") as stream:
        assert stream.read(5) == b"%PDF-"


def test_a_shipped_student_goes_by_its_name(samples, drawn):
    options = ["--student", "one.safetensors", "--student", "fast", "--pair", "street"]
    assert run("features", samples, *options) == 0
    assert any(tile.label.startswith("fast") for row in drawn[0] for tile in row if tile)


def test_a_student_is_placed_under_the_teacher_that_is_named(samples, drawn):
    options = ["--teacher", f"{TOY},feature=encode", "--student", f"{TOY}=two.safetensors"]
    assert run("features", samples, *options) == 0
    assert "its student" in drawn[0][1][1].label


def test_a_grid_has_every_method_and_the_visibles_colour(samples, drawn, capsys):
    scene = read_scene(pairs_of(samples)[2])
    assert scene.name == "street"
    write_image("dark.png", np.zeros((96, 128), np.uint8))
    write_image("made/street.png", scene.visible)
    options = ["--student", "one.safetensors", "--fused", "dark=dark.png", "--fused", "same=made"]
    boxes = ["--salient", "8,4,16,8", "--texture", "60,10,16,16"]
    assert run("grid", samples, "--pair", "street", *options, *boxes, "-o", "grid.jpg") == 0
    (row,) = drawn[0]
    assert labels([row]) == [["street, infrared", "visible", "one", "dark", "same"]]
    pictures = {tile.label: tile.picture for tile in row}
    np.testing.assert_array_equal(pictures["same"], pictures["visible"])
    assert all(picture.shape == (192, 256, 3) for picture in pictures.values())
    inside = cv2.cvtColor(pictures["one"][60:100, 100:160], cv2.COLOR_BGR2YCrCb)
    there = cv2.cvtColor(pictures["visible"][60:100, 100:160], cv2.COLOR_BGR2YCrCb)
    assert np.abs(inside[..., 1:].astype(int) - there[..., 1:]).mean() < 3
    assert pictures["dark"][60:100, 100:160].mean() < 40  # Y of 0 with the colour that it can carry
    assert "street: --salient 8,4,16,8" in capsys.readouterr().out
    assert cv2.imread("grid.jpg").shape[1] == 1650


@pytest.mark.parametrize(
    ("command", "name"), [("grid", "grid.bmp"), ("grid", "grid"), ("features", "maps.bmp")], ids=["bmp", "none", "maps"]
)
def test_a_format_that_cannot_be_drawn_is_told_before_any_fusion(samples, monkeypatch, capsys, command, name):
    for module in (grids, features):
        monkeypatch.setattr(module, "scenes_of", None)
    assert run(command, samples, "--student", "one.safetensors", "-o", name) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"irvis visualize: cannot draw into {name}: its suffix must be one of ")
    assert ".jpg" in said
    assert ".pdf .pgf .png" in said
    assert not Path(name).exists()


def test_insets_show_the_boxes_magnified(samples):
    scene = read_scene(pairs_of(samples)[0])
    salient, texture = grids.insets_of(scene, Box(8, 4, 16, 8), Box(60, 10, 16, 16))
    assert salient.place == (0, 73, 46, 23)
    assert texture.place == (93, 61, 35, 35)
    picture = grids.magnified(scene.visible, [salient, texture])
    np.testing.assert_array_equal(picture[146, :92], np.tile(grids.SALIENT, (92, 1)))
    expected = cv2.resize(scene.visible[10:26, 60:76], (70, 70), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(picture[126:188, 190:252], expected[4:-4, 4:-4])
    np.testing.assert_array_equal(picture[8, 16:48], np.tile(grids.SALIENT, (32, 1)))
    np.testing.assert_array_equal(picture[40:120, 10:110], cv2.resize(scene.visible, (256, 192))[40:120, 10:110])


def test_insets_go_up_where_they_would_cover_the_target_below(samples):
    scene = read_scene(pairs_of(samples)[0])
    low, texture = grids.insets_of(scene, Box(2, 78, 16, 16))
    assert low.place.y == texture.place.y == 0
    assert not any(inset.place.shared(box) for inset in (low, texture) for box in (low.box, texture.box))


def test_tiles_are_wrapped_into_even_rows():
    tiles = [Tile(str(number), np.zeros((2, 2), np.uint8)) for number in range(11)]
    assert labels(wrapped(tiles)) == [["0", "1", "2", "3", "4", "5"], ["6", "7", "8", "9", "10", ""]]
    assert labels(wrapped(tiles[:8])) == [["0", "1", "2", "3"], ["4", "5", "6", "7"]]


def test_pairs_are_chosen_by_name(samples):
    pairs = pairs_of(samples)
    assert [pair.name for pair in chosen(pairs, ["street", "glare"], 1)] == ["street", "glare"]
    assert [pair.name for pair in chosen(pairs, None, 2)] == ["glare", "street"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["features", "SAMPLES", "--pair", "day"], "no pair is called day; there are glare to street"),
        (["features", "SAMPLES", "SAMPLES", "--pair", "street"], "2 pairs are called street"),
        (["features", "SAMPLES", "--crop", "100,0,64,64"], "--crop of glare does not lie within the 96x128"),
        (["features", "SAMPLES", "--crop", "0,0,64,8"], "--crop must be 16x16 or more. Got 8x64"),
        (["features", "SAMPLES", "--student", "SHIP=one.safetensors"], "no teacher is called SHIP. Available: none"),
        (["features", "SAMPLES", "--student", "none.safetensors"], "none.safetensors"),
        (["features", "SAMPLES", "-o", "nothing.xyz"], "cannot draw into nothing.xyz"),
        (["grid", "SAMPLES", "--salient", "0,0,9,9", "--salient", "0,0,9,9"], "once per pair. Got 2, pairs: 1"),
        (["grid", "SAMPLES", "--texture", "120,0,9,9"], "--texture of glare does not lie within the 96x128"),
        (["grid", "SAMPLES", "--fused", "a=one.safetensors"], "visible image is not an image"),
        (["grid", "SAMPLES", "--fused", "visible=right.png"], "two pictures are called visible"),
        (["grid", "SAMPLES", "--fused", "a"], "--fused must be NAME=FILE"),
        (["grid", "SAMPLES", *["--fused", "a=right.png"] * 2], "each name once. Got a=right.png"),
        (["grid", "SAMPLES", "--fused", "a=small.png"], "small.png does not have the size of glare. Got 20x20, 96x128"),
        (["grid", "SAMPLES", "--pair", "glare", "--pair", "smoke", "--fused", "a=small.png"], "give a folder with"),
        (["grid", "SAMPLES", "--fused", "a=other"], "no image in other is called glare"),
    ],
)
def test_what_is_wrong_is_one_line(samples, capsys, argv, said):
    write_image("small.png", np.zeros((20, 20), np.uint8))
    write_image("right.png", np.zeros((96, 128), np.uint8))
    write_image("other/street.png", np.zeros((96, 128), np.uint8))
    argv = [str(samples) if text == "SAMPLES" else text for text in argv]
    given = [] if argv[0] == "features" else ["--student", "one.safetensors"]
    assert run(*argv, *given) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
