import json
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from irvis.benchmarks import gpu_train
from irvis.benchmarks.gpu_train import Queue, named_runs, runs_of, train_queue
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import sha256
from irvis.runtime.pairs import pairs_of
from irvis.runtime.shipped import find_model
from irvis.student.checkpoint import load_student, read_metadata, save_student
from irvis.student.network import StudentConfig
from irvis.student.recipes import RECIPES, Recipe, TrainConfig
from irvis.student.teacher_cache import teacher_maps
from irvis.student.teachers.load import open_teacher
from irvis.student.train import RunOptions, train
from irvis.student.trainer import ALONE, Trainer

SMALL = TrainConfig(crops=8, crop_side=16, batch=2, steps=6, learning_rate=1e-3, warmup=0.0, ema=0.5, augment=True)
WILD = replace(SMALL, steps=3, learning_rate=1e30, learning_rate_start=1e30, learning_rate_end=1e30)  # it diverges


class Toy:
    """A teacher of three channels at half size."""

    def __init__(self, name):
        self.name, self.digest = name, name[0] * 64

    def __call__(self, infrared, visible):
        feature = torch.cat([infrared, visible, infrared - visible], dim=1)[..., ::2, ::2]
        return feature, torch.maximum(infrared, visible)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Recipes of a few steps, toys for published networks, and a look at the losses every other step."""
    monkeypatch.setitem(RECIPES, "paper", Recipe("", SMALL))
    monkeypatch.setitem(RECIPES, "base", Recipe("", replace(SMALL, steps=3)))
    config = replace(SMALL, steps=4, weighting="balance")
    monkeypatch.setitem(RECIPES, "shipped", Recipe("", config, teachers=("SHIP", "PFCFuse"), base="base"))
    monkeypatch.setattr(gpu_train, "open_teacher", lambda spec, device: Toy(spec.split("=")[0]))
    monkeypatch.setattr(gpu_train, "CHUNK", 2)


@pytest.fixture
def packed(samples, tmp_path, monkeypatch):
    """The samples' crops for the small recipes, in a file."""
    assert called(monkeypatch, "pack", tmp_path / "crops.npz", samples, "--runs", "paper-SHIP", "shipped") == 0
    return tmp_path / "crops.npz"


def called(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu_train.py", *map(str, arguments)])
    return gpu_train.main()


def weights(path):
    return load_student(path).state_dict()


def assert_same(one, other):
    for name, tensor in weights(one).items():
        assert torch.equal(weights(other)[name], tensor), name


def test_a_recipe_brings_what_it_starts_from_and_the_paper_any_teacher():
    assert [run.name for run in runs_of(["shipped", "base", "paper-SHIP"])] == ["base", "shipped", "paper-SHIP"]
    assert named_runs("paper-SHIP")[0].teachers == ("SHIP",)
    with pytest.raises(
        IrvisError, match=r"no run is called quick\. There are paper-TEACHER, paper, base, shipped, fast, and"
    ):
        runs_of(["quick"])


def test_runs_are_described_in_a_file(tmp_path):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([{"name": "narrow", "options": {"steps": 9}, "network": {"channels": 16}}]))
    (run,) = runs_of([str(path)])
    assert (run.config, run.network) == (replace(SMALL, steps=9), StudentConfig(channels=16))
    path.write_text(json.dumps([{"name": "a", "recipe": "fast", "network": {"fusion_stride": 1}}, {"name": "b"}]))
    assert [run.network for run in runs_of([str(path)])] == [StudentConfig(global_stride=2), None]
    for content, said in (("[", "is not JSON"), ('[{"name": "a", "size": 1}]', "size"), ('[{"options": {}}]', "name")):
        path.write_text(content)
        with pytest.raises(IrvisError, match=said):
            runs_of([str(path)])
    (run,) = runs_of(["fast"])
    assert (run.name, run.teachers, run.init) == ("fast", ("student",), "student")
    path.write_text('[{"name": "a", "init": "b"}]')
    with pytest.raises(IrvisError, match="a starts from b, which is not among the runs: a"):
        runs_of([str(path)])


