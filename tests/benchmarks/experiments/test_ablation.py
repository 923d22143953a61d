import json
import runpy
import shutil
import signal
import sys
from functools import partial

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")

from irvis.benchmarks.evaluate import evaluate_pairs
from irvis.benchmarks.experiments import ablation
from irvis.benchmarks.metrics import evaluate_fusion
from irvis.benchmarks.published import METRICS
from irvis.runtime.images import read_image, write_image
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.student.ablation import FULL, VARIANTS
from irvis.student.checkpoint import load_student, read_metadata, save_student
from irvis.student.network import Student, StudentConfig
from irvis.student.recipes import TrainConfig
from irvis.student.trainer import Trainer
from irvis.student.validation import fuse_planes

BUILDER = """
import torch

class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encode, self.decode = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, infrared, visible):
        return self.decode(self.encode(torch.cat([infrared, visible], dim=1)))
"""
TABLES = ["ablation.md", "ablation.csv", "ablation.tex", "ablation.json"]


@pytest.fixture(scope="module")
def base(tmp_path_factory, samples):
    """Return the options that all commands have, and their folder with the toy teacher in it."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "toy_ablation_teacher.py").write_text(BUILDER)
    return folder, [str(samples), "--cache", str(folder / "cache"), "--quick", "--device", "cpu"]


@pytest.fixture(autouse=True)
def there(base, monkeypatch):
    monkeypatch.chdir(base[0])


TEACHER = ["--teacher", "toy_ablation_teacher:Toy,feature=encode"]


def run(base, output, *options):
    """Run ``irvis experiment ablation``; give its exit code."""
    folder, given = base
    argv = ["experiment", "ablation", *given, "-o", str(folder / output), *map(str, options)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)
        patch.delitem(sys.modules, "irvis.benchmarks.experiments.command", raising=False)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("irvis.benchmarks.experiments.command", run_name="__main__")
    return ended.value.code


@pytest.fixture(scope="module")
def whole(base, samples):
    """The folder of a command that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base[0])
        assert run(base, "whole", "--test", samples, *TEACHER) == 0
    return base[0] / "whole"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_every_variant_and_seed_is_trained_and_measured(whole, samples):
    names = sorted(contents(whole))
    runs = [f"{variant.slug}.seed{seed}" for variant in VARIANTS for seed in (0, 1)]
    tested_on = f"{samples.parent.name}-{samples.name}-cut-to-128x128"
    suffixes = ("safetensors", "safetensors.csv", f"{tested_on}.json")
    assert names == sorted([*(f"{run_}.{suffix}" for run_ in runs for suffix in suffixes), *TABLES])
    infrared, visible = (plane[:128, :128] for plane in read_luminance(pairs_of(samples)[0]))
    student = load_student(whole / "without-lpb.seed1.safetensors")
    expected = evaluate_fusion(infrared, visible, fuse_planes(student, infrared, visible))
    found = figures_in(whole, "without-lpb.seed1")["metrics"]
    assert found == pytest.approx({name: expected[name] for name in found})
    assert list(found) == ["CC", "PSNR", "SCD", "SSIM"]


def figures_in(folder, run):
    """Return what was saved of a run on the only test set."""
    (path,) = folder.glob(f"{run}.*.json")
    return json.loads(path.read_text())


def test_the_tables_say_that_it_is_a_smoke_run(whole, samples):
    for name in ("ablation.md", "ablation.tex"):
        text = (whole / name).read_text(encoding="utf-8")
        assert "2 steps per run" in text
        assert "a smoke run" in text
    figures = [figures_in(whole, f"full.seed{seed}")["metrics"]["PSNR"] for seed in (0, 1)]
    cell = f"{np.mean(figures):.4f} ± {np.std(figures, ddof=1):.4f}"
    assert cell in (whole / "ablation.md").read_text(encoding="utf-8")
    assert f"1 pair of {samples.parent.name}/{samples.name}, cut to 128x128" in (whole / "ablation.md").read_text()


def test_what_is_there_is_not_done_again(base, whole, samples, monkeypatch):
    """Neither trained, nor measured; and without the teacher, as where the checkpoints were made elsewhere."""
    before = contents(whole)
    for path in [*(whole / name for name in TABLES), *whole.glob("full.seed0.*.json")]:
        path.unlink()
    monkeypatch.setattr(Trainer, "launch", None)
    assert run(base, "whole", "--test", samples) == 0
    assert contents(whole) == before


