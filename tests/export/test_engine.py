"""``build_engine``: what it writes and when it writes nothing. Then, marked ``gpu``, the real thing.

Without a GPU the builder and the engine are stand-ins: the first gives bytes, the second the model with a known error.
So this checks the gate, the files and what is said, and nothing of TensorRT.
"""

import hashlib
import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import pytest

from irvis.export import acceptance
from irvis.export import engine as engine_module
from irvis.export.build_engine import make_parser
from irvis.export.build_options import BuildOptions
from irvis.export.engine import build_engine
from irvis.export.layer_profile import LayerTimes, read_profile
from irvis.export.trt_build import Build, CannotBuild
from irvis.runtime.errors import IrvisError, ModelError
from irvis.runtime.shipped import NAMES, SHIPPED_MODEL, find_model
from irvis.runtime.sidecar import read_sidecar, sidecar_path

SIZE = (48, 64)
CONTENT = b"what TensorRT built"


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, noisy_engine: Any) -> Callable[[float], None]:
    """A function that replaces TensorRT by an engine with an error of this standard deviation, in grey levels."""

    def replace(sigma: float) -> None:
        def build(trt: Any, source: Any, options: BuildOptions, progress: Any) -> Build:
            progress("halfway")
            arguments = {"arguments": options.arguments(), "calibration_pairs": len(source.calibration_pairs)}
            return Build(CONTENT, options.precision, SIZE, "Xavier", "7.2", arguments, ["warning: a stand-in"])

        def open_engine(path: Path, frames: bool) -> Any:
            assert read_sidecar(path).engine_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            assert frames
            return noisy(path, frames)

        noisy_engine(sigma / 255)
        noisy = acceptance._open_engine
        monkeypatch.setattr(engine_module, "import_tensorrt", lambda: SimpleNamespace(__version__="8.5.2.2"))
        monkeypatch.setattr(engine_module, "import_pycuda", lambda: None)
        monkeypatch.setattr(engine_module, "build_on_gpu", build)
        monkeypatch.setattr(engine_module, "inspect_layers", lambda _: told_of(7))
        monkeypatch.setattr(acceptance, "_open_engine", open_engine)

    return replace


def told_of(count: int) -> str:
    """What TensorRT's inspector tells of an engine with this many layers in INT8, and a conversion from it."""

    def layer(kind: str, form: str) -> Dict[str, Any]:
        tensor = {"Name": "a", "Dimensions": [1, 32, 48, 64], "Format/Datatype": form}
        return {"Name": kind, "LayerType": kind, "Inputs": [tensor], "Outputs": [tensor]}

    int8, half = "Thirty-two wide channel vectorized row major Int8 format.", "Row major linear FP16 format"
    convolutions = [layer("CaskConvolution", form) for form in (*[int8] * count, half)]
    return json.dumps({"Layers": [layer("Reformat", int8), *convolutions]})


def files(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_rebuilds_the_engine_of_a_shipped_student_finds_it(
    stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stand_ins(0.5)
    monkeypatch.chdir(tmp_path)
    sidecar = build_engine(find_model(name), tmp_path / "a.engine", BuildOptions(force=True), lambda _: None)
    program, *words = shlex.split(sidecar.rebuild_command())
    assert program == "build_engine.py"
    assert find_model(make_parser().parse_args(words).onnx) == find_model(name)
    own = Path("mine.onnx")
    own.write_bytes(find_model(name).read_bytes())
    sidecar = build_engine(own, tmp_path / "b.engine", BuildOptions(force=True), lambda _: None)
    assert sidecar.rebuild_command().startswith("build_engine.py mine.onnx ")


def test_a_good_engine_is_written_with_what_was_measured(stand_ins: Any, tmp_path: Path) -> None:
    stand_ins(0.5)
    said: List[str] = []
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(), said.append)
    assert files(tmp_path) == ["a.engine", "a.engine.json"]
    assert (tmp_path / "a.engine").read_bytes() == CONTENT
    assert read_sidecar(tmp_path / "a.engine") == sidecar
    assert said == ["warning: a stand-in"]
    assert sidecar.takes_frames
    assert sidecar.accepted is True
    assert sidecar.onnx_sha256 == hashlib.sha256(SHIPPED_MODEL.read_bytes()).hexdigest()
    assert sidecar.measured_error is not None
    assert sidecar.measured_error["pairs"] == 3
    assert 48 < sidecar.measured_error["worst_psnr_db"] <= sidecar.measured_error["mean_psnr_db"] < 54


@pytest.fixture
def no_frames(stand_ins: Any, monkeypatch: pytest.MonkeyPatch, noisy_engine: Any) -> None:
    """A TensorRT that builds no engine of frames, as 8.5.2.2 did not while the size was fixed after parsing."""
    stand_ins(0.0)
    build = engine_module.build_on_gpu

    def build_planes(trt: Any, source: Any, options: BuildOptions, progress: Any) -> Build:
        if options.frames:
            raise CannotBuild("TensorRT 8.5.2.2 cannot build student.onnx: Assertion failed; --verbose shows more")
        return build(trt, source, options, progress)

    noisy_engine(0.001)
    monkeypatch.setattr(engine_module, "build_on_gpu", build_planes)


@pytest.mark.usefixtures("no_frames")
def test_planes_where_tensorrt_cannot_build_frames(tmp_path: Path) -> None:
    said: List[str] = []
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(), said.append)
    assert not sidecar.takes_frames
    assert sidecar.accepted is True
    assert "--planes" in sidecar.rebuild_command()
    warning = next(line for line in said if "frames" in line)
    assert warning.startswith("warning: no engine of frames: TensorRT 8.5.2.2 cannot build student.onnx: Assertion")
    assert warning.endswith(". Building an engine of planes instead")


