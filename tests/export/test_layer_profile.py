"""A profile of an engine's layers: the inspector's JSON of several versions of TensorRT, the times, the plot."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from irvis.export import layer_profile
from irvis.export.layer_profile import (
    LayerTimes,
    describe_profile,
    draw_profile,
    merge,
    parse_inspector,
    read_profile,
    write_profile,
)
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.sidecar import Sidecar

PLANE = {"shape": [1, 1, 480, 640], "dtype": "float32"}
SIDECAR = Sidecar(
    engine_sha256="0" * 64,
    onnx_sha256="0" * 64,
    onnx_name="student.onnx",
    tensorrt_version="8.5.2.2",
    gpu_name="Xavier",
    compute_capability="7.2",
    precision="fp16",
    inputs={"infrared": PLANE, "visible": PLANE},
    outputs={"fused": PLANE},
    size=(480, 640),
    build_options={},
    build_seconds=1.0,
    measured_error=None,
    irvis_version="0.1.0",
)


def tensor(name: str, shape: List[int], form: str) -> Dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": shape, "Format/Datatype": form}


# As TensorRT 8.5 writes it, ProfilingVerbosity.DETAILED; the fields are those of its developer guide.
REFORMAT = {
    "Name": "Reformatting CopyNode for Input Tensor 0 to /encoder1/Conv + /LeakyRelu",
    "LayerType": "Reformat",
    "Inputs": [tensor("planes", [1, 2, 480, 640], "Row major linear FP32")],
    "Outputs": [tensor("copied", [1, 2, 480, 640], "Channel major FP16 format where channel % 8 == 0")],
    "ParameterType": "Reformat",
    "Origin": "REFORMAT",
    "TacticValue": "0x00000000000003ea",
}
CONVOLUTION = {
    "Name": "/encoder1/Conv + /LeakyRelu",
    "LayerType": "CaskConvolution",
    "Inputs": [tensor("copied", [1, 2, 480, 640], "Channel major FP16 format where channel % 8 == 0")],
    "Outputs": [tensor("features", [1, 32, 480, 640], "Channel major FP16 format where channel % 8 == 0")],
    "ParameterType": "Convolution",
    "Kernel": [3, 3],
    "Weights": {"Type": "Half", "Count": 576},
    "Activation": "LEAKY_RELU",
    "TacticName": "volta_h884cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1",
    "TacticValue": "0x1fc9c7b2a1d4d0a3",
}
CONSTANT = {
    "Name": "levels",
    "LayerType": "Constant",
    "Inputs": [],
    "Outputs": [tensor("c", [1], "Row major linear FP32")],
}
INSPECTOR = json.dumps({"Layers": [CONSTANT, REFORMAT, CONVOLUTION], "Bindings": ["infrared", "visible", "fused"]})
RUNS = [
    {REFORMAT["Name"]: reformat_ms, CONVOLUTION["Name"]: convolution_ms}
    for reformat_ms, convolution_ms in ((0.3, 1.0), (0.4, 1.25), (0.8, 1.5))
]


def test_the_layers_of_tensorrt_8_5() -> None:
    constant, reformat, convolution = parse_inspector(INSPECTOR)
    assert (constant["type"], constant["precision"], constant["bytes"]) == ("Constant", "fp32", 4)
    assert (reformat["type"], reformat["precision"]) == ("Reformat", "fp32")
    assert reformat["bytes"] == 2 * 480 * 640 * (4 + 2)
    assert (convolution["name"], convolution["precision"]) == (CONVOLUTION["Name"], "fp16")
    assert convolution["bytes"] == (2 + 32) * 480 * 640 * 2
    assert convolution["tactic"].startswith("volta_h884")
    assert convolution["outputs"][0]["shape"] == [1, 32, 480, 640]


@pytest.mark.parametrize(
    ("form", "precision", "itemsize"),
    [
        ({"Format/Datatype": "Row major linear FP32"}, "fp32", 4),
        ({"Format/Datatype": "Row major linear FP16 format"}, "fp16", 2),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}, "int8", 1),
        ({"Format/Datatype": "Channel major INT8 format where channel % 16 == 0"}, "int8", 1),
        ({"Format/Datatype": "Row major linear UInt8 format"}, "uint8", 1),
        ({"Format/Datatype": "Row major linear Int32"}, "int32", 4),
        ({"Format/Datatype": "Row major linear BOOL"}, "bool", 1),
        ({"Format/Datatype": "Half"}, "fp16", 2),  # TensorRT 10
        ({"Format/Datatype": "Float"}, "fp32", 4),
        ({"Format/Datatype": "BFloat16"}, "bf16", 2),
        ({"DataType": "Half", "Format": "Row major linear FP16 format (kLINEAR)"}, "fp16", 2),  # TensorRT 11
    ],
)
def test_the_formats(form: Dict[str, str], precision: str, itemsize: int) -> None:
    layer = {"Name": "a", "LayerType": "x", "Inputs": [{"Name": "t", "Dimensions": [3, 5], **form}], "Outputs": []}
    (found,) = parse_inspector(json.dumps({"Layers": [layer]}))
    assert (found["precision"], found["bytes"]) == (precision, 15 * itemsize)


def test_an_unknown_format_has_no_bytes() -> None:
    layer = {**CONVOLUTION, "Inputs": [tensor("a", [3], "Unknown format")]}
    (found,) = parse_inspector(json.dumps({"Layers": [layer]}))
    assert (found["precision"], found["bytes"]) == (None, None)


def test_layers_that_keep_no_details() -> None:
    (found,) = parse_inspector('{"Layers": ["/encoder1/Conv\x1e"]}')  # TensorRT 8.6 writes it raw
    assert (found["name"], found["type"], found["precision"], found["bytes"]) == (
        "/encoder1/Conv\x1e",
        "unknown",
        None,
        None,
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"Layers": 3}', '{"Layers": [3]}', '{"Layers": [{}]}'])
def test_what_is_no_inspectors(text: str) -> None:
    with pytest.raises(ModelError, match="engine inspector returned no list of layers"):
        parse_inspector(text)


def test_times_by_name() -> None:
    constant, reformat, convolution = merge(parse_inspector(INSPECTOR), RUNS)
    assert (constant["median_ms"], constant["mean_ms"]) == (None, None)
    assert (reformat["median_ms"], reformat["mean_ms"]) == (0.4, 0.5)
    assert (convolution["median_ms"], convolution["mean_ms"]) == (1.25, 1.25)


def test_no_time_is_lost_or_told_twice() -> None:
    layers = parse_inspector(json.dumps({"Layers": [CONVOLUTION, CONVOLUTION]}))
    merged = merge(layers, [{**RUNS[0], "unheard of": 2.0}])
    assert [(layer["name"], layer["median_ms"]) for layer in merged] == [
        (CONVOLUTION["Name"], 1.0),
        (CONVOLUTION["Name"], None),
        (REFORMAT["Name"], 0.3),
        ("unheard of", 2.0),
    ]


def document() -> Dict[str, Any]:
    return describe_profile(LayerTimes(INSPECTOR, RUNS), "student.engine", SIDECAR)


def test_the_totals() -> None:
    found = document()
    assert (found["runs"], found["size"], found["precision"], found["gpu_name"]) == (3, [480, 640], "fp16", "Xavier")
    assert found["median_ms"] == 1.65
    assert found["reformats"] == {"count": 1, "median_ms": 0.4, "bytes": 2 * 480 * 640 * 6}
    assert found["bytes"] == 2 * 480 * 640 * 6 + 34 * 480 * 640 * 2 + 4


def test_written_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "student.profile.json"
    assert write_profile(document(), path) == [
        f"wrote {path}: 3 layers, 1.65 ms, of which 1 reformats 0.40 ms",
        f"wrote {tmp_path / 'student.profile.png'}",
    ]
    assert read_profile(path) == document()
    assert (tmp_path / "student.profile.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_plot_tells_precisions_apart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    cv2 = pytest.importorskip("cv2")
    draw_profile(document(), tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    for red, green, blue in ((0xD6, 0x27, 0x28), (0x1F, 0x77, 0xB4)):  # FP32 and FP16
        assert (picture == (blue, green, red)).all(axis=2).sum() > 1000


def test_forty_layers_and_long_names_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    name = "PWN(" + "/global_branch/global_branch.0\x1e" * 20 + "$dollar_ ümlaut)"
    layers = [{"name": f"{index} {name}", "precision": "int8", "median_ms": float(index)} for index in range(40)]
    draw_profile({**document(), "layers": layers}, tmp_path / "a.png")
    draw_profile({**document(), "layers": []}, tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > (tmp_path / "b.png").stat().st_size


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "student.profile.json"
    lines = write_profile(document(), path)
    assert lines[1] == (
        f"no plot: matplotlib is not installed; once it is, run `python -m irvis.export.layer_profile {path}`"
    )
    assert read_profile(path) == document()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert layer_profile.main([str(path)]) == 1
    assert "matplotlib is not installed: pip install" in capsys.readouterr().err


def test_the_command_draws_it_later(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "student.profile.json").write_text(json.dumps(document()))
    command = [sys.executable, "-m", "irvis.export.layer_profile", "student.profile.json"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "wrote student.profile.png\n")
    assert (tmp_path / "student.profile.png").stat().st_size > 1000


WHOLE: Dict[str, Any] = {
    "engine": "student.engine",
    "tensorrt_version": "8.5.2.2",
    "gpu_name": "Xavier",
    "precision": "fp16",
    "size": [480, 640],
    "median_ms": 3.5,
    "layers": [{"name": "conv", "precision": None, "median_ms": 3.5}],
}
ILL_TYPED = [
    {"engine": {}},
    {"size": [480, "640"]},
    {"size": [480]},
    {"median_ms": float("nan")},
    {"median_ms": True},
    {"layers": {"name": 1}},
    {"layers": [{"name": {}, "precision": None, "median_ms": 1}]},
    {"layers": [{"name": "conv", "precision": 16, "median_ms": 1}]},
    {"layers": [{"name": "conv", "precision": None, "median_ms": "1"}]},
    {"layers": [{"name": "conv", "precision": None, "median_ms": 10**400}]},
]


def test_a_whole_profile_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(WHOLE))
    assert read_profile(tmp_path / "a.json") == WHOLE


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", "{}", '{"layers": []}', '{"layers": [1]}', *(json.dumps({**WHOLE, **bad}) for bad in ILL_TYPED)],
)
def test_a_file_that_is_no_profile(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(FileError, match="not a profile of an engine's layers"):
        read_profile(path)


@pytest.mark.parametrize("profile", ["", "/"])  # as from a shell variable that is not set
def test_a_profile_without_a_name(profile: str, capsys: pytest.CaptureFixture) -> None:
    assert layer_profile.main([profile]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_profile(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert layer_profile.main([str(tmp_path / "no.json")]) == 1
    assert capsys.readouterr().err == f"{layer_profile.PROGRAM}: profile not found: {tmp_path / 'no.json'}\n"


def test_the_picture_does_not_take_the_profiles_place(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.png").write_text(json.dumps(WHOLE))
    assert layer_profile.main([str(tmp_path / "a.png")]) == 1
    assert "a.png would overwrite an input; give another name" in capsys.readouterr().err
    assert read_profile(tmp_path / "a.png") == WHOLE


def test_the_sidecars_precision_is_the_documents() -> None:
    sidecar = dataclasses.replace(SIDECAR, precision="int8")
    assert describe_profile(LayerTimes(INSPECTOR, RUNS), "a.engine", sidecar)["precision"] == "int8"