def test_a_bad_test_image_is_told_before_anything_is_trained(base, samples, tmp_path, capsys):
    shutil.copytree(samples, tmp_path / "held_out")
    bad = tmp_path / "held_out" / "vi" / f"{pairs_of(samples)[0].name}.png"
    bad.write_bytes(bad.read_bytes()[:-100])
    assert run(base, "untrained", "--test", tmp_path / "held_out", *TEACHER) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(bad) in line
    assert not (base[0] / "untrained").exists()


def test_stopped_it_goes_on_to_the_same(base, whole, samples, monkeypatch, capsys):
    original, steps = Trainer.launch, []

    def launch(trainer, count):
        steps.append(1)
        if len(steps) == 5:  # the first step of the third run
            signal.raise_signal(signal.SIGINT)
        original(trainer, count)

    monkeypatch.setattr(Trainer, "launch", launch)
    assert run(base, "stopped", *TEACHER, "--seeds", 1) == 130
    assert "stopped; run the same command again" in capsys.readouterr().out
    left = contents(base[0] / "stopped")
    assert {name for name in left if name.endswith(".safetensors")} == {
        f"{variant.slug}.seed0.safetensors" for variant in VARIANTS[:2]
    }
    assert "without-rd.seed0.safetensors.state" in left
    assert run(base, "stopped", *TEACHER, "--seeds", 1) == 0
    assert "give --test to measure" in capsys.readouterr().out
    assert len(steps) == 18
    for variant in VARIANTS:
        one, other = (
            load_student(folder / f"{variant.slug}.seed0.safetensors") for folder in (whole, base[0] / "stopped")
        )
        assert all(torch.equal(*both) for both in zip(one.parameters(), other.parameters()))


def test_the_plan_is_what_the_gpu_trains(base, samples, capsys):
    """Each run as the command itself would train it, under the name of the checkpoint that it looks for."""
    from irvis.benchmarks import gpu_train

    assert run(base, "planned", "--plan", "runs.json", "--teacher", "SHIP=weights.safetensors", "--seeds", 3) == 0
    runs = gpu_train.runs_of(["runs.json"])
    assert [one.name for one in runs[:2]] == ["without-mlkd-and-db.seed0", "without-mlkd.seed0"]
    assert len(runs) == 27
    for one, variant in zip(runs, VARIANTS * 3):
        assert one.name.startswith(variant.slug + ".seed")
        assert one.network == variant.network
        assert one.config == variant.config(one.config)
        assert list(one.teachers) == (["SHIP"] if variant.distils else [])
        assert f"seed{one.config.seed}" in one.name
        assert (one.config.steps, one.config.learning_rate, one.init) == (2, 1e-3, "")
    assert not (base[0] / "planned").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seeds", "0"], "--seeds must be 1 or more. Got 0"),
        (["--steps", "0"], "--steps must be 1 or more. Got 0"),
        ([], "give --teacher"),
        (["--test", "nowhere"], "folder not found: nowhere"),
        ([*TEACHER, "-o", "whole", "--steps", "3"], "was trained with steps 2; give another --output"),
    ],
)
def test_wrong_options_are_one_line(base, whole, capsys, options, said):
    assert run(base, "wrong", *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("irvis experiment: ")
    assert said in line


def test_a_checkpoint_of_another_variant_is_refused(base, whole, samples, capsys):
    path, other = whole / "full.seed0.safetensors", whole / "without-gmb.seed0.safetensors"
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    assert run(base, "whole", "--test", samples) == 1
    assert "full.seed0.safetensors was trained with global_blocks 0" in capsys.readouterr().err
    path.write_bytes(kept)


def test_figures_on_other_pairs_of_the_same_names_are_not_taken(base, whole, samples):
    copied = base[0] / "changed" / samples.parent.name / samples.name
    for pair in pairs_of(samples):
        for path in (pair.infrared, pair.visible):
            image = read_image(path)
            write_image(copied / path.parent.name / path.name, image[::-1] if path == pair.visible else image)
    kept = figures_in(whole, "full.seed0")
    assert run(base, "whole", "--test", copied) == 0
    found = figures_in(whole, "full.seed0")
    assert found["of"]["tested_on"] == kept["of"]["tested_on"]
    assert found["metrics"]["PSNR"] != kept["metrics"]["PSNR"]


def test_the_figures_of_another_test_set_are_kept(base, whole, samples, monkeypatch):
    assert run(base, "whole", "--test", samples) == 0
    before = contents(whole)
    other = shutil.copytree(samples, base[0] / "another")
    assert run(base, "whole", "--test", other) == 0
    after = contents(whole)
    assert {name for name in before if after[name] != before[name]} <= set(TABLES)
    monkeypatch.setattr(ablation, "_measure", None)
    assert run(base, "whole", "--test", samples) == 0
    assert {name: data for name, data in contents(whole).items() if name in before} == before
    for path in whole.glob("*-another-*.json"):
        path.unlink()


OTHER = BUILDER.replace("manual_seed(0)", "manual_seed(1)")


def test_another_teacher_of_the_same_name_is_refused_before_any_training(base, whole, monkeypatch, capsys):
    (base[0] / "other").mkdir(exist_ok=True)
    (base[0] / "other" / "toy_ablation_teacher.py").write_text(OTHER)
    (whole / "without-mlkd.seed0.safetensors").rename(base[0] / "kept")
    monkeypatch.chdir(base[0] / "other")
    monkeypatch.delitem(sys.modules, "toy_ablation_teacher", raising=False)
    monkeypatch.setattr(Trainer, "launch", None)
    try:
        assert run(base, "whole", *TEACHER) == 1
    finally:
        (base[0] / "kept").rename(whole / "without-mlkd.seed0.safetensors")
        sys.modules.pop("toy_ablation_teacher", None)
    said = capsys.readouterr().err
    assert "without-rd.seed0.safetensors was not taught by toy_ablation_teacher:Toy as given; use another" in said


def test_checkpoints_of_other_pairs_are_refused(base, whole, samples, tmp_path, monkeypatch, capsys):
    """Also if nothing is left to train, and if the folder has the same name and the same number of pairs."""
    folder, (_, *options) = base
    other = tmp_path / samples.parent.name / samples.name
    shutil.copytree(samples, other)
    for path in (other / "ir").iterdir():
        assert cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    shutil.copytree(whole, tmp_path / "left")
    monkeypatch.setattr(Trainer, "launch", None)
    for missing in (None, "full.seed1.safetensors"):
        if missing:
            (tmp_path / "left" / missing).unlink()
        assert run((folder, [str(other), *options]), tmp_path / "left", "--test", samples, *TEACHER) == 1
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"irvis experiment: {tmp_path}/left/without-mlkd-and-db.seed0.safetensors was not trained on "
            f"{other} as it is; use another --output, or remove it"
        )


