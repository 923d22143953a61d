import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")

from irvis.benchmarks import train_speed

BUILDER = """
import torch

class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, infrared, visible):
        return self.decode(self.encode(torch.cat([infrared, visible], dim=1)))
"""


def test_both_ways_are_timed_and_compared(tmp_path, monkeypatch, capsys):
    from irvis.runtime.samples import write_samples

    write_samples(tmp_path / "pairs", 128, 160)
    (tmp_path / "toy_teacher.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    teacher = "toy_teacher:Toy,feature=decode"
    options = ["pairs", "--teacher", teacher, "--rounds", "2", "--steps", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *options])
    assert train_speed.main() == 0
    title, cached, naive, ratio = capsys.readouterr().out.splitlines()
    assert title.startswith("batch 4 of 128x128, ")
    assert (cached.split()[0], naive.split()[0]) == ("cached", "naive")
    assert float(cached.split()[1]) > 0
    assert "over 2 rounds" in ratio


def test_a_missing_folder_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_speed.py", "nowhere", "--teacher", "x.onnx,fused=a,feature=b"])
    assert train_speed.main() == 1
    assert capsys.readouterr().err == "train_speed.py: folder not found: nowhere\n"
