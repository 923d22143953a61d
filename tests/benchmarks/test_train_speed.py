import itertools
import json
import sys
import time
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")

from irvis.benchmarks import train_speed
from irvis.student.objective import Objective
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import teacher_maps

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
    ran = []
    monkeypatch.setattr(train_speed, "teacher_maps", lambda *given: ran.append(given) or teacher_maps(*given))
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options])
    assert train_speed.main() == 0
    assert len(ran) == 1 + 2  # once for all, and in each step of the naive way
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
    clock = SimpleNamespace(perf_counter=itertools.count().__next__, monotonic=time.monotonic)
    monkeypatch.setattr(train_speed, "time", clock)
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options])
    assert train_speed.main() == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 2 + len(ways)
    for line in lines:
        assert ("failed: ZeroDivisionError" in line) == ("compiled" in line)
    with open("told.json") as stream:
        told = json.load(stream)["ways"]
    assert (told["bf16"]["seconds"], told["graph, bf16, 2 together"]["seconds"]) == ([1.0, 1.0], [0.5, 0.5])
    for name, one in told.items():
        if "failed" not in one:
            assert one["difference"] < (2e-2 if "bf16" in name else 1e-5)


def test_speeds_are_steps_a_second_and_ratios_of_the_same_round():
    told = {
        "cached": {"seconds": [0.5, 1.0, 0.5], "difference": 0.0},
        "bf16": {"seconds": [0.25, 0.25, 0.2], "difference": 1e-3},
    }
    assert train_speed.rows_of(told) == [
        "cached     2.00 steps/s     1.00 times (1.00 to 1.00 over 3 rounds)  losses within 0.0e+00",
        "bf16       4.00 steps/s     2.50 times (2.00 to 4.00 over 3 rounds)  losses within 1.0e-03",
    ]


def test_an_unknown_way_is_named(options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options, "--ways", "fast"])
    assert train_speed.main() == 1
    assert "no way here is called fast. There are: cached; naive" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rounds", "--steps"])
def test_a_count_below_one_is_refused(option, options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options, option, "0"])
    with pytest.raises(SystemExit):
        train_speed.main()
    assert "must be a whole number, 1 or more. Got '0'" in capsys.readouterr().err


def test_a_missing_folder_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_speed.py", "nowhere", "--teacher", "x.onnx,fused=a,feature=b"])
    assert train_speed.main() == 1
    assert capsys.readouterr().err == "train_speed.py: folder not found: nowhere\n"