@pytest.mark.usefixtures("no_frames")
def test_frames_that_were_asked_for_are_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(CannotBuild, match="cannot build student"):
        build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(frames=True), lambda _: None)
    assert files(tmp_path) == []


def test_a_bad_engine_leaves_the_older_one(stand_ins: Any, tmp_path: Path) -> None:
    stand_ins(0.5)
    build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(), lambda _: None)
    before = sidecar_path(tmp_path / "a.engine").read_text()
    stand_ins(4.0)
    with pytest.raises(ModelError, match=r"3\d\.\d dB .* FP16 must reach 45 dB; nothing was written, try --fp32, or"):
        build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(), lambda _: None)
    assert sidecar_path(tmp_path / "a.engine").read_text() == before
    assert files(tmp_path) == ["a.engine", "a.engine.json"]


def test_a_bad_engine_by_force(stand_ins: Any, tmp_path: Path) -> None:
    stand_ins(4.0)
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(force=True), lambda _: None)
    assert sidecar.accepted is False
    assert json.loads(sidecar_path(tmp_path / "a.engine").read_text())["accepted"] is False


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (12, "12 layers run in INT8"),
        (
            0,
            "warning: no layer runs in INT8: with the conversions that it needs, TensorRT found it no faster here",
        ),
        (None, "warning: the number of layers that run in INT8 is unknown: it tells nothing"),
    ],
)
def test_it_is_said_how_much_of_an_int8_engine_is_int8(
    stand_ins: Any, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Any, said: str
) -> None:
    def inspect(engine: Path) -> str:
        if count is None:
            raise ModelError("it tells nothing")
        return told_of(count)

    stand_ins(0.5)
    monkeypatch.setattr(engine_module, "inspect_layers", inspect)
    lines: List[str] = []
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions("int8", calibrate=samples), lines.append)
    assert said in lines
    assert sidecar.build_options["int8_layers"] == count
    assert read_sidecar(tmp_path / "a.engine") == sidecar
    lines.clear()
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "b.engine", BuildOptions(), lines.append)
    assert "int8_layers" not in sidecar.build_options
    assert not any("INT8" in line for line in lines)


def test_int8_may_differ_more(stand_ins: Any, samples: Path, tmp_path: Path) -> None:
    stand_ins(4.0)
    options = BuildOptions("int8", calibrate=samples)
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "a.engine", options, lambda _: None)
    assert (sidecar.precision, sidecar.accepted) == ("int8", True)
    assert sidecar.build_options["calibration_pairs"] == 3
    assert f"--int8 --calibrate {samples}" in sidecar.rebuild_command()


def test_int8_without_pairs(stand_ins: Any, tmp_path: Path) -> None:
    stand_ins(0.0)
    with pytest.raises(ModelError, match="give --calibrate FOLDER"):
        build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions("int8"), lambda _: None)
    assert files(tmp_path) == []


def test_measured_on_the_pairs_that_are_given(stand_ins: Any, data: Path, tmp_path: Path) -> None:
    stand_ins(0.5)
    options = BuildOptions(pairs=data / "TNO" / "test")
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "a.engine", options, lambda _: None)
    assert sidecar.measured_error is not None
    assert sidecar.measured_error["pairs"] == 25


def test_without_onnx_runtime_it_is_written_and_said(
    stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins(4.0)
    monkeypatch.setattr(acceptance.importlib.util, "find_spec", lambda name: None)
    said: List[str] = []
    sidecar = build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(), said.append)
    assert (sidecar.measured_error, sidecar.accepted) == (None, None)
    assert "not measured: onnxruntime is not installed" in said


