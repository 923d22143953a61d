"""That the deploy form is safe in FP16, and that the check which says so can fail."""

import copy
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("skimage")

from irvis.benchmarks.fp16 import Comparison, Outcome, compare, hostile_planes
from irvis.benchmarks.metrics import evaluate_fusion
from irvis.export.to_onnx import export
from irvis.runtime import cli
from irvis.runtime.shipped import SHIPPED_MODEL
from irvis.student.checkpoint import load_student

SIZE = "96x128"


def run(capsys, *arguments):
    code = cli.main(["fp16", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out


@pytest.fixture(scope="module")
def student():
    return load_student(SHIPPED_MODEL.with_suffix(".safetensors"))


@pytest.fixture(scope="module")
def louder(student):
    """The same function in exact arithmetic: attention normalises q and k, here 8 times as large."""
    louder = copy.deepcopy(student)
    for block in [*louder.global_branch, louder.fusion.rstb]:
        block.attention.qkv.weight.data[: 2 * student.config.channels] *= 8
    return louder


def exported(student, path, plain):
    export(student, path, None, plain=plain, pairs=[dict(hostile_planes((64, 64)))["noise"]])
    return path


def test_the_deploy_form_is_safe(capsys, student, samples, tmp_path):
    model = exported(student, tmp_path / "deploy.onnx", plain=False)
    code, out = run(capsys, model, "--size", "48x64", "--pairs", samples, "--limit", 2)
    assert code == 0
    assert out.count("PSNR at least") == 2
    assert "NOT" not in out
    assert "CC +0.0" in out or "CC -0.0" in out


def test_an_onnx_of_one_size_is_tried_on_hostile_pairs_of_it_and_refuses_others(capsys, student, samples, tmp_path):
    pairs = [dict(hostile_planes((48, 64)))["noise"]]
    export(student, tmp_path / "small.onnx", (48, 64), pairs=pairs)
    code, out = run(capsys, tmp_path / "small.onnx")
    assert (code, "hostile, 48x64: 7 pairs" in out) == (0, True)
    assert cli.main(["fp16", str(tmp_path / "small.onnx"), "--pairs", str(samples)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("irvis fp16: glare is ")
    assert "takes only 48x64 (HEIGHTxWIDTH): give one of any size, from `irvis export CHECKPOINT --dynamic`" in line


def test_a_bad_pair_is_told_before_anything_is_measured(capsys, cut_samples):
    assert cli.main(["fp16", "fast", "--pairs", str(cut_samples)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "ir/street.png" in err) == ("", 1, True)


def test_a_metric_that_is_not_finite_is_left_out_of_its_mean_change():
    values = [({"PSNR": np.inf}, {"PSNR": np.inf}), ({"PSNR": 12.0}, {"PSNR": 12.5})]
    assert Outcome([Comparison("a", 60.0, 0.0, None, *each) for each in values]).metric_changes == {"PSNR": 0.5}


def test_two_data_sets_of_one_name_are_both_measured(capsys, samples, tmp_path):
    folders = [shutil.copytree(samples, tmp_path / name / "TNO" / "test") for name in ("one", "other")]
    code, out = run(capsys, "fast", "--size", "48x64", "--pairs", *folders, "--limit", 1)
    assert code == 0
    assert out.count("TNO/test: 1 pairs, PSNR") == 2


def test_q_and_k_eight_times_as_large_break_the_plain_form_alone(capsys, student, louder, samples, tmp_path):
    plane = torch.rand(2, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (louder(*plane) - student(*plane)).abs().max() < 1e-5
    code, out = run(capsys, exported(louder, tmp_path / "plain.onnx", plain=True), "--size", SIZE, "--pairs", samples)
    assert code == 1
    assert out.count("NOT FINITE, first at") == 2
    assert "attention" in out
    code, out = run(capsys, exported(louder, tmp_path / "deploy.onnx", plain=False), "--size", SIZE)
    assert code == 0
    assert "NOT" not in out


def test_hostile_pairs():
    pairs = dict(hostile_planes((20, 30)))
    assert len(pairs) == 7
    assert all(plane.shape == (20, 30) and plane.dtype == np.uint8 for pair in pairs.values() for plane in pair)
    assert {int(plane.sum()) for plane in pairs["one hot pixel"]} == {255, 0}
    assert (sum(plane.astype(int) for plane in pairs["checkerboard on its inverse"]) == 255).all()


def test_a_known_error_has_its_decibels_and_each_precision_its_own_metrics():
    class Off:
        overflow = None

        def __call__(self, infrared, visible):
            return visible + np.float32(0.01)

    full = SimpleNamespace(run=lambda infrared, visible: visible)
    planes = dict(hostile_planes((48, 64)))["noise"]
    found = compare(Off(), full, "noise", planes, True)
    assert (found.psnr_db, found.max_abs) == pytest.approx((40.0, 0.01), abs=1e-4)
    assert found.metrics_fp32 == evaluate_fusion(*planes, planes[1])
    assert found.metrics_fp16 != found.metrics_fp32


def outcome(*psnr_dbs, overflow=None):
    return Outcome([Comparison("pair", db, 0.01, overflow, {"CC": 0.5}, {"CC": 0.501}) for db in psnr_dbs])


def test_what_counts_as_safe():
    assert outcome(50.0, 60.0).safe
    assert not outcome(49.9, 60.0).safe
    assert outcome(49.9, 60.0).to_text().startswith("NOT SAFE: 2 pairs, PSNR at least 49.9 dB")
    assert not outcome(60.0, overflow="Mul_3").safe
    assert outcome(60.0, overflow="Mul_3").to_text() == "1 of 1 pairs NOT FINITE, first at Mul_3"
    assert not outcome(float("nan"), 60.0).safe
    assert outcome(60.0).metric_changes == {"CC": pytest.approx(0.001)}


@pytest.mark.slow
def test_the_shipped_student_on_real_pairs(capsys, data):
    """Every twelfth pair or so of each set; all of them take half an hour: ``irvis fp16 ... --pairs ...``."""
    folders = [data / "TNO/test", data / "RoadScene/test", data / "MSRS/test"]
    code, out = run(capsys, SHIPPED_MODEL, "--pairs", *folders, "--limit", 8)
    assert code == 0
    assert out.count("PSNR at least") == 4
