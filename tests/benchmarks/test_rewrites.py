import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from irvis.benchmarks import rewrites, undone
from irvis.benchmarks.undone import UNDO
from irvis.export.deploy import DeployStudent
from irvis.student.checkpoint import save_student
from irvis.student.network import Student, StudentConfig


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("student") / "small.safetensors"
    save_student(path, Student(StudentConfig(channels=16, heads=2, global_blocks=1, local_blocks=1)))
    return path


def run(monkeypatch, capsys, *arguments):
    """Return the exit code, stdout and stderr of ``python -m irvis.benchmarks.rewrites``."""
    options = ["--size", "32x64", "--rounds", "2", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["rewrites.py", *map(str, arguments), *options])
    code = rewrites.main()
    said = capsys.readouterr()
    return code, said.out, said.err


def test_each_rewrite_has_a_row(checkpoint, tmp_path, monkeypatch, capsys):
    table = tmp_path / "rewrites.md"
    code, out, err = run(monkeypatch, capsys, checkpoint, "--markdown", table)
    assert (code, err) == (0, "")
    _, title, head, *rows = out.splitlines()
    assert title.startswith("small.safetensors, 32x64 (HEIGHTxWIDTH), CPUExecutionProvider, 1 CPU threads, 2 rounds; ")
    assert head.split()[:2] == ["without", "latency_ms"]
    assert [row[: len(name)] for row, name in zip(rows, UNDO)] == list(UNDO)
    lines = table.read_text().splitlines()
    assert lines[1] == "|---|---:|---:|---:|---:|"
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    assert [row[0] for row in cells] == list(UNDO)
    assert all(float(row[1]) > 0 and float(row[4]) <= rewrites.TOLERANCE for row in cells)
    # What a copy and a second pass cost in memory traffic does not depend on the machine.
    passes = {row[0]: float(row[3]) for row in cells}
    assert passes["Gram matrix normalised, not q and k"] > passes["norms from the Gram matrix"] > 0
    assert passes["concatenation and 1x1 as a sum"] > 0


def test_a_form_that_computes_something_else_is_not_timed(checkpoint, tmp_path, monkeypatch, capsys):
    def break_it(deploy: DeployStudent) -> None:
        deploy.decoder.conv2.bias.data += 0.1

    for name in [*UNDO][2:]:
        monkeypatch.delitem(undone.UNDO, name)
    broken = [*UNDO][1]
    monkeypatch.setitem(undone.UNDO, broken, break_it)
    table = tmp_path / "rewrites.md"
    code, out, err = run(monkeypatch, capsys, checkpoint, "--markdown", table)
    assert (code, out) == (1, "")
    assert err.startswith(f"rewrites.py: without `{broken}` the output differs by ")
    assert err.count("\n") == 1
    assert not table.exists()
