import argparse
import csv
import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("thop")
pytest.importorskip("onnx")

from torch import nn

from irvis.benchmarks import complexity
from irvis.benchmarks.complexity import Cost, count, count_published, is_tenth, to_cells, to_csv, to_json, to_markdown
from irvis.benchmarks.peers.tables import DEPLOY, STUDENT
from irvis.export.deploy import DeployStudent
from irvis.runtime.sizes import DEFAULT_SIZE
from irvis.student.network import Student


class Products(nn.Module):
    """4 channels, a convolution as a module and one as a function, a product and a transform."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.own = nn.Parameter(torch.zeros(4, 4, 1, 1))

    def forward(self, infrared, visible):
        x = nn.functional.conv2d(self.conv(infrared), self.own).flatten(2)
        plane = torch.fft.irfft2(torch.fft.rfft2(visible), s=visible.shape[2:])
        return (x @ x.transpose(1, 2)).sum() + plane


def test_the_true_count_has_what_thop_leaves_out():
    cost = count("products", Products(), (16, 32))
    pixels = 16 * 32
    transforms = 2 * 5 / 4 * pixels * 9  # log2(512) = 9
    assert cost.thop_macs == pixels * 4 * 9
    assert cost.macs == pixels * (4 * 9 + 4 * 4 + 4 * 4) + transforms
    assert (cost.thop_parameters, cost.parameters) == (40, 56)


def test_the_students_are_the_published_ones():
    student = count(STUDENT, Student(), DEFAULT_SIZE)
    deploy = count(DEPLOY, DeployStudent(Student()), DEFAULT_SIZE)
    assert (student.thop_macs, student.thop_parameters, student.parameters) == (22_614_838_272, 77_185, 77_713)
    # Four blocks of attention have two products each over 4 heads of 8 channels, and their norms no multiply-adds.
    products = 4 * 2 * 32 * 8 * 480 * 640
    squeezed = 3 * 2 * 32 * 16
    convolved = student.macs - products - squeezed
    assert convolved == 22_614_838_272 - squeezed
    assert deploy.macs > deploy.thop_macs


def test_published_networks_are_counted_without_weights():
    cost = count_published("SeAFusion", DEFAULT_SIZE)
    assert cost == Cost("SeAFusion", 50_995_200_000, 166_657, 50_995_200_000, cost.parameters)


def test_rows_that_the_paper_prints_ten_times_too_small_are_marked():
    costs = [
        Cost("SeAFusion", 50_995_200_000, 166_657, 50_995_200_000, 166_945),
        Cost("SHIP", 156_770_316_544, 525_985, 162_025_439_232, 547_459),
        Cost("PFCFuse", 243_685_785_600, 525_664, 247_401_676_800, 528_500),
    ]
    assert [is_tenth(cost) for cost in costs] == [True, False, False]
    rows = to_cells(costs, DEFAULT_SIZE)
    assert rows[0] == ("SeAFusion", "50.9952", "0.1667", "50.9952", "0.1669", "5.0995†", "0.0167†", "13.84", "77.05")
    assert rows[1][5:] == ("156.8391", "0.5260", "66.16", "637.87")
    assert rows[2][5:] == ("",) * 4
    assert ("KDFuse", "", "", "", "", "76.5434", "0.2492", "174.79", "2114.44") in rows
    assert [row[5:] for row in to_cells(costs, (96, 128))] == [("",) * 4] * 3
    for size, gmacs in ((DEFAULT_SIZE, ["5.0995", "156.8391", ""]), ((96, 128), [""] * 3)):
        assert [row["published_gmacs"] for row in csv.DictReader(to_csv(costs, size).splitlines())] == gmacs
        found = [network["published"] for network in to_json(costs, size)["networks"]]
        assert [str(one["gmacs"]) if one else "" for one in found] == gmacs
    page = to_markdown(json.loads(json.dumps(to_json(costs, DEFAULT_SIZE))))
    assert f"| {' | '.join(rows[0])} |\n" in page


def test_all_formats_are_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(complexity, "MODULES", {"MMDRFuseStudent": "mmdrfuse"})
    parser = argparse.ArgumentParser()
    complexity.add_arguments(parser)
    files = {name: tmp_path / f"cost.{name}" for name in ("markdown", "csv", "json")}
    options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    assert complexity.main(parser.parse_args(["--size", "32x48", *options])) == 0
    out = capsys.readouterr().out
    assert out.startswith("32x48 (HEIGHTxWIDTH)")
    rows = list(csv.DictReader(files["csv"].open()))
    assert [row["name"] for row in rows] == ["MMDRFuseStudent", "fast", "fast, deploy form", STUDENT, DEPLOY]
    assert rows[0]["macs"] == str(32 * 48 * 9 * (2 * 4 + 4))
    document = json.loads(files["json"].read_text())
    assert document["size"] == {"height": 32, "width": 48}
    assert to_markdown(document) == files["markdown"].read_text()
