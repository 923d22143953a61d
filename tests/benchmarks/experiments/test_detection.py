import argparse
import json
import shutil
import sys

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from irvis.benchmarks.detection.objects import split_of
from irvis.benchmarks.experiments import detection
from irvis.runtime.cli import guarded
from irvis.runtime.frames import recolour, split_luminance
from irvis.runtime.images import read_image
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.student.checkpoint import load_student, save_student
from irvis.student.network import Student, StudentConfig
from irvis.student.validation import fuse_planes

OWN = r'''
import numpy as np
from irvis.benchmarks.detection.objects import Detections

class Own:
    """Finds the object of the last training image, with the image's mean as its score, wherever it looks."""

    about, pretrained = "what was seen last", True

    def __init__(self, classes, weights, device):
        self.weights = weights

    def fit(self, training, validation, settings, folder):
        with open(folder / "calls.txt", "a") as file:
            file.write(f"{len(training)} {len(validation)} {settings.epochs} {settings.side}\n")
        if self.weights == training[0].image.parent.name:
            raise KeyboardInterrupt
        self.seen = training[-1].objects

    def detect(self, image):
        return Detections(*self.seen, np.full(1, image.mean() / 255, np.float32))


class Raw(Own):
    pretrained = False

def stopped(classes, weights, device):
    own = Own(classes, weights, device)
    own.weights = "toy"
    return own
'''
OPTIONS = ["--detector", "own_experiment_detector:Own", "--device", "cpu"]
FILES = {"detection.md", "detection.csv", "detection.tex", "detection.json"}


