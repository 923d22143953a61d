"""The accuracy of an ONNX held against itself, and against a network that is off by a known amount."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from irvis.benchmarks.gpu_check import accuracy
from irvis.benchmarks.gpu_check.engines import EngineSpec, engine_path
from irvis.runtime.fuser import Fuser
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL, find_model

SIZE = (48, 64)


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the part on two pairs, both shipped ONNX in the place of engines; give the folder of the results."""
    for kind in ("ir", "vi"):
        (tmp_path / "data/TNO/test" / kind).mkdir(parents=True)
    for index, name in enumerate(("street", "smoke")):
        infrared, visible = make_scene(name, *SIZE)
        cv2.imwrite(str(tmp_path / f"data/TNO/test/ir/{index}.png"), infrared)
        cv2.imwrite(str(tmp_path / f"data/TNO/test/vi/{index}.png"), visible)
    out = tmp_path / "out"
    monkeypatch.setattr(accuracy, "DATA_SETS", ("TNO/test",))
    monkeypatch.setattr(accuracy, "DEFAULT_SIZE", SIZE)
    engines = {"same planes": "student", "fast planes": "fast"}
    specs = [EngineSpec(name, student, (), SIZE) for name, student in engines.items()]
    monkeypatch.setattr(accuracy, "built", lambda _: specs)
    monkeypatch.setattr(accuracy, "engine_path", lambda _, name: find_model(engines[name]))
    out.mkdir()
    accuracy.measure_accuracy(out, tmp_path / "data")
    return out


def test_each_student_is_as_good_as_itself(checked: Path) -> None:
    found = json.loads((checked / "accuracy.json").read_text())["found"]
    same = {"pairs": 2, "max_abs": 0.0, "worst_psnr_db": 200.0, "mean_psnr_db": 200.0}
    assert found == {"TNO/test: same planes": same, "TNO/test: fast planes": same}


def test_the_fused_planes_are_those_of_the_fuser(checked: Path) -> None:
    planes = np.load(checked / "fused/TNO_test.same_planes.npy")
    inputs = [np.load(checked / f"fused/TNO_test.{name}.npy") for name in ("infrared", "visible")]
    with Fuser(SHIPPED_MODEL) as fuser:
        for plane, infrared, visible in zip(planes, *inputs):
            np.testing.assert_array_equal(plane, fuser(infrared, visible))


def test_quality_is_that_of_evaluate(checked: Path) -> None:
    metrics = pytest.importorskip("irvis.benchmarks.metrics", reason="scikit-image is not installed")
    accuracy.measure_quality(checked)
    found = json.loads((checked / "quality.json").read_text())["found"]
    names = ("infrared", "visible", "same_planes")
    stacks = [np.load(checked / f"fused/TNO_test.{name}.npy") for name in names]
    rows = [metrics.evaluate_fusion(*planes) for planes in zip(*stacks)]
    for metric in ("CC", "PSNR", "SCD", "SSIM"):
        wanted = np.mean([row[metric] for row in rows])
        assert found["TNO/test: same planes"][metric] == pytest.approx(wanted, abs=1e-6)
    assert found["TNO/test: same planes"] == found["TNO/test: student ONNX FP32"]


def test_engines_have_files_of_their_own(tmp_path: Path) -> None:
    from irvis.benchmarks.gpu_check.engines import ENGINES

    assert len({engine_path(tmp_path, spec.name) for spec in ENGINES}) == len(ENGINES)
