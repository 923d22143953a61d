import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from irvis.benchmarks import compare
from irvis.benchmarks.compare import DEPLOY, EAGER, PLAIN, largest_difference, ratio, take_turns
from irvis.export.to_onnx import export
from irvis.runtime import cli
from irvis.runtime.frames import join_luminance, split_luminance
from irvis.runtime.samples import make_scene
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
    """Give the exit code, stdout and stderr of ``irvis compare``."""
    code = cli.main(["compare", *map(str, arguments), "--size", "24x40", "--threads", "1"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_each_form_runs_once_a_round_in_a_changing_order():
    ran, ticks = [], []
    runs = {name: lambda name=name: ran.append(name) for name in "abc"}
    latencies = take_turns(runs, 20, lambda: ticks.append(1))
    assert {name: len(values) for name, values in latencies.items()} == dict.fromkeys("abc", 20)
    rounds = [tuple(ran[start : start + 3]) for start in range(0, len(ran), 3)]
    assert len(rounds) == 21  # the first warms up
    assert all(sorted(order) == list("abc") for order in rounds)
    assert len(set(rounds)) == 6  # every order comes
    assert len(ticks) == len(ran)
    again = []
    take_turns({name: lambda name=name: again.append(name) for name in "abc"}, 20)
    assert again == ran  # seeded


def test_times_are_in_milliseconds():
    latencies = take_turns({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, 3)
    assert all(20 <= value < 200 for value in latencies["slow"])
    assert all(value < 20 for value in latencies["fast"])


def test_ratios_are_taken_within_a_round():
    """The machine was ten times as slow in two rounds: the ratio of two medians would be 20, or less than 1."""
    reference, form = [2.0, 20.0, 4.0, 40.0, 3.0], [1.0, 10.0, 2.0, 10.0, 1.0]
    assert ratio(reference, form) == (2.0, 2.0, 3.0)
    assert str(ratio(reference, form)) == "2.00 (2.00 to 3.00)"


def test_frames_are_held_against_the_runtimes_own():
    infrared, visible = make_scene("street", *SIZE)
    fused = infrared.astype(np.float32) / 255
    frame = join_luminance(fused, split_luminance(visible))
    assert largest_difference(frame, fused, visible) == 0
    off = frame.copy()
    off[3, 5, 1] ^= 4
    assert largest_difference(off, fused, visible) == pytest.approx(4 / 255)
    assert largest_difference(fused + np.float32(0.25), fused, visible) == pytest.approx(0.25, abs=1e-6)


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
    assert err == f"irvis compare: {other} takes 16x16 alone, not --size 24x40; make it for that size\n"


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
    report = tmp_path / "report.json"
    options = ["--provider", "CUDAExecutionProvider", "--rounds", "2", "--json", report]
    code, _, err = run(capsys, checkpoint, *options)
    assert (code, err) == (0, "")
    forms = json.loads(report.read_text())["forms"]
    assert forms[EAGER]["backend"].endswith("cuda")
    assert "CUDAExecutionProvider" in forms[DEPLOY]["backend"]
    assert forms[DEPLOY]["max_difference"] <= 1e-2  # the provider rounds to TF32
