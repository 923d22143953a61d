"""The gate: what it measures, and what it lets through."""

import math
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from irvis.export import acceptance
from irvis.export.acceptance import compare, judge, measure_error, summarise
from irvis.export.sample_frames import find_pairs, read_frames
from irvis.runtime.errors import ModelError
from irvis.runtime.providers import CPU, CUDA
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL

SIZE = (48, 64)


def test_psnr_of_a_known_error() -> None:
    wanted = np.full(SIZE, 0.5, np.float32)
    found = wanted.copy()
    found[0, 0] += 0.25
    psnr_db, largest = compare(found, wanted)
    assert psnr_db == pytest.approx(-10 * math.log10(0.0625 / (48 * 64)))
    assert largest == 0.25


def test_psnr_of_grey_levels() -> None:
    wanted = np.full((*SIZE, 3), 100, np.uint8)
    assert compare(wanted - np.uint8(1), wanted) == (pytest.approx(48.1308, abs=1e-4), pytest.approx(1 / 255))
    assert compare(wanted + np.uint8(155), wanted)[1] == pytest.approx(155 / 255)  # which no uint8 could tell


def test_no_difference_is_a_number_too() -> None:
    plane = np.zeros(SIZE, np.float32)
    assert compare(plane, plane) == (200.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    found = np.zeros(SIZE, np.float32)
    found[3, 5] = bad
    with pytest.raises(ModelError, match="not finite; nothing was written"):
        compare(found, np.zeros(SIZE, np.float32))
    with pytest.raises(ModelError, match="the ONNX itself returns values that are not finite"):
        compare(np.zeros(SIZE, np.float32), found)


def test_another_shape_is_no_small_error() -> None:
    with pytest.raises(ModelError, match=r"\(48, 64\), the ONNX"):
        compare(np.zeros(SIZE, np.float32), np.zeros((1, *SIZE), np.float32))
    with pytest.raises(ModelError, match=r"the engine returns uint8 \(48, 64\), the ONNX float32"):
        compare(np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.float32))


def test_the_worst_and_the_mean() -> None:
    measured = summarise([(50.0, 0.01), (40.0, 0.002), (60.0, 0.03)])
    assert measured == {"pairs": 3, "max_abs": 0.03, "worst_psnr_db": 40.0, "mean_psnr_db": 50.0}


@pytest.mark.parametrize(
    ("precision", "least_db", "advice"),
    [("fp32", 60, "--force"), ("fp16", 45, "--fp32, or --force"), ("int8", 35, "--fp16, or --force")],
)
def test_the_decision(precision: str, least_db: int, advice: str) -> None:
    good, bad = (summarise([(db, 0.01), (99.0, 0.01)]) for db in (least_db, least_db - 0.1))
    assert judge(good, precision) is True
    assert judge(bad, precision, force=True) is False
    assert judge(None, precision) is None
    wanted = f"{least_db - 0.1:.1f} dB .* must reach {least_db} dB; nothing was written, try {advice} to write"
    with pytest.raises(ModelError, match=wanted):
        judge(bad, precision)


SCENES = [lambda name=name: make_scene(name, *SIZE) for name in ("street", "smoke")]


def measure(frames: bool, scenes: Any = SCENES) -> Any:
    said: List[str] = []
    steps: List[str] = []
    measured = measure_error(Path("x.engine"), SHIPPED_MODEL, frames, scenes, said.append, steps.append)
    assert said == []
    assert steps == [f"{index + 1} of {len(scenes)}" for index in range(len(scenes))]
    return measured


@pytest.mark.parametrize("frames", [True, False])
def test_an_engine_that_is_the_model(noisy_engine: Any, frames: bool) -> None:
    noisy_engine(0.0)
    assert measure(frames) == {"pairs": 2, "max_abs": 0.0, "worst_psnr_db": 200.0, "mean_psnr_db": 200.0}


@pytest.mark.parametrize("frames", [True, False])
def test_the_onnx_runs_on_the_cpu_though_there_is_a_gpu(
    noisy_engine: Any, frames: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CUDA, CPU])
    noisy_engine(0.0)
    measure(frames)
    assert caplog.messages == []  # CUDA, which does not load, was not tried


@pytest.mark.parametrize("frames", [True, False])
@pytest.mark.parametrize(("sigma", "accepted"), [(0.003, True), (0.008, False)])
def test_an_engine_with_a_known_error(noisy_engine: Any, frames: bool, sigma: float, accepted: bool) -> None:
    noisy_engine(sigma)
    measured = measure(frames)
    assert measured["worst_psnr_db"] == pytest.approx(-20 * math.log10(sigma), abs=1.0)
    assert measured["worst_psnr_db"] <= measured["mean_psnr_db"]
    assert judge(measured, "fp16", force=True) is accepted


def test_on_real_pairs(noisy_engine: Any, data: Path) -> None:
    noisy_engine(0.003)
    pairs = find_pairs(data / "TNO" / "test", 2)
    measured = measure(True, [lambda pair=pair: read_frames(pair, SIZE) for pair in pairs])
    assert measured["pairs"] == 2
    assert measured["worst_psnr_db"] == pytest.approx(50.5, abs=1.0)


def test_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance.importlib.util, "find_spec", lambda name: None)
    said: List[str] = []
    assert measure_error(Path("x.engine"), SHIPPED_MODEL, True, SCENES, said.append, said.append) is None
    assert said == ["not measured: onnxruntime is not installed"]


def test_an_onnx_that_onnx_runtime_does_not_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"broken")
    said: List[str] = []
    assert measure_error(Path("x.engine"), broken, False, SCENES, said.append, said.append) is None
    assert said[0].startswith("not measured: ONNX Runtime")


def test_an_engine_that_does_not_open_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    path = tmp_path / "x.engine"
    with pytest.raises(OSError, match="not found"):
        measure_error(path, SHIPPED_MODEL, False, SCENES, lambda _: None, lambda _: None)