def test_a_described_run_of_a_recipe_with_a_base_must_say_what_it_starts_from(tmp_path):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([{"name": "a", "recipe": "shipped"}]))
    said = "^a uses recipe shipped, which starts from base; set init to the name of a run of base$"
    with pytest.raises(IrvisError, match=said):
        runs_of(["base", str(path)])
    path.write_text(
        json.dumps(
            [
                {"name": "first", "recipe": "base", "options": {"seed": 7}},
                {"name": "second", "recipe": "shipped", "options": {"seed": 7}, "init": "first"},
                {"name": "from nothing", "recipe": "shipped", "init": ""},
            ]
        )
    )
    runs = runs_of([str(path)])
    assert [(run.name, run.init, run.config.seed) for run in runs] == [
        ("first", "", 7),
        ("second", "first", 7),
        ("from nothing", "", 0),
    ]


def test_progress_has_mean_losses_and_the_speed_after_the_first_read(monkeypatch):
    trainer = SimpleNamespace(step=2, replays=False, read=lambda: [{"loss": 1.0}, {"loss": 4.0}])
    told = {"losses": [{"step": 2}, {"step": 4}]}  # as of a run that ended after its last save
    active = gpu_train.Active(gpu_train.Run("a", SMALL), trainer, (), told)
    monkeypatch.setattr(gpu_train.time, "monotonic", iter([10.0, 14.0]).__next__)
    for trainer.step, is_last in ((4, False), (6, True)):
        assert active.read() == is_last
    assert told["losses"] == [{"step": 2}, {"loss": 2.5, "step": 4}, {"loss": 2.5, "step": 6}]
    assert (told["steps"], told["of"], told["steps_per_s"]) == (6, 6, 0.5)


@pytest.mark.parametrize("together", [1, 2])
def test_the_queue_gives_the_students_that_train_gives(packed, samples, tmp_path, monkeypatch, capsys, together):
    out = tmp_path / "out"
    runs = ["--runs", "paper-SHIP", "shipped"]
    assert called(monkeypatch, "run", packed, out, *runs, "--together", together, "--device", "cpu") == 0
    names = ("paper-SHIP", "base", "shipped")
    assert {path.name for path in out.iterdir()} == {"progress.json", *(f"{name}.safetensors" for name in names)}
    options, pairs = RunOptions(cache=tmp_path / "cache", tensorboard=False), pairs_of(samples)
    base = tmp_path / "base.safetensors"
    train(pairs, base, RECIPES["base"].config, options=options)
    teachers = [Toy("SHIP"), Toy("PFCFuse")]
    train(pairs, tmp_path / "s.safetensors", RECIPES["shipped"].config, teachers=teachers, init=base, options=options)
    assert_same(base, out / "base.safetensors")
    assert_same(tmp_path / "s.safetensors", out / "shipped.safetensors")
    for part in ('"pairs": 3', '"steps": 4', '"PFCFuse": "PPPP'):
        assert part in read_metadata(out / "shipped.safetensors")["training"]
    told = json.loads((out / "progress.json").read_text())["runs"]
    assert [(told[name]["status"], told[name]["steps"]) for name in names] == [("done", 6), ("done", 3), ("done", 4)]
    assert [row["step"] for row in told["paper-SHIP"]["losses"]] == [2, 4, 6]
    assert "paper-SHIP        done, 6 of 6 steps" in capsys.readouterr().out


