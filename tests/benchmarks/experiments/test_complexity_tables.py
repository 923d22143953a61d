import argparse
import csv
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("thop")

from irvis.benchmarks import complexity
from irvis.benchmarks.complexity import Cost
from irvis.benchmarks.experiments import complexity_tables, timings
from irvis.benchmarks.experiments.complexity_tables import WHAT_TO_RUN, describe, table_of, to_csv
from irvis.benchmarks.experiments.timings import Timings
from irvis.benchmarks.published import COMPLEXITY
from irvis.benchmarks.ranked_tables import BEST, SECOND
from irvis.runtime.errors import FileError
from irvis.student.checkpoint import save_student
from irvis.student.network import Student, StudentConfig

PAPER = Path(__file__).parents[4] / "shared" / "paper" / "published.json"
COSTS = [
    Cost("DATFuse", 5_554_176_288, 10_552, 5_345_280_256, 10_760),
    Cost("student", 22_614_838_272, 77_185, 23_243_983_872, 77_713),
    Cost("SFDFusion", 42_807_424_320, 139_695, 42_828_423_919, 139_695),
    Cost("SeAFusion", 50_995_200_000, 166_657, 50_995_200_000, 166_883),
    Cost("SHIP", 156_770_316_544, 525_985, 162_025_447_894, 547_509),
]
TIMINGS = [Timings("CPU, ONNX Runtime", "peers.json: on a CPU", {"student": (900.0, 30.456), "SHIP": (4000.0, 9.0)})]


def test_published_figures_are_those_of_the_paper():
    assert COMPLEXITY["student"] == (22.6148, 0.0772, 31.2204, 0.0894, 250.3114, 7.1713)
    assert COMPLEXITY["CDDFuse"] == (568.6871, 1.7874, 293.2754, 44.1311, 2066.0079, 6.7174)
    assert len(COMPLEXITY) == 10
    if PAPER.is_file():
        paper = json.loads(PAPER.read_text(encoding="utf-8"))["complexity"]
        fields = (
            "gmacs_640x480",
            "mparams",
            "rtx3080ti_ms",
            "rtx3080ti_ms_std",
            "xavier_maxn_ms",
            "xavier_maxn_ms_std",
        )
        assert {name: tuple(row[field] for field in fields) for name, row in paper.items()} == COMPLEXITY


def test_times_and_counts_stand_beside_the_published_ones_and_less_is_better():
    found = table_of(COSTS, TIMINGS)
    rows = {row[0].text: row for row in found.rows}
    assert list(rows)[:5] == [cost.name for cost in COSTS]
    assert set(rows) == set(COMPLEXITY)
    assert found.head[3] == "ms, CPU, ONNX Runtime [1]"
    assert [cell.text for cell in rows["student"][1:]] == [
        "31.2204 ± 0.0894",
        "250.3114 ± 7.1713",
        "900.00 ± 30.46",
        *("22.6148", "22.6148", "0.0772", "0.0772"),
    ]
    assert [cell.text for cell in rows["DATFuse"][3:]] == ["", "5.5542", "0.5554†", "0.0106", "0.0011†"]
    assert [cell.rank for cell in rows["student"][1:]] == [0, 0, BEST, SECOND, BEST, SECOND, BEST]
    assert [cell.rank for cell in rows["DATFuse"][4:]] == [BEST, 0, BEST, 0]  # a tenth as printed is none
    assert [cell.rank for cell in rows["SFDFusion"][1:]] == [BEST, 0, 0, 0, 0, 0, 0]
    assert [cell.rank for cell in rows["SHIP"][1:]] == [0, 0, SECOND, 0, 0, 0, 0]


def test_one_sample_has_no_deviation():
    once = [Timings("CPU", "peers.json: on a CPU", {"student": (900.0, None), "SHIP": (4000.0, 9.0)})]
    rows = {row[0].text: row for row in table_of(COSTS, once).rows}
    assert [rows[name][3].text for name in ("student", "SHIP")] == ["900.00", "4000.00 ± 9.00"]
    values = {row["method"]: row["CPU [1]_std_ms"] for row in csv.DictReader(to_csv(COSTS, once).splitlines())}
    assert (values["student"], values["SHIP"]) == ("", "9.0")


def test_the_note_says_what_was_measured_or_what_to_run():
    assert "[1] peers.json: on a CPU." in describe(TIMINGS)
    assert WHAT_TO_RUN not in describe(TIMINGS)
    assert WHAT_TO_RUN in describe([])
    assert "smoke" not in describe([])
    assert "A smoke run" in describe(TIMINGS, quick=True)


def test_csv_has_every_figure_unrounded():
    rows = {row["method"]: row for row in csv.DictReader(to_csv(COSTS, TIMINGS).splitlines())}
    assert rows["student"]["thop_macs"] == "22614838272"
    assert rows["student"]["published_xavier_maxn_std_ms"] == "7.1713"
    assert rows["student"]["CPU, ONNX Runtime [1]_std_ms"] == "30.456"
    assert (rows["KDFuse"]["macs"], rows["KDFuse"]["published_gmacs"]) == ("", "76.5434")
    assert rows["DATFuse"]["CPU, ONNX Runtime [1]_mean_ms"] == ""


def run(*options):
    parser = argparse.ArgumentParser()
    complexity_tables.add_arguments(parser)
    return complexity_tables.main(parser.parse_args([*map(str, options)]))


def test_quick_does_not_replace_the_table_of_a_whole_run(tmp_path):
    (tmp_path / "complexity.md").write_text("what irvis peers measured")
    with pytest.raises(FileError, match=r"complexity\.md is of a whole run, and --quick would replace it"):
        run("-o", tmp_path, "--quick")
    assert [path.name for path in tmp_path.iterdir()] == ["complexity.md"]


def test_quick_times_the_student_itself_and_makes_all_files(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    save_student(tmp_path / "small.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    options = (str(tmp_path / "small.safetensors"), "--runtime", "pytorch", "--rounds", "2", "--threads", "1")
    options += ("--size", "48x64")  # the paper's takes a minute
    monkeypatch.setattr(timings, "DEFAULT_SIZE", (48, 64))
    monkeypatch.setattr(complexity_tables, "QUICK", options)
    monkeypatch.setattr(complexity, "count_all", lambda size: COSTS)
    assert run("-o", tmp_path / "quick", "--quick") == 0
    names = {path.name for path in (tmp_path / "quick").iterdir()}
    assert names == {"peers-quick.json", *(f"complexity.{ending}" for ending in ("md", "csv", "tex", "json"))}
    text = (tmp_path / "quick" / "complexity.md").read_text(encoding="utf-8")
    assert "A smoke run" in text
    assert "PyTorch [1] |" in text
    assert "wrote" in capsys.readouterr().out
    found = {row[0]: row for row in json.loads((tmp_path / "quick" / "complexity.json").read_text())["rows"]}
    assert "±" in found["student"][3]
    assert "±" in found["student, deploy form"][3]
    assert found["SHIP"][3] == ""