def test_checkpoints_made_elsewhere_need_no_pairs_to_train_on(base, whole, samples, monkeypatch):
    folder, (_, *options) = base
    monkeypatch.setattr(Trainer, "launch", None)
    assert run((folder, ["not_here", *options]), "whole", "--test", samples) == 0


def test_checkpoints_of_two_teachers_of_one_name_are_not_set_side_by_side(base, whole, samples, capsys):
    path = whole / "full.seed1.safetensors"
    kept = path.read_bytes()
    training = json.loads(read_metadata(path)["training"])
    training["teachers"] = dict.fromkeys(training["teachers"], "ab" * 32)
    save_student(path, load_student(path), training)
    try:
        assert run(base, "whole", "--test", samples) == 1
    finally:
        path.write_bytes(kept)
    said = capsys.readouterr().err
    assert "full.seed1.safetensors is from 1 pair of " in said
    assert "and teacher toy_ablation_teacher:Toy abababab, others are from 1 pair of " in said


def test_no_experiment_is_wrong_usage(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiment"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("irvis.benchmarks.experiments.command", run_name="__main__")
    assert "NAME" in capsys.readouterr().err


def test_the_figures_are_means_over_all_pairs_of_the_test_set(samples, tmp_path):
    torch.manual_seed(0)
    run = ablation.Run(FULL, TrainConfig(), tmp_path / "small.safetensors")
    save_student(run.checkpoint, Student(StudentConfig(8, 2, 1, 1)))
    test = ablation.test_set_of(samples, False)
    expected = evaluate_pairs(pairs_of(samples), partial(fuse_planes, load_student(run.checkpoint)))
    found = ablation._measure(run, test, torch.device("cpu"))
    assert found == ablation.figures_of(run, test) == pytest.approx({name: expected[name] for name in METRICS})
