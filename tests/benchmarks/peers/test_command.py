import argparse
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("thop")

from safetensors.torch import save_file

from irvis.benchmarks.complexity import count
from irvis.benchmarks.peers import command as peers
from irvis.benchmarks.peers.tables import DEPLOY, STUDENT
from irvis.benchmarks.turns import time_forms
from irvis.runtime.errors import IrvisError
from irvis.runtime.shipped import find_model
from irvis.student.checkpoint import load_student, save_student
from irvis.student.network import Student, StudentConfig
from irvis.student.teachers.published import network_class


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small student, and weights of two published networks, one of which is another's."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("peers")
    save_student(folder / "small.safetensors", Student(StudentConfig(8, 2, 1, 1)))
    (folder / "weights").mkdir()
    state = network_class("MMDRFuseStudent")().state_dict()
    for name in ("MMDRFuse_student", "datfuse"):
        save_file(state, folder / "weights" / f"{name}.safetensors")
    (folder / "weights" / "notes.txt").touch()
    return folder


def parse(folder, *options):
    parser = argparse.ArgumentParser()
    peers.add_arguments(parser)
    common = [str(folder / "small.safetensors"), "--size", "24x40", "--threads", "1", "--rounds", "2"]
    return parser.parse_args([*common, *map(str, options)])


def test_all_are_timed_in_one_run_and_a_failure_does_not_end_it(folder, tmp_path, capsys, samples, monkeypatch):
    timed = {}
    monkeypatch.setattr(peers, "time_forms", lambda *given: timed.update(time_forms(*given)) or timed)
    report, page, plot = (tmp_path / name for name in ("peers.json", "peers.md", "peers.png"))
    options = ["--weights", folder / "weights", "--quality", samples]
    options += ["--json", report, "--markdown", page, "--plot", plot]
    assert peers.main(parse(folder, *options)) == 0
    said = capsys.readouterr()
    left_out = [line for line in said.err.splitlines() if line.startswith("left out: ")]
    assert sum("DATFuse, PyTorch: " in line or "DATFuse, ONNX Runtime: " in line for line in left_out) == 2
    assert "left out: SHIP, whose weights were not found (--weights FOLDER)" in left_out
    document = json.loads(report.read_text())
    assert [method["name"] for method in document["methods"]] == [STUDENT, DEPLOY, "MMDRFuseStudent"]
    for method in document["methods"]:
        assert list(method["forms"]) == ["PyTorch", "ONNX Runtime"]
        for runtime, form in method["forms"].items():
            assert form["latencies_ms"] == timed[f"{method['name']}\n{runtime}"]
            assert len(form["latencies_ms"]) == 2
            assert form["max_difference"] <= (0 if runtime == "PyTorch" else 1e-5)
    cost = count(STUDENT, load_student(folder / "small.safetensors"), (24, 40))
    assert [document["methods"][0][name] for name in ("macs", "thop_macs")] == [cost.macs, cost.thop_macs]
    assert document["methods"][1]["macs"] != cost.macs
    first, second, third = (method["quality"] for method in document["methods"])
    assert first == second != third
    assert set(first) == {"CC", "PSNR", "SCD", "SSIM"}
    assert document["quality_of"]["pairs"] == 3
    assert said.out.count("MMDRFuseStudent") == 2
    assert page.read_text().count("| MMDRFuseStudent |") == 2
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_gpu_without_memory_leaves_a_method_out(folder, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(peers, "open_form", fail)
    with pytest.raises(IrvisError, match="nothing is left to time"):
        peers.main(parse(folder, "--runtime", "onnxruntime"))
    assert "left out: student, ONNX Runtime: CUDA out of memory. Tried to allocate 2 GiB" in capsys.readouterr().err


def test_further_students_are_timed_and_measured_by_their_files_names(folder, tmp_path, samples):
    torch.manual_seed(1)
    other, report = tmp_path / "other.safetensors", tmp_path / "peers.json"
    save_student(other, Student(StudentConfig(8, 2, 1, 0, global_stride=2)))
    options = ["--student", other, "--runtime", "onnxruntime", "--quality", samples, "--json", report]
    assert peers.main(parse(folder, *options)) == 0
    methods = {method["name"]: method for method in json.loads(report.read_text())["methods"]}
    assert list(methods) == [STUDENT, DEPLOY, "other", "other, deploy form"]
    assert methods["other"]["quality"] == methods["other, deploy form"]["quality"] != methods[STUDENT]["quality"]
    assert methods["other"]["parameters"] < methods[STUDENT]["parameters"]
    shipped = parse(folder, "--student", "fast").student
    assert shipped == [find_model("fast", ".safetensors")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "x=y.engine"], r"--engine x=y\.engine is of no network compared here: student, SHIP, PFC"),
        (["--engine", "ship=x.engine", "--engine", "SHIP=y.engine"], "--engine SHIP is given 2 times; time one"),
        (["--engine", "fast, deploy form=y.engine"], "is of no network compared here: student, "),
        (["--student", "SHIP.safetensors"], "the name SHIP is already taken; rename"),
        (["--student", "student"], "the name student is already taken; rename the file"),
    ],
)
def test_names_must_tell_methods_apart(folder, options, said):
    with pytest.raises(IrvisError, match=said):
        peers.main(parse(folder, *options))


@pytest.mark.parametrize("text", ["student", "student=", "=y", "SHIP="])
def test_an_engine_has_a_name_and_a_file(folder, capsys, text):
    with pytest.raises(SystemExit):
        parse(folder, "--engine", text)
    assert "--engine" in capsys.readouterr().err


def test_a_plot_without_quality_is_refused_before_anything_is_timed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "measure", lambda arguments: pytest.fail("it was timed"))
    with pytest.raises(IrvisError, match="add --quality, a data set or the CSV of irvis evaluate"):
        peers.main(parse(folder, "--plot", tmp_path / "peers.png"))


def test_a_bad_pair_is_told_before_anything_is_timed(folder, cut_samples, monkeypatch):
    monkeypatch.setattr(peers, "time_forms", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(IrvisError, match=r"ir/street\.png"):
        peers.measure(parse(folder, "--quality", cut_samples))


def test_an_engine_is_named_by_its_method(folder):
    assert parse(folder, "--engine", "student, deploy form=a=b.engine", "--engine", "ship=c.engine").engine == [
        (DEPLOY, Path("a=b.engine")),
        ("SHIP", Path("c.engine")),
    ]
