import json
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")

from irvis.benchmarks import train_speed
from irvis.student.objective import Objective
from irvis.student.recipes import TrainConfig

BUILDER = """
import torch

class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, infrared, visible):
        return self.decode(self.encode(torch.cat([infrared, visible], dim=1)))
"""


@pytest.fixture
def options(tmp_path, monkeypatch):
    """A toy teacher, pairs, and the command line's options for a small contest of them."""
    from irvis.runtime.samples import write_samples

    write_samples(tmp_path / "pairs", 128, 160)
    (tmp_path / "toy_teacher.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_speed, "TrainConfig", SMALL)
    monkeypatch.setattr(train_speed, "CROPS", 4)
    return "pairs --teacher toy_teacher:Toy,feature=decode --rounds 2 --steps 1 --device cpu --json told.json".split()


def SMALL(**options):
    return TrainConfig(crop_side=16, **options)


def test_both_ways_are_timed_and_compared(options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options])
    assert train_speed.main() == 0
    title, cached, naive = capsys.readouterr().out.splitlines()
    assert title.startswith("batch 4 of 16x16, toy_teacher:Toy, cpu, torch")
    assert (cached.split()[0], naive.split()[0]) == ("cached", "naive")
    assert float(cached.split()[1]) > 0
    assert "1.00 times (1.00 to 1.00 over 2 rounds)  losses within 0.0e+00" in cached
    with open("told.json") as stream:
        told = json.load(stream)["ways"]
    assert [len(told[name]["seconds"]) for name in ("cached", "naive")] == [2, 2]


def test_the_ways_of_a_gpu_give_the_same_losses_and_one_that_fails_lets_the_others_go_on(options, monkeypatch, capsys):
    """On a CPU, where they have no graph; the compiler fails as where it finds no C++."""
    names = ("bf16", "graph, channels last", "graph, bf16, 2 together", "graph, compiled")
    ways = {name: train_speed.GPU_WAYS[name] for name in names}
    monkeypatch.setattr(train_speed, "WAYS", {**train_speed.WAYS, **ways})
    monkeypatch.setattr(Objective, "compile", lambda self: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options])
    assert train_speed.main() == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 2 + len(ways)
    for line in lines:
        assert ("failed: ZeroDivisionError" in line) == ("compiled" in line)
    with open("told.json") as stream:
        told = json.load(stream)["ways"]
    for name, one in told.items():
        if "failed" not in one:
            assert one["difference"] < (2e-2 if "bf16" in name else 1e-5)


def test_an_unknown_way_is_named(options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options, "--ways", "fast"])
    assert train_speed.main() == 1
    assert "no way here is called fast. There are: cached; naive" in capsys.readouterr().err


def test_a_missing_folder_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_speed.py", "nowhere", "--teacher", "x.onnx,fused=a,feature=b"])
    assert train_speed.main() == 1
    assert capsys.readouterr().err == "train_speed.py: folder not found: nowhere\n"
