"""``irvis int8`` on generated pairs."""

import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from irvis.benchmarks import int8
from irvis.runtime import cli
from irvis.runtime.shipped import SHIPPED_MODEL


def run(capsys, samples, *arguments):
    given = [SHIPPED_MODEL, "--calibrate", samples, "--pairs", samples, *arguments]
    code = cli.main(["int8", *map(str, given)])
    said = capsys.readouterr()
    assert said.err == ""
    return code, said.out


def test_the_shipped_student(capsys, samples):
    code, out = run(capsys, samples, "--size", "48x64", "--limit", 2)
    assert code == 0
    first, by_rule, everything = out.splitlines()
    assert first.endswith("student.onnx, 48x64, ranges of 3 pairs: 59 of 78 convolutions in INT8")
    assert by_rule.startswith(f"  {samples.parent.name}/{samples.name}: PSNR ")
    assert "of 2 pairs" in by_rule
    assert everything.startswith("    with all 78 in INT8: PSNR ")
    for line in (by_rule, everything):
        worst_db, mean_db = map(float, re.search(r"PSNR ([\d.]+) dB .* ([\d.]+) in the mean", line).groups())
        assert worst_db < mean_db
    assert by_rule.partition("PSNR")[2] != everything.partition("PSNR")[2]


def test_a_missing_data_set_is_told_before_anything_is_measured(capsys, samples, tmp_path):
    given = [SHIPPED_MODEL, "--calibrate", samples, "--pairs", samples, tmp_path / "none", "--size", "48x64"]
    assert cli.main(["int8", *map(str, given)]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"irvis int8: folder not found: {tmp_path / 'none'}\n")


def test_a_bad_pair_is_told_before_anything_is_measured(capsys, samples, cut_samples):
    given = ["--calibrate", str(samples), "--pairs", str(samples), str(cut_samples), "--size", "48x64"]
    assert cli.main(["int8", str(SHIPPED_MODEL), *given]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "ir/street.png" in err) == ("", 1, True)


def test_what_the_gate_would_refuse_is_said(capsys, samples, monkeypatch):
    monkeypatch.setitem(int8.LEAST_PSNR_DB, "int8", 150.0)
    code, out = run(capsys, samples, "--size", "48x64", "--limit", 1)
    assert code == 1
    assert out.endswith("NOT SAFE: build_engine.py asks for 150 dB at the worst pair\n")


def test_each_alone_the_worst_first(capsys, samples):
    code, out = run(capsys, samples, "--size", "32x32", "--limit", 1, "--each")
    assert code == 0
    head, *rows = out.splitlines()[3:]
    assert head.split()[:3] == ["alone", "in", "INT8"]
    assert len(rows) == 78
    assert sum(" must not " in row for row in rows) == 78 - 59
    values = [float(row.split()[-2]) for row in rows]
    assert values == sorted(values)


@pytest.mark.parametrize("limit", ["0", "-1", "two"])
def test_a_limit_is_a_whole_number_from_1(limit, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["int8", "a.onnx", "--calibrate", "a", "--pairs", "a", f"--limit={limit}"])
    assert "must be a whole number, 1 or more" in capsys.readouterr().err
