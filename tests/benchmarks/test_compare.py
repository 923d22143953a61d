import json
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from irvis.benchmarks import compare
from irvis.benchmarks.compare import DEPLOY, EAGER, PLAIN
from irvis.export.to_onnx import export
from irvis.runtime import cli
from irvis.student.checkpoint import save_student
from irvis.student.network import Student, StudentConfig

SIZE = (24, 40)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("student") / "small.safetensors"
    save_student(path, Student(StudentConfig(channels=8, heads=2, global_blocks=1, local_blocks=1)))
    return path


@pytest.fixture(autouse=True)
def _tf32_as_it_was():
    tf32 = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = tf32


def run(capsys, *arguments):
    """Return the exit code, stdout and stderr of ``irvis compare``."""
    code = cli.main(["compare", *map(str, arguments), "--size", "24x40", "--threads", "1"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_all_forms_are_timed_and_equal(checkpoint, tmp_path, capsys):
    from irvis.student.checkpoint import load_student

    framed, report = tmp_path / "framed.onnx", tmp_path / "report.json"
    export(load_student(checkpoint), framed, SIZE, frames=True)
    engines = ["--engine", framed, "--engine", "fast"]
    code, out, err = run(capsys, checkpoint, "--rounds", "3", *engines, "--json", report)
    assert (code, err) == (0, "")
    _, title, _, head, *rows = out.splitlines()
    assert title.startswith("small.safetensors, 24x40 (HEIGHTxWIDTH), 1 CPU threads, 3 rounds")
    assert [re.split(r"  +", row)[0] for row in (head, *rows)] == ["form", EAGER, PLAIN, DEPLOY, str(framed), "fast"]
    document = json.loads(report.read_text())
    forms = document["forms"]
    assert list(forms) == [EAGER, PLAIN, DEPLOY, str(framed), "fast"]
    assert all(len(form["latencies_ms"]) == 3 for form in forms.values())
    assert forms[EAGER]["max_difference"] == 0
    assert 0 < forms[DEPLOY]["max_difference"] <= 1e-5
    assert forms[str(framed)]["max_difference"] <= 1.01 / 255  # one grey level
    assert forms[EAGER]["times_as_fast_as"][EAGER]["median"] == 1
    assert forms[PLAIN]["median_ms"] == np.median(forms[PLAIN]["latencies_ms"])
    expected = np.divide(forms[PLAIN]["latencies_ms"], forms[DEPLOY]["latencies_ms"])
    assert forms[DEPLOY]["times_as_fast_as"][PLAIN]["median"] == pytest.approx(np.median(expected))


def test_the_shipped_student_is_the_default(monkeypatch):
    seen = []
    monkeypatch.setattr(compare, "main", lambda arguments: seen.append(arguments) or 0)
    assert cli.main(["compare"]) == 0
    (arguments,) = seen
    assert arguments.checkpoint.is_file()
    assert (arguments.size, arguments.rounds, arguments.threads) == ((480, 640), 30, 2)


def test_a_model_of_another_size_is_refused(checkpoint, tmp_path, capsys):
    from irvis.student.checkpoint import load_student

    other = tmp_path / "other.onnx"
    export(load_student(checkpoint), other, (16, 16))
    code, out, err = run(capsys, checkpoint, "--engine", other)
    assert (code, out) == (1, "")
    assert err == f"irvis compare: {other} takes only 16x16, not --size 24x40; make it for that size\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere.pt"], "checkpoint not found: nowhere.pt"),
        (["--engine", "nowhere.engine"], "model not found: nowhere.engine"),
        (["--provider", "NoProvider"], "ONNX Runtime has no provider ['NoProvider']"),
    ],
)
def test_what_is_missing_is_one_line(arguments, line, checkpoint, capsys):
    if not Path(arguments[0]).suffix:
        arguments = [checkpoint, *arguments]
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err.startswith(f"irvis compare: {line}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--rounds", "--threads"])
@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_counts_are_whole_numbers_from_1(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", f"{option}={value}"])
    assert "must be a whole number, 1 or more" in capsys.readouterr().err


@pytest.mark.gpu
def test_pytorch_runs_on_the_gpu_beside_a_gpu_provider(checkpoint, tmp_path, capsys):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDAExecutionProvider; pip install onnxruntime-gpu")
    report = tmp_path / "report.json"
    options = ["--provider", "CUDAExecutionProvider", "--rounds", "2", "--json", report]
    code, _, err = run(capsys, checkpoint, *options)
    assert (code, err) == (0, "")
    forms = json.loads(report.read_text())["forms"]
    assert forms[EAGER]["backend"].endswith("cuda")
    assert "CUDAExecutionProvider" in forms[DEPLOY]["backend"]
    assert forms[DEPLOY]["max_difference"] <= 1e-2  # the provider rounds to TF32
