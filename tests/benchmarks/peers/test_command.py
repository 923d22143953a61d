import argparse
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("thop")

from safetensors.torch import save_file

from irvis.benchmarks.peers import command as peers
from irvis.benchmarks.peers.tables import DEPLOY, STUDENT
from irvis.student.checkpoint import save_student
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


def test_all_are_timed_in_one_run_and_a_failure_does_not_end_it(folder, tmp_path, capsys, samples):
    report, page, plot = (tmp_path / name for name in ("peers.json", "peers.md", "peers.png"))
    options = ["--weights", folder / "weights", "--quality", samples]
    options += ["--json", report, "--markdown", page, "--plot", plot]
    assert peers.main(parse(folder, *options)) == 0
    said = capsys.readouterr()
    left_out = [line for line in said.err.splitlines() if line.startswith("left out: ")]
    assert sum("DATFuse, PyTorch: " in line or "DATFuse, ONNX Runtime: " in line for line in left_out) == 2
    assert "left out: SHIP, whose weights are not at hand (--weights FOLDER)" in left_out
    document = json.loads(report.read_text())
    assert [method["name"] for method in document["methods"]] == [STUDENT, DEPLOY, "MMDRFuseStudent"]
    for method in document["methods"]:
        assert list(method["forms"]) == ["PyTorch", "ONNX Runtime"]
        for runtime, form in method["forms"].items():
            assert len(form["latencies_ms"]) == 2
            assert form["max_difference"] <= (0 if runtime == "PyTorch" else 1e-5)
    first, second, third = (method["quality"] for method in document["methods"])
    assert first == second != third
    assert set(first) == {"CC", "PSNR", "SCD", "SSIM"}
    assert document["quality_of"]["pairs"] == 3
    assert said.out.count("MMDRFuseStudent") == 2
    assert page.read_text().count("| MMDRFuseStudent |") == 2
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text", ["x=y.engine", "student", "student=", "=y"])
def test_an_engine_is_of_a_method_known(folder, capsys, text):
    with pytest.raises(SystemExit):
        parse(folder, "--engine", text)
    assert "--engine" in capsys.readouterr().err


def test_an_engine_is_named_by_its_method(folder):
    assert parse(folder, "--engine", "student, deploy form=a=b.engine", "--engine", "ship=c.engine").engine == [
        (DEPLOY, Path("a=b.engine")),
        ("SHIP", Path("c.engine")),
    ]
