"""The sidecar of an engine: what is written is read, and what is broken is one clear line."""

import dataclasses
import hashlib
import json
import shlex
from pathlib import Path
from typing import Any, Dict

import pytest

from irvis.export.build_engine import make_parser
from irvis.export.build_options import BuildOptions
from irvis.runtime.errors import FileError, IrvisError, ModelError
from irvis.runtime.sidecar import (
    SCHEMA_VERSION,
    Sidecar,
    check_machine,
    read_engine,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)

ENGINE = b"not TensorRT's, but its hash is as good as any"
PLANE = {"shape": [1, 1, 480, 640], "dtype": "float32"}
SIDECAR = Sidecar(
    engine_sha256=hashlib.sha256(ENGINE).hexdigest(),
    onnx_sha256="0" * 64,
    onnx_name="student.onnx",
    tensorrt_version="8.5.2.2",
    gpu_name="Xavier",
    compute_capability="7.2",
    precision="fp16",
    inputs={"infrared": PLANE, "visible": PLANE},
    outputs={"fused": PLANE},
    size=(480, 640),
    build_options={"workspace_mib": 4096, "tactic_sources": ["CUDNN"], "timing_cache": False},
    build_seconds=83.5,
    measured_error={"pairs": 4, "max_abs": 0.0123, "worst_psnr_db": 52.1, "mean_psnr_db": 53.4},
    irvis_version="0.1.0",
)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "student.engine"
    path.write_bytes(ENGINE)
    write_sidecar(path, SIDECAR)
    return path


def edit(engine: Path, **changes: Any) -> None:
    record = json.loads(sidecar_path(engine).read_text())
    record.update(changes)
    sidecar_path(engine).write_text(json.dumps(record))


def assert_one_line(error: IrvisError) -> str:
    message = str(error)
    assert message
    assert "\n" not in message
    return message


FRAMES = dataclasses.replace(
    SIDECAR,
    precision="int8",
    accepted=False,
    inputs={
        "infrared": {"shape": [480, 640], "dtype": "uint8"},
        "visible": {"shape": [480, 640, 3], "dtype": "uint8"},
    },
    outputs={"fused": {"shape": [480, 640, 3], "dtype": "uint8"}},
)


@pytest.mark.parametrize(
    "sidecar",
    [
        SIDECAR,
        dataclasses.replace(SIDECAR, measured_error=None, precision="fp32"),
        dataclasses.replace(SIDECAR, accepted=True),
        dataclasses.replace(SIDECAR, build_seconds=0),
        FRAMES,
    ],
)
def test_round_trip(tmp_path: Path, sidecar: Sidecar) -> None:
    write_sidecar(tmp_path / "a.engine", sidecar)
    assert read_sidecar(tmp_path / "a.engine") == sidecar
    assert [path.name for path in tmp_path.iterdir()] == ["a.engine.json"]


def test_a_number_that_json_has_not_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_sidecar(tmp_path / "a.engine", dataclasses.replace(SIDECAR, measured_error={"max_abs": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_for_people_too(engine: Path) -> None:
    text = sidecar_path(engine).read_text()
    assert text.startswith('{\n  "schema_version": 1,')
    assert text.endswith("}\n")


def test_unknown_fields_are_passed_over(engine: Path) -> None:
    edit(engine, profile="layers.json")
    assert read_sidecar(engine) == SIDECAR


def test_an_onnx_in_place_of_an_engine_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"an ONNX, not an engine; `build_engine\.py '.*my student\.onnx'`") as caught:
        read_sidecar(tmp_path / "my student.onnx")
    assert_one_line(caught.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"sidecar not found: .*student\.engine\.json.*build_engine\.py") as caught:
        read_sidecar(tmp_path / "student.engine")
    assert_one_line(caught.value)


def test_a_folder(tmp_path: Path) -> None:
    sidecar_path(tmp_path / "student.engine").mkdir()
    with pytest.raises(FileError, match="cannot read sidecar"):
        read_sidecar(tmp_path / "student.engine")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"schema_version": 1}x'])
def test_not_json(engine: Path, content: bytes) -> None:
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(ModelError, match="not JSON") as caught:
        read_sidecar(engine)
    assert_one_line(caught.value)


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"student"'])
def test_not_an_object(engine: Path, content: bytes) -> None:
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(ModelError, match="must hold a JSON object"):
        read_sidecar(engine)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Sidecar)])
def test_each_field_is_needed(engine: Path, name: str) -> None:
    record = json.loads(sidecar_path(engine).read_text())
    del record[name]
    sidecar_path(engine).write_text(json.dumps(record))
    with pytest.raises(ModelError, match=f"lacks {name}") as caught:
        read_sidecar(engine)
    assert "build_engine.py" in assert_one_line(caught.value)


ILL_TYPED: Dict[str, Any] = {
    "schema_version": [None, "1", 0, 1.5, True],
    "engine_sha256": [None, 7, "", "0" * 63, "g" * 64],
    "onnx_sha256": ["0" * 65],
    "onnx_name": [None, "", 3],
    "tensorrt_version": [8.5],
    "gpu_name": [["Xavier"]],
    "compute_capability": [7.2],
    "precision": ["half", None, 16, ["fp16"]],
    "inputs": [
        None,
        [],
        {},
        {"infrared": [1, 1, 480, 640]},
        {"infrared": {"shape": [1, 1, -1, 640], "dtype": "float32"}},
        {"infrared": {"shape": [1, 1, 480, 640]}},
    ],
    "outputs": ["fused", {"fused": {"dtype": "float32"}}],
    "size": [None, 480, [480], [480, 640, 3], [480, 0], ["480", "640"], [True, 640]],
    "build_options": [None, []],
    "build_seconds": [None, "83", -1, float("nan"), 10**400],
    "measured_error": [[], 0.1, {"pairs": "four"}, {"max_abs": float("inf")}, {"pairs": -(10**400)}],
    "irvis_version": [None],
    "accepted": ["yes", 1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in ILL_TYPED for value in ILL_TYPED[name]])