def test_a_pair_that_cannot_be_read_writes_nothing(stand_ins: Any, samples: Path, tmp_path: Path) -> None:
    stand_ins(0.0)
    pairs = tmp_path / "pairs"
    for half in ("ir", "vi"):
        (pairs / half).mkdir(parents=True)
        (pairs / half / "a.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    with pytest.raises(IrvisError, match="not an image"):
        build_engine(SHIPPED_MODEL, out / "a.engine", BuildOptions(pairs=pairs), lambda _: None)
    assert not out.exists()


def test_a_profile_that_fails_costs_no_engine(stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins(0.0)

    def fail(engine: Path) -> Any:
        raise ModelError("TensorRT reports nothing about the layers")

    monkeypatch.setattr(engine_module, "profile_layers", fail)
    said: List[str] = []
    options = BuildOptions(profile=tmp_path / "a.profile.json")
    build_engine(SHIPPED_MODEL, tmp_path / "a.engine", options, said.append)
    assert said[-1] == "warning: no profile of the layers: TensorRT reports nothing about the layers"
    assert files(tmp_path) == ["a.engine", "a.engine.json"]


def test_a_profile_is_of_the_engine_that_was_named(
    stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins(0.0)
    found = LayerTimes('{"Layers": ["conv"]}', [{"conv": 1.5}])
    monkeypatch.setattr(engine_module, "profile_layers", lambda engine: found)
    options = BuildOptions(profile=tmp_path / "a.profile.json")
    build_engine(SHIPPED_MODEL, tmp_path / "a.engine", options, lambda _: None)
    document = read_profile(tmp_path / "a.profile.json")
    assert (document["engine"], document["median_ms"], document["size"]) == ("a.engine", 1.5, list(SIZE))


def test_the_clock_tells_what_is_at_work(stand_ins: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    stand_ins(0.0)
    build_engine(SHIPPED_MODEL, tmp_path / "a.engine", BuildOptions(), lambda _: None)
    err = capsys.readouterr().err
    assert "building a.engine with TensorRT 8.5.2.2, FP16" in err
    assert "measuring it against the ONNX in FP32 on 3 generated pairs" in err


# What follows needs a GPU.

# Not these, so that the tests need neither cuBLAS nor cuDNN, each larger than all the rest.
SOURCES = ("-CUBLAS", "-CUBLAS_LT", "-CUDNN")


def build(path: Path, timings: Path, onnx: Path = SHIPPED_MODEL, **options: Any) -> Any:
    said: List[str] = []
    given = {"size": SIZE, "workspace_mib": 512, "timing_cache": timings, "tactic_sources": SOURCES, **options}
    return build_engine(onnx, path, BuildOptions(**given), said.append), said


@pytest.mark.gpu
@pytest.mark.parametrize("frames", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_engines_are_near_their_onnx(gpu: Path, tmp_path: Path, precision: str, frames: bool) -> None:
    sidecar, _ = build(tmp_path / "a.engine", gpu, precision=precision, frames=frames)
    assert (sidecar.precision, sidecar.takes_frames, sidecar.accepted) == (precision, frames, True)
    assert sidecar.measured_error["worst_psnr_db"] >= acceptance.LEAST_PSNR_DB[precision]
    if precision == "fp16":
        assert sidecar.build_options["fp32_pins"] > 20
        assert sidecar.build_options["held_layers"] > 100
        assert sidecar.build_options["precision_constraints"] in ("obey", "prefer")
    else:
        assert sidecar.build_options["fp32_pins"] == 0
        assert sidecar.build_options["precision_constraints"] is None


@pytest.mark.gpu
def test_fp16_without_pins(gpu: Path, tmp_path: Path) -> None:
    sidecar, _ = build(tmp_path / "a.engine", gpu, pins=False, frames=False, force=True)
    assert sidecar.build_options["fp32_pins"] == 0
    assert sidecar.build_options["held_layers"] > 100


@pytest.mark.gpu
@pytest.mark.parametrize("frames", [True, False])
def test_int8_calibrates_once(gpu: Path, small_onnx: Path, tmp_path: Path, samples: Path, frames: bool) -> None:
    given = {"precision": "int8", "calibrate": samples, "frames": frames, "force": True}
    sidecar, said = build(tmp_path / "a.engine", gpu, small_onnx, **given)
    assert (sidecar.precision, sidecar.build_options["calibration_pairs"]) == ("int8", 3)
    assert sidecar.build_options["int8_layers"] >= 0
    ranges = tmp_path / "a.engine.calibration"
    assert ranges.read_bytes().startswith(b"irvis calibration ")
    assert not [line for line in said if "calibrated" in line]
    kept = ranges.read_bytes()
    _, said = build(tmp_path / "a.engine", gpu, small_onnx, **given)
    assert [line for line in said if line.startswith("calibrated with the ranges of")]
    assert ranges.read_bytes() == kept
    _, said = build(tmp_path / "a.engine", gpu, small_onnx, **{**given, "size": (64, 64)})
    assert [line for line in said if line.startswith("calibrated anew")]
    assert ranges.read_bytes() != kept


@pytest.mark.gpu
def test_each_layer_has_a_time_and_a_precision(gpu: Path, tmp_path: Path) -> None:
    profile = tmp_path / "a.profile.json"
    sidecar, said = build(tmp_path / "a.engine", gpu, profile=profile)
    assert [line for line in said if line.startswith(f"wrote {profile}")]
    document = read_profile(profile)
    timed = [layer for layer in document["layers"] if layer["median_ms"] is not None]
    assert document["runs"] == 100
    assert timed
    assert document["median_ms"] > 0
    assert sum(layer["precision"] is not None for layer in timed) > len(timed) / 2
    assert "fp16" in {layer["precision"] for layer in timed}
    assert sidecar.build_options["layer_details"] is True
