import argparse
import csv
import json
import shutil

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

from safetensors.torch import save_file

from irvis.benchmarks.experiments import compensation
from irvis.benchmarks.fusers import published_network
from irvis.benchmarks.metrics import correlation, means_of, published_metrics
from irvis.runtime.cli import guarded
from irvis.runtime.images import write_image
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.student.checkpoint import load_student, save_student
from irvis.student.network import Student, StudentConfig
from irvis.student.teachers.any_student import StudentTeacher
from irvis.student.teachers.load import open_teacher
from irvis.student.teachers.published import network_class
from irvis.student.trainer import Trainer
from irvis.student.validation import fuse_planes

BUILDER = """
import torch

class Toy(torch.nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.encode, self.decode = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, infrared, visible):
        return self.decode(self.encode(torch.cat([infrared, visible], dim=1)))

def other():
    return Toy(1)

class Half(Toy):
    def forward(self, infrared, visible):
        if infrared.shape[3] % 32:
            raise ValueError("not a multiple of 32")
        return super().forward(infrared, visible)
"""
TOY, OTHER = "toy_compensation_teacher:Toy", "toy_compensation_teacher:other"
TEACHERS = ["--teacher", f"{TOY},feature=encode", "--teacher", f"{OTHER},feature=encode"]
STUDENT = "toy_compensation_teacher-Toy.safetensors"
TABLES = [f"compensation.{ending}" for ending in ("md", "csv", "tex", "json")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two toy teachers, and a student that no one taught."""
    folder = tmp_path_factory.mktemp("compensation")
    (folder / "toy_compensation_teacher.py").write_text(BUILDER)
    torch.manual_seed(3)
    save_student(folder / "given.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def run(samples, output, *options):
    parser = argparse.ArgumentParser()
    compensation.add_arguments(parser)
    argv = [samples, "--quick", "--device", "cpu", "--cache", "cache", "-o", output, *options]
    arguments = parser.parse_args([*map(str, argv)])
    return guarded("irvis experiment", lambda: compensation.main(arguments))


@pytest.fixture(scope="module")
def whole(folder, samples):
    """The folder of a whole run: one student trained, one given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(samples, "whole", "--test", samples, *TEACHERS, "--student", f"{OTHER}=given.safetensors") == 0
    return folder / "whole"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def figures_in(folder, name):
    """Return the file of a teacher's figures on the only test set."""
    (path,) = folder.glob(f"toy_compensation_teacher-{name}.*.json")
    return path


def test_each_teacher_gets_a_student_and_both_are_measured(whole, samples):
    tested_on = f"{samples.parent.name}-{samples.name}-cut-to-128x128"
    figures = [f"toy_compensation_teacher-{name}.{tested_on}.json" for name in ("Toy", "other")]
    assert sorted(contents(whole)) == sorted([*TABLES, *figures, "compensation.png", STUDENT, f"{STUDENT}.csv"])
    rows = list(csv.DictReader((whole / "compensation.csv").read_text().splitlines()))
    assert [(row["teacher"], row["network"], row["steps"]) for row in rows] == [
        (TOY, "teacher", ""),
        (TOY, "student", "2"),
        (OTHER, "teacher", ""),
        (OTHER, "student", ""),
    ]
    infrared, visible = read_luminance(pairs_of(samples)[0])
    fused = fuse_planes(load_student(whole / STUDENT), infrared, visible)
    wanted = published_metrics(*(plane.astype(np.float64) for plane in (infrared, visible, fused)))
    assert {name: float(rows[1][name]) for name in wanted} == pytest.approx(wanted)
    assert rows[0]["cosine"] == ""
    assert -1 <= float(rows[1]["cosine"]) <= 1


def test_the_tables_and_the_picture_are_of_them(whole):
    text = (whole / "compensation.md").read_text(encoding="utf-8")
    rows = list(csv.DictReader((whole / "compensation.csv").read_text().splitlines()))
    teacher, student = (float(row["CC"]) for row in rows[:2])
    assert f"{student:.4f} ({student - teacher:+.4f})" in text.replace("*", "").replace("<u>", "").replace("</u>", "")
    assert "2 steps on crops of 1 pair of" in text
    assert "unknown (the paper: 80000 steps). A smoke run" in text
    higher = sum(float(rows[at + 1]["detail"]) > float(rows[at]["detail"]) for at in (0, 2))
    assert f"detail {higher}" in text
    height, width = cv2.imread(str(whole / "compensation.png")).shape[:2]
    assert width > height > 300  # inputs and two teachers over two rows


def test_what_is_there_is_not_done_again(whole, samples, monkeypatch):
    before = contents(whole)
    (whole / "compensation.md").unlink()
    monkeypatch.setattr(Trainer, "launch", None)
    monkeypatch.setattr(compensation, "measure", None)
    given = ["--student", f"{OTHER}=given.safetensors"]
    assert run(samples, "whole", "--test", samples, *TEACHERS, *given) == 0
    after = contents(whole)
    assert after.pop("compensation.png")
    assert after == {name: data for name, data in before.items() if name != "compensation.png"}


def test_figures_of_another_student_are_not_taken(whole, samples, monkeypatch, folder):
    torch.manual_seed(4)
    save_student(folder / "changed.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    kept = json.loads(figures_in(whole, "other").read_text())
    assert run(samples, "whole", "--test", samples, *TEACHERS, "--student", f"{OTHER}=changed.safetensors") == 0
    found = json.loads(figures_in(whole, "other").read_text())
    assert found["of_teacher"] == pytest.approx(kept["of_teacher"])
    assert found["of_student"]["CC"] != kept["of_student"]["CC"]


def test_figures_on_other_pairs_of_the_same_names_are_not_taken(whole, samples, folder):
    copied = folder / "changed" / samples.parent.name / samples.name
    for pair in pairs_of(samples):
        for path in (pair.infrared, pair.visible):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            write_image(copied / path.parent.name / path.name, image[::-1] if path == pair.visible else image)
    options = ["--test", copied, *TEACHERS, "--student", f"{OTHER}=given.safetensors"]
    kept = json.loads(figures_in(whole, "Toy").read_text())
    assert run(samples, "whole", *options) == 0
    found = json.loads(figures_in(whole, "Toy").read_text())
    assert found["of"]["tested_on"] == kept["of"]["tested_on"]
    assert found["of_teacher"] != kept["of_teacher"]


def test_a_map_is_compared_with_the_images():
    rng = np.random.default_rng(0)
    infrared, visible = torch.from_numpy(rng.random((2, 1, 1, 32, 48), np.float32))
    found = compensation.of_map(-3 * infrared[0, 0].numpy() + 7, infrared, visible)
    assert found["infrared"] == pytest.approx(1)
    assert found["gradient"] < 0.1
    edge = torch.zeros(1, 1, 32, 48)
    edge[..., 24:] = 1
    bar = np.zeros((32, 48))
    bar[:, 23:25] = 4
    assert compensation.of_map(bar, infrared, edge)["gradient"] == pytest.approx(1)
    assert compensation.of_map(bar, edge, edge)["infrared"] == pytest.approx(abs(correlation(bar, edge[0, 0].numpy())))


def test_a_teacher_that_draws_random_numbers_has_the_same_figures_at_every_run(samples):
    class Noisy:
        name, digest = "noisy", "0" * 64

        def __call__(self, infrared, visible):
            noise = 0.1 * torch.randn_like(infrared)
            return infrared + noise, visible + noise

    student, test = StudentTeacher("given.safetensors"), compensation.test_set_of(samples, True)
    assert compensation.measure(Noisy(), student, test) == compensation.measure(Noisy(), student, test)


def test_a_students_figures_do_not_depend_on_its_teacher(samples):
    student, test = StudentTeacher("given.safetensors"), compensation.test_set_of(samples, True)
    taught = compensation.measure(open_teacher(f"{TOY},feature=encode"), student, test)
    alone = compensation.measure(student, student, test)
    assert alone["of_student"].pop("cosine") == pytest.approx(1)
    assert taught["of_student"].pop("cosine") < 0.999
    assert taught["of_student"] == alone["of_student"] == alone["of_teacher"]


def test_a_published_network_is_measured_as_irvis_evaluate_does(samples, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "weights.safetensors"
    save_file(network_class("MMDRFuseStudent")().state_dict(), file)  # whose authors stretch the plane to 8 bits
    infrared, visible = read_luminance(pairs_of(samples)[0])
    fused = published_network("MMDRFuseStudent", file).fuse(infrared, visible)
    wanted = published_metrics(*(plane.astype(np.float64) for plane in (infrared, visible, fused)))
    teacher, student = open_teacher(f"MMDRFuseStudent={file}"), StudentTeacher("given.safetensors")
    found = compensation.measure(teacher, student, compensation.test_set_of(samples, True))["of_teacher"]
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_a_teacher_has_the_bits_of_its_authors(samples):
    infrared, visible = read_luminance(pairs_of(samples)[0])
    test = compensation.test_set_of(samples, True)
    teacher = open_teacher(f"{TOY},feature=encode")
    figures = compensation.measure(teacher, StudentTeacher("given.safetensors"), test)
    _, fused = teacher(*(torch.from_numpy(plane / np.float32(255))[None, None] for plane in (infrared, visible)))
    levels = np.rint(fused[0, 0].numpy().clip(0, 1) * 255)
    wanted = means_of([published_metrics(infrared.astype(float), visible.astype(float), levels)])
    assert {name: figures["of_teacher"][name] for name in wanted} == pytest.approx(wanted, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps", "0"], "--steps must be 1 or more. Got 0"),
        (["--test", "nowhere"], "folder not found: nowhere"),
        (["--student", "given.safetensors"], "--student must be TEACHER=FILE, once a teacher. Got given.safetensors"),
        (["--student", "SHIP=given.safetensors"], "no teacher is called SHIP"),
        (TEACHERS[:2], f"a teacher was given twice: {TOY}"),
        (["-o", "whole", "--steps", "3"], "was trained with steps 2; give another --output"),
    ],
)
def test_what_is_wrong_is_one_line(whole, samples, capsys, options, said):
    assert run(samples, "wrong", *TEACHERS, *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_quick_does_not_replace_the_table_of_a_whole_run(samples, folder, capsys):
    (folder / "measured").mkdir()
    (folder / "measured" / "compensation.md").write_text("what all pairs gave")
    given = [word for name in (TOY, OTHER) for word in ("--student", f"{name}=given.safetensors")]
    assert run(samples, "measured", "--test", samples, *TEACHERS, *given) == 1
    assert "is of a whole run, and --quick would replace it; give another --output" in capsys.readouterr().err
    assert list(contents(folder / "measured")) == ["compensation.md"]


def test_a_given_student_may_be_a_plain_state_dict(whole, samples, folder, capsys):
    torch.save(Student().state_dict(), folder / "plain.pth")
    given = ["--student", f"{TOY}=plain.pth"]
    assert run(samples, "plain", "--test", samples, *TEACHERS[:2], *given) == 0
    assert "Students' training: unknown (the paper: 80000 steps)." in (folder / "plain" / "compensation.md").read_text(
        encoding="utf-8"
    )
    figures = figures_in(folder / "plain", "Toy")
    figures.write_text(figures.read_text().replace('"detail"', '"details"'))
    assert run(samples, "plain", "--test", samples, *TEACHERS[:2], *given) == 1
    assert "not the figures of irvis experiment compensation" in capsys.readouterr().err


def test_a_student_of_another_teacher_is_not_taken(whole, samples, capsys, folder):
    (folder / "mixed").mkdir()
    (folder / "mixed" / "toy_compensation_teacher-other.safetensors").write_bytes((whole / STUDENT).read_bytes())
    assert run(samples, "mixed", *TEACHERS) == 1
    assert "was not taught by toy_compensation_teacher:other as given" in capsys.readouterr().err


def test_a_student_of_other_pairs_is_not_taken(whole, samples, tmp_path, capsys):
    other = tmp_path / samples.parent.name / samples.name
    shutil.copytree(samples, other)
    for path in (other / "ir").iterdir():
        assert cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    options = [*TEACHERS, "--student", f"{OTHER}=given.safetensors"]
    assert run(other, whole, "--test", samples, *options) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"irvis experiment: {whole / STUDENT} was not trained on {other} as it is; use another --output, or remove it"
    )


def test_a_teacher_that_does_not_take_the_test_pairs_is_told_before_training(samples, tmp_path, capsys, folder):
    for half in ("ir", "vi"):
        write_image(tmp_path / half / "1.png", np.full((64, 100), 9, np.uint8))
    teacher = "toy_compensation_teacher:Half"
    assert run(samples, "untaught", "--test", tmp_path, "--teacher", f"{teacher},feature=encode") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"irvis experiment: {teacher} failed on infrared and visible planes of (1, 1, 64, 100): ValueError: "
        "not a multiple of 32"
    )
    assert not (folder / "untaught").exists()