def test_each_field_is_checked(engine: Path, name: str, value: Any) -> None:
    edit(engine, **{name: value})
    with pytest.raises(ModelError, match=f"sidecar's {name} must be") as caught:
        read_sidecar(engine)
    assert len(assert_one_line(caught.value)) < 400


def test_a_sidecar_without_end_is_not_read(engine: Path) -> None:
    edit(engine, stray="x" * (1 << 20))
    with pytest.raises(FileError, match=r"cannot read sidecar .* at most 1048576 are accepted"):
        read_sidecar(engine)


def test_what_a_terminal_would_obey_is_escaped(engine: Path) -> None:
    edit(engine, gpu_name="\x1b[2J\nXavier")
    with pytest.raises(ModelError) as caught:
        check_machine(read_sidecar(engine), "8.5.2.2", "Xavier", "7.2")
    assert "on \\x1b[2J\\nXavier (compute" in assert_one_line(caught.value)


def test_every_field_has_a_case() -> None:
    assert set(ILL_TYPED) == {field.name for field in dataclasses.fields(Sidecar)}


def test_a_newer_schema(engine: Path) -> None:
    sidecar_path(engine).write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, "shape": "unheard of"}))
    with pytest.raises(ModelError, match=f"schema {SCHEMA_VERSION + 1}, this irvis knows {SCHEMA_VERSION}.*update"):
        read_sidecar(engine)


def test_the_engine_is_the_one_described(engine: Path) -> None:
    assert read_engine(engine, SIDECAR) == ENGINE


@pytest.mark.parametrize("content", [b"", ENGINE[:-1], ENGINE + b"\0", b"another engine"])
def test_another_engine(engine: Path, content: bytes) -> None:
    engine.write_bytes(content)
    with pytest.raises(ModelError, match="engine is corrupt or was replaced") as caught:
        read_engine(engine, SIDECAR)
    assert_one_line(caught.value)


def test_this_machine() -> None:
    check_machine(SIDECAR, "8.5.2.2", "Xavier", "7.2")


@pytest.mark.parametrize(
    "here",
    [("8.6.1", "Xavier", "7.2"), ("8.5.2.2", "Orin", "8.7"), ("8.5.2.2", "Xavier", "7.0"), ("10.3.0", "Orin", "8.7")],
)
def test_another_machine(here: Any) -> None:
    with pytest.raises(ModelError) as caught:
        check_machine(SIDECAR, *here)
    message = assert_one_line(caught.value)
    assert all(side in message for side in ("8.5.2.2", "Xavier", "7.2", *here))
    assert "build_engine.py student.onnx --fp16 --size 480x640" in message


def test_frames_or_planes() -> None:
    assert FRAMES.takes_frames
    assert not SIDECAR.takes_frames


def test_the_rebuild_command_carries_the_options() -> None:
    options = BuildOptions(
        "int8", None, 512, Path("t.cache"), ("-CUBLAS", "+CUDNN"), False, False, Path("my pairs"), None, Path("p"), True
    )
    sidecar = dataclasses.replace(SIDECAR, build_options={"arguments": options.arguments()})
    command = (
        "build_engine.py student.onnx --int8 --planes --no-pins --workspace 512 --calibrate 'my pairs' --pairs p "
        "--tactic-sources=-CUBLAS,+CUDNN --force --size 480x640"
    )
    assert sidecar.rebuild_command() == command
    with pytest.raises(ModelError, match="--calibrate 'my pairs'"):
        check_machine(sidecar, "8.5.2.2", "Orin", "8.7")
    arguments = make_parser().parse_args(shlex.split(command)[1:])
    assert (arguments.precision, arguments.frames, arguments.pins, arguments.force) == ("int8", False, False, True)
    assert (arguments.calibrate, arguments.pairs, arguments.workspace) == (Path("my pairs"), Path("p"), 512)
    assert (arguments.tactic_sources, arguments.size) == (("-CUBLAS", "+CUDNN"), (480, 640))


def test_the_rebuild_command_of_the_defaults() -> None:
    sidecar = dataclasses.replace(SIDECAR, build_options={"arguments": BuildOptions().arguments()})
    assert sidecar.rebuild_command() == "build_engine.py student.onnx --fp16 --size 480x640"
    assert sidecar.rebuild_command((60, 80)) == "build_engine.py student.onnx --fp16 --size 60x80"


def test_a_warning_where_the_engine_was_not_accepted() -> None:
    assert SIDECAR.warning is None
    assert dataclasses.replace(SIDECAR, accepted=True).warning is None
    forced = dataclasses.replace(SIDECAR, accepted=False, measured_error={"worst_psnr_db": 38.24})
    assert forced.warning == "is 38.2 dB from its ONNX at worst, too inexact for FP16: built with --force"
    assert FRAMES.warning is not None
    assert "too far" in str(dataclasses.replace(forced, measured_error=None).warning)


@pytest.mark.parametrize("words", [None, "--fp32", [1, 2]])
def test_the_rebuild_command_of_broken_options(words: Any) -> None:
    sidecar = dataclasses.replace(SIDECAR, build_options={"arguments": words})
    assert sidecar.rebuild_command() == "build_engine.py student.onnx --fp16 --size 480x640"


def test_an_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="cannot write"):
        write_sidecar(tmp_path / "file" / "student.engine", SIDECAR)