@pytest.fixture(scope="module")
def base(tmp_path_factory, samples):
    """A folder with a labelled data set, a student, and a detector of one's own."""
    folder = tmp_path_factory.mktemp("detection")
    (folder / "set" / "labels").mkdir(parents=True)
    for half in ("ir", "vi"):
        (folder / "set" / half).symlink_to(samples / half)
    (validation,) = split_of(pairs_of(samples), 0).validation
    for pair in pairs_of(samples):
        (folder / "set" / "labels" / f"{pair.name}.txt").write_text(f"{int(pair != validation)} 0.5 0.5 0.25 0.5\n")
    torch.manual_seed(0)
    save_student(folder / "toy.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    (folder / "own_experiment_detector.py").write_text(OWN)
    return folder


@pytest.fixture(autouse=True)
def there(base, monkeypatch):
    monkeypatch.chdir(base)
    yield
    sys.modules.pop("own_experiment_detector", None)


def run(*options):
    """Run ``irvis experiment detection``; give its exit code."""
    parser = argparse.ArgumentParser()
    detection.add_arguments(parser)
    arguments = parser.parse_args(["set", "--student", "toy.safetensors", *map(str, options)])
    return guarded("irvis experiment", lambda: detection.main(arguments))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(base):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        assert run(*OPTIONS, "-o", "whole") == 0
    return base / "whole"


def test_each_method_s_images_are_in_colour_and_the_plain_ones_beside(base, whole, samples):
    pair = pairs_of(samples)[0]
    infrared, luminance = read_luminance(pair)
    visible = cv2.imread(str(pair.visible))
    fused = fuse_planes(load_student(base / "toy.safetensors"), infrared, luminance)
    for name, wanted in (
        ("toy", recolour(fused, split_luminance(visible))),
        ("visible", visible),
        ("infrared", infrared),
    ):
        np.testing.assert_array_equal(read_image(whole / "images" / name / f"{pair.name}.png"), wanted)


def test_a_detector_is_trained_and_tested_on_each(whole, samples):
    rows = [line.split(",") for line in (whole / "detection.csv").read_text().splitlines()]
    assert rows[0] == ["method", "kind", "people", "car", "bus", "lamp", "motorcycle", "truck", "mAP"]
    assert [row[:2] for row in rows[1:4]] == [[name, "model"] for name in ("visible", "infrared", "toy")]
    for row in rows[1:4]:
        assert [number and round(float(number), 9) for number in row[2:]] == ["", 100, "", "", "", "", 100]
    count = len(pairs_of(samples))
    for name in ("visible", "infrared", "toy"):
        assert (whole / "detectors" / name / "calls.txt").read_text() == f"{count - 2} 1 100 640\n"
    text = (whole / "detection.md").read_text(encoding="utf-8")
    assert f"set split 8:1:1, the same for all: trained on {count - 2} images" in text
    assert "tested on 1 with 1 objects" in text
    assert "what was seen last; 100 epochs in batches of 32, images of 640x640" in text
    assert "smoke" not in text
    (picture,) = (whole / "pictures").iterdir()
    assert read_image(picture).shape[1] > 2400
    assert {path.name for path in whole.iterdir() if path.is_file()} == FILES


def test_a_detector_of_random_weights_is_a_smoke_run(base):
    assert run("--detector", "own_experiment_detector:Raw", "--device", "cpu", "-o", "raw") == 0
    assert "A smoke run" in (base / "raw" / "detection.md").read_text(encoding="utf-8")


def test_what_is_there_is_not_done_again(whole, monkeypatch):
    before = contents(whole)
    for name in FILES:
        (whole / name).unlink()
    monkeypatch.setattr(detection, "write_images", None)
    assert run(*OPTIONS, "-o", "whole") == 0
    assert contents(whole) == before


def test_stopped_it_goes_on(base, whole, capsys):
    options = ["--detector", "own_experiment_detector:stopped", "--device", "cpu", "-o", "stopped"]
    assert run(*options) == 130
    assert capsys.readouterr().out == "stopped; run the same command again to resume\n"
    module = base / "own_experiment_detector.py"
    module.write_text(OWN.replace('own.weights = "toy"', "pass"))
    sys.modules.pop("own_experiment_detector")
    assert run(*options) == 0
    module.write_text(OWN)
    calls = {name: (base / "stopped" / "detectors" / name / "calls.txt").read_text() for name in ("visible", "toy")}
    assert [text.count("\n") for text in calls.values()] == [1, 2]
    assert (base / "stopped" / "detection.csv").read_bytes() == (whole / "detection.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs", 0], "--epochs must be 1 or more. Got 0"),
        (["--side", 64], "--side must be 96 or more. Got 64"),
        (["--side", 100], "--side must be a multiple of 32. Got 100"),
        (["--classes", "people"], "is of class 1, and the classes are 0 to 0"),
        (["-o", "whole", "--epochs", 3], "was made with other values of epochs; give another --output"),
        (["-o", "whole", "--quick"], "was made with other values of width; give another --output"),
        (["-o", "set"], "set/images"),
        (["--detector", "yolo"], "--detector must be dfine or package.module:function"),
    ],
)
def test_wrong_options_are_one_line(base, whole, capsys, options, said):
    (base / "set" / "images" / "visible").mkdir(parents=True, exist_ok=True)
    (base / "set" / "images" / "visible" / "mine.txt").touch()
    assert run(*OPTIONS, "-o", "other", *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("irvis experiment: ")
    assert said in line


def test_images_of_other_pairs_of_the_same_names_and_sizes_are_refused(base, whole, capsys):
    (base / "swapped").mkdir()
    shutil.copytree(base / "set" / "labels", base / "swapped" / "labels")
    for half in ("ir", "vi"):
        shutil.copytree(base / "set" / half, base / "swapped" / half)
    visible = next((base / "swapped" / "vi").iterdir())
    data = visible.read_bytes()
    visible.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # in the check sum of the last chunk
    parser = argparse.ArgumentParser()
    detection.add_arguments(parser)
    arguments = parser.parse_args(["swapped", "--student", "toy.safetensors", *OPTIONS, "-o", "whole"])
    assert guarded("irvis experiment", lambda: detection.main(arguments)) == 1
    assert "was made with other values of pairs; give another --output" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(detection, "find_spec", lambda name: None)
        assert run(*OPTIONS) == 1
    assert capsys.readouterr().err == (
        "irvis experiment: pycocotools is not installed: pip install 'irvis[detection]'\n"
    )
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in ("dfine", "dfine_networks"):
        monkeypatch.delitem(sys.modules, f"irvis.benchmarks.detection.{name}", raising=False)
    assert run() == 1
    assert "pip install 'irvis[detection]', on Python 3.11 or newer" in capsys.readouterr().err


def test_what_is_not_of_this_command_is_refused(whole, capsys):
    kept = whole / "detectors" / "toy" / "found.json"
    before = kept.read_bytes()
    for content in (b"{}", b"[1]", b"none"):
        kept.write_bytes(content)
        assert run(*OPTIONS, "-o", "whole") == 1
        assert "not the detections of an experiment: whole/detectors/toy/found.json" in capsys.readouterr().err
    kept.write_bytes(before)


def test_classes_are_names(capsys):
    for text in ("people,", "car,car"):
        with pytest.raises(SystemExit, match="2"):
            run("--classes", text)
        assert "the classes must be different names, separated by commas" in capsys.readouterr().err


def test_the_quick_run_makes_every_file_and_calls_itself_a_smoke_run(base):
    pytest.importorskip("transformers")
    assert run("--quick", "--epochs", 1, "--side", 96, "--device", "cpu", "-o", "quick") == 0
    found = {str(path) for path in contents(base / "quick")}
    assert found > FILES
    for name in ("visible", "infrared", "toy"):
        assert f"detectors/{name}/state.pt" in found
        assert next((base / "quick" / "images" / name).glob("*.png")).exists()
    assert len([name for name in found if name.startswith("pictures/")]) == 1
    for name in ("detection.md", "detection.tex"):
        assert "A smoke run" in (base / "quick" / name).read_text(encoding="utf-8")
    page = json.loads((base / "quick" / "detection.json").read_text(encoding="utf-8"))
    assert "smoke run" in page["notes"]
    assert len(page["rows"]) == 3 + 12