def test_a_teacher_runs_once_on_the_same_crops(samples, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(gpu_train, "teacher_maps", lambda *given: ran.append(given) or teacher_maps(*given))
    configs = [SMALL, replace(SMALL, steps=3), replace(SMALL, seed=1)]
    gpu_train.write_pack(tmp_path / "crops.npz", pairs_of(samples), configs, {})
    runs = [gpu_train.Run(name, config, ("SHIP",)) for name, config in zip("abc", configs)]
    queue = Queue(runs, gpu_train.read_pack(tmp_path / "crops.npz"), tmp_path / "out", tmp_path, ALONE)
    queue.start(together=3)
    assert len(queue.active) == 3
    assert len(ran) == 2  # for the two seeds


def test_a_run_starts_from_a_run_or_else_from_a_shipped_student(packed, tmp_path):
    runs = [gpu_train.Run("a", SMALL, init="b"), gpu_train.Run("b", SMALL, ("student",), "student")]
    queue = Queue(runs, gpu_train.read_pack(packed), tmp_path / "out", tmp_path, ALONE)
    assert train_queue(queue, seconds=999, together=1)
    made = {name: json.loads(read_metadata(tmp_path / "out" / f"{name}.safetensors")["training"]) for name in "ab"}
    assert made["a"]["init"] == sha256(tmp_path / "out" / "b.safetensors")
    assert made["b"]["init"] == sha256(find_model("student", ".safetensors"))
    assert list(made["b"]["teachers"]) == ["student"]


def test_a_run_is_taught_by_a_run_when_that_is_done(packed, tmp_path, monkeypatch):
    specs = []
    monkeypatch.setattr(gpu_train, "open_teacher", lambda spec, device: specs.append(spec) or Toy("teacher"))
    runs = [gpu_train.Run("a", SMALL, ("b",), "student"), gpu_train.Run("b", replace(SMALL, steps=3))]
    queue = Queue(runs, gpu_train.read_pack(packed), tmp_path / "out", tmp_path, ALONE)
    queue.start(together=2)
    assert [one.run.name for one in queue.active] == ["b"]
    assert train_queue(queue, seconds=999, together=2)
    assert specs == [str(tmp_path / "out" / "b.safetensors")]
    assert {name: told["status"] for name, told in queue.progress["runs"].items()} == {"a": "done", "b": "done"}


def test_a_run_whose_teacher_failed_is_not_started(packed, tmp_path):
    queue = Queue(
        [gpu_train.Run("a", SMALL, ("b",)), gpu_train.Run("b", WILD)],
        gpu_train.read_pack(packed),
        tmp_path / "out",
        tmp_path,
        ALONE,
    )
    assert train_queue(queue, seconds=999, together=1)
    assert queue.progress["runs"]["a"]["status"] == "failed: b did"


def test_a_queue_that_ran_out_of_time_goes_on_to_the_same_weights(packed, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = ["--runs", "shipped", "--device", "cpu"]
    assert called(monkeypatch, "run", packed, whole, *command) == 0
    codes, seen = [], []
    for _ in range(9):  # of no time at all: one look each
        monkeypatch.setattr(gpu_train.time, "monotonic", iter([0.0, 0.0, 1.0, *([99.0] * 99)]).__next__)
        codes.append(called(monkeypatch, "run", packed, parts, *command, "--seconds", "10"))
        seen.append({path.name for path in parts.iterdir()})
    assert codes[0] == 130
    assert codes[-1] == 0
    assert "base.state" in seen[0]
    assert seen[-1] == {"base.safetensors", "shipped.safetensors", "progress.json"}
    assert_same(whole / "shipped.safetensors", parts / "shipped.safetensors")
    losses = [json.loads((out / "progress.json").read_text())["runs"]["shipped"]["losses"] for out in (whole, parts)]
    assert losses[0] == losses[1]


def test_states_are_saved_while_a_run_goes_on(packed, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(gpu_train, "SAVE_S", -1.0)
    monkeypatch.setattr(Trainer, "save", lambda trainer, path: saved.append((path.name, trainer.step)))
    queue = Queue([gpu_train.Run("a", SMALL)], gpu_train.read_pack(packed), tmp_path / "out", tmp_path, ALONE)
    assert train_queue(queue, seconds=999, together=1)
    assert saved == [("a.state", 2), ("a.state", 4)]


def test_a_signal_ends_the_start_of_a_run_at_once_and_the_run_is_started_the_next_time(
    packed, tmp_path, monkeypatch, capsys
):
    began = []

    def slow(teacher, *planes):  # as the teachers' maps of thousands of crops are on a CPU
        began.append(teacher.name)
        os.kill(os.getpid(), signal.SIGTERM)
        return teacher_maps(teacher, *planes)

    monkeypatch.setattr(gpu_train, "teacher_maps", slow)
    monkeypatch.setattr(gpu_train, "TEACHER_BATCH", 2)
    command = ("run", packed, tmp_path / "out", "--runs", "paper-SHIP")
    assert called(monkeypatch, *command) == 130
    assert began == ["SHIP"]  # of four batches
    assert "paper-SHIP        waiting" in capsys.readouterr().out
    monkeypatch.setattr(gpu_train, "teacher_maps", teacher_maps)
    assert called(monkeypatch, *command) == 0


def test_a_run_that_fails_lets_the_others_go_on(packed, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "base", Recipe("", WILD))
    crops = gpu_train.read_pack(packed)
    queue = Queue(runs_of(["shipped", "paper-SHIP"]), crops, tmp_path / "out", tmp_path, ALONE)
    assert train_queue(queue, seconds=999, together=2)
    status = {name: told["status"] for name, told in queue.progress["runs"].items()}
    assert "lower --learning-rate" in status["base"]
    assert (status["shipped"], status["paper-SHIP"]) == ("failed: base did", "done")


def test_a_failed_run_is_an_exit_code(packed, tmp_path, monkeypatch, capsys):
    out, teachers = tmp_path / "out", tmp_path / "nowhere"
    command = ["--runs", "paper-SHIP", "base", "--device", "cpu"]
    monkeypatch.setattr(gpu_train, "open_teacher", open_teacher)
    assert called(monkeypatch, "run", packed, out, *command, "--teachers", teachers) == 1
    assert "paper-SHIP        failed: " in capsys.readouterr().out
    assert (out / "base.safetensors").exists()
    assert called(monkeypatch, "run", packed, out, "--runs", "base", "--device", "cpu") == 0


def test_a_student_that_makes_negatives_is_told(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_train, "why_not_to_use", lambda student, crops: f"negatives of {len(crops)}")
    out = tmp_path / "out"
    assert called(monkeypatch, "run", packed, out, "--runs", "base", "--device", "cpu") == 0
    assert "warning: base: negatives of 8\n" in capsys.readouterr().out
    assert (out / "base.safetensors").exists()
    stopped = ["--runs", "paper-SHIP", "--device", "cpu", "--seconds", "0"]
    assert called(monkeypatch, "run", packed, tmp_path / "stopped", *stopped) == 130
    assert "warning: paper-SHIP: negatives of 8\n" in capsys.readouterr().out  # in time to do something about it


def test_no_runs_at_once_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        called(monkeypatch, "run", tmp_path / "crops.npz", tmp_path, "--together", "0")
    assert "must be a whole number, 1 or more. Got '0'" in capsys.readouterr().err


def test_a_student_that_cannot_be_written_leaves_the_others_and_what_was_trained(packed, tmp_path, monkeypatch):
    def write(path, *_):
        if path.stem == "a":
            raise FileError(f"cannot write {path}: No space left on device")
        save_student(path, *_)

    monkeypatch.setattr(gpu_train, "save_student", write)
    runs = [gpu_train.Run("a", SMALL), gpu_train.Run("b", replace(SMALL, steps=3))]
    queue = Queue(runs, gpu_train.read_pack(packed), tmp_path / "out", tmp_path, ALONE)
    train_queue(queue, seconds=999, together=2)
    status = {name: told["status"] for name, told in queue.progress["runs"].items()}
    full = f"failed: cannot write {tmp_path / 'out' / 'a.safetensors'}: No space left on device"
    assert status == {"a": full, "b": "done"}
