import csv
import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from irvis.runtime.cli import main
from irvis.runtime.errors import IrvisError
from irvis.runtime.images import read_infrared, write_image
from irvis.student.checkpoint import load_student, read_metadata
from irvis.student.downstream import Downstream, DownstreamConfig, check_task, open_task, save_task
from irvis.student.trainer import Trainer

CROPS = torch.randint(0, 256, (2, 2, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
BOXES = torch.tensor([[[0, 9.0, 9, 8, 8]], [[-1, 0, 0, 0, 0]]])
OPTIONS = "--crops 8 --crop-side 32 --batch 2 --steps 6 --warmup 0 --no-tensorboard".split()

CODE = """
import torch

class Task(torch.nn.Module):
    labels, classes = "boxes", 2

    def __init__(self, how="fine"):
        super().__init__()
        self.how, self.scale = how, torch.nn.Parameter(torch.rand(()))

    def forward(self, fused, targets):
        loss = (self.scale - fused.mean()).square() + 0 * targets.sum()
        return {
            "fine": loss, "rows": loss.expand(2), "number": 1.0, "nan": loss * float("nan"),
            "detached": self.scale * fused.detach().mean(),
            "root": loss + (fused - fused.detach()).square().mean().sqrt(),
            "own root": loss + (self.scale - self.scale.detach()).square().sqrt(),
        }[self.how]

def wrong_labels():
    task = Task()
    task.labels = "points"
    return task

def no_classes():
    task = Task()
    task.classes = 0
    return task

no_module = list
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's folder with a task, which is the current one."""
    (tmp_path / "own_task.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def labelled(samples, tmp_path):
    """The samples with a box in each and what is bright in the infrared as a mask."""
    folder = tmp_path / "labelled"
    for half in ("ir", "vi"):
        shutil.copytree(samples / half, folder / half)
    for path in (folder / "ir").iterdir():
        write_image(folder / "labels" / f"{path.stem}.png", (read_infrared(path) > 128).astype("uint8"))
        (folder / "labels" / f"{path.stem}.txt").write_text("1 0.5 0.5 0.3 0.4\n")
    return folder


def rows_of(output):
    with output.with_name(output.name + ".csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def head_beside(output):
    return output.with_name(output.name + ".downstream.safetensors")


def test_a_task_of_the_users_own_is_called_with_its_argument(own):
    assert open_task("own_task:Task", 0).how == "fine"
    assert open_task("own_task:Task=a=b", 0).how == "a=b"


def test_random_weights_depend_on_the_seed_alone_and_leave_other_draws_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, again, other = (open_task("boxes=3", seed).heat.weight for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("masks=none.safetensors", "a head needs 1 to 255 classes, such as boxes=6, or the file of a head. Got 'none"),
        ("boxes=0", "such as boxes=6, or the file of a head. Got '0'"),
        ("boxes=256", "such as boxes=6, or the file of a head. Got '256'"),
        ("boxes", "such as boxes=6, or the file of a head. Got ''"),
        ("boxes=own_task.py", "not a head of this kind: own_task.py"),
        ("circles", "not a downstream task: 'circles'; give boxes=CLASSES, masks=CLASSES or package.module:function"),
        ("no_such_module:f", "no_such_module:f cannot be called from"),
        ("own_task:nothing", "AttributeError: module 'own_task' has no attribute 'nothing'"),
        ("own_task:no_module", "own_task:no_module must return an nn.Module. Got list"),
        ("own_task:wrong_labels", "own_task:wrong_labels must have .labels, one of boxes, masks. Got 'points'"),
        ("own_task:no_classes", "must have .classes, the number of classes, 1 to 255. Got 0"),
        ("own_task:Task=rows", "own_task:Task=rows must return a scalar loss, a tensor of shape (). Got (2,)"),
        ("own_task:Task=number", "must return a scalar loss, a tensor of shape (). Got float"),
        ("own_task:Task=nan", "must return a finite loss. Got nan on the first crops"),
        ("own_task:Task=detached", "passes no gradient to the fused image"),
        ("own_task:Task=root", "own_task:Task=root has a gradient that is NaN or infinite on the first crops; add"),
        ("own_task:Task=own root", "has a gradient that is NaN or infinite on the first crops"),
        ("own_task:Task=other", "fails on the first crops: KeyError: 'other'"),
    ],
)
def test_what_cannot_be_a_task_is_told_in_one_line(own, spec, said):
    with pytest.raises(IrvisError) as caught:
        check_task(Downstream(DownstreamConfig(spec), open_task(spec, 0), BOXES), CROPS, torch.device("cpu"))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


class Counting(torch.nn.Module):
    labels, classes = "boxes", 2

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(1)

    def forward(self, fused, targets):
        return self.norm(fused).square().mean()


def test_the_trial_leaves_what_a_task_remembers_as_it_was():
    task = Counting()
    check_task(Downstream(DownstreamConfig("own:Counting"), task, BOXES), CROPS, torch.device("cpu"))
    assert task.norm.num_batches_tracked == 0


@pytest.mark.parametrize("spec", ["boxes=3", "masks=3"])
def test_a_head_comes_back_frozen_from_its_file(tmp_path, spec):
    task = open_task(spec, 1)
    save_task(tmp_path / "head.safetensors", Downstream(DownstreamConfig(spec), task, BOXES))
    again = open_task(f"{spec.split('=')[0]}={tmp_path / 'head.safetensors'}", 0)
    assert again.classes == 3
    assert not any(parameter.requires_grad for parameter in again.parameters())
    for one, other in zip(task.parameters(), again.parameters()):
        assert torch.equal(one, other)


@pytest.mark.parametrize("spec", ["boxes=2", "masks=2"])
def test_a_joint_run_leaves_its_column_its_head_and_its_provenance(labelled, tmp_path, spec):
    output, frozen = tmp_path / "s.safetensors", tmp_path / "frozen.safetensors"
    command = ["train", str(labelled), *OPTIONS, "--augment", "--downstream-weight", "0.5", "--downstream"]
    assert main([*command, spec, "-o", str(output)]) == 0
    losses = [{name: float(value) for name, value in row.items()} for row in rows_of(output)]
    assert len(losses) == 6
    for row in losses:
        assert row["loss"] == pytest.approx(row["task"] + 0.5 * row["downstream"], rel=1e-5)
    said = json.loads(read_metadata(output)["training"])["downstream"]
    assert said == {"spec": spec, "weight": 0.5, "rate": 1.0}
    load_student(output)
    kind = spec.split("=")[0]
    assert main([*command, f"{kind}={head_beside(output)}", "-o", str(frozen)]) == 0
    assert not head_beside(frozen).exists()  # it learnt nothing


def test_without_a_task_there_is_no_word_of_it(labelled, tmp_path):
    output = tmp_path / "s.safetensors"
    assert main(["train", str(labelled), *OPTIONS, "-o", str(output)]) == 0
    assert "downstream" not in rows_of(output)[0]
    assert "downstream" not in read_metadata(output)["training"]
    assert not head_beside(output).exists()


def test_a_stopped_joint_run_goes_on_to_the_same_student_and_head(labelled, tmp_path, monkeypatch):
    outputs = [tmp_path / name / "s.safetensors" for name in ("straight", "stopped")]
    command = ["train", str(labelled), *OPTIONS, "--ema", "0.5", "--downstream", "boxes=2", "--save-every", "2", "-o"]
    original = Trainer.launch

    def launch(trainer, count):
        if trainer.step == 3:
            raise KeyboardInterrupt
        original(trainer, count)

    assert main([*command, str(outputs[0])]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "launch", launch)
        assert main([*command, str(outputs[1])]) == 130
    assert main([*command, str(outputs[1])]) == 0
    assert rows_of(outputs[1]) == rows_of(outputs[0])
    for beside in (lambda path: path, head_beside):
        one, other = (load_file(beside(output)) for output in outputs)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--downstream", "boxes=2", "--downstream-weight", "0"], "--downstream-weight must be positive. Got 0.0"),
        (["--downstream", "boxes=2", "--downstream-rate", "nan"], "--downstream-rate must be positive. Got nan"),
        (["--downstream", ""], "not a downstream task: ''"),
        (["--downstream-rate", "2"], "--downstream-rate needs a task; give --downstream"),
        (["--downstream", "boxes=1"], ".txt:1 is of class 1, and the classes are 0 to 0"),
        (["--downstream", "own_task:Task=nan"], "must return a finite loss. Got nan on the first crops"),
    ],
)
@pytest.mark.usefixtures("own")
def test_options_that_do_not_fit_are_one_line(labelled, tmp_path, capsys, options, said):
    assert main(["train", str(labelled), *OPTIONS, *options, "-o", str(tmp_path / "s.safetensors")]) == 1
    assert said in capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]


def test_pairs_without_labels_are_one_line(samples, tmp_path, capsys):
    output = str(tmp_path / "s.safetensors")
    assert main(["train", str(samples), *OPTIONS, "--downstream", "boxes=2", "-o", output]) == 1
    said = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert said == f"irvis train: no folder of labels: {samples / 'labels'}"
