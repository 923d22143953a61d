"""``build_engine.py``: its errors, its options, and that all it asks of TensorRT is there in the TensorRT at hand."""

import argparse
import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from irvis.export import (
    build_engine,
    calibration,
    frames_layers,
    onnx_wire,
    pins,
    spinner,
    trt_build,
    trt_config,
    trt_network,
    trt_profile,
    trt_versions,
)
from irvis.runtime import backend_tensorrt, engine_tensors, tensorrt_messages
from irvis.runtime.shipped import SHIPPED_MODEL

SCRIPT = Path(build_engine.__file__)


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "student.onnx"
    path.write_bytes(SHIPPED_MODEL.read_bytes())
    return path


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # Python's own way of saying that an import fails


def failure(capsys: pytest.CaptureFixture, *argv: object) -> str:
    """Run the command, which must exit with 1 and one line on stderr; return that line."""
    assert build_engine.main([str(argument) for argument in argv]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("build_engine.py: ")
    assert err.count("\n") == 1
    return err


def test_missing_onnx(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert "ONNX not found" in failure(capsys, tmp_path / "no.onnx")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\x08\x07"])
def test_not_an_onnx(capsys: pytest.CaptureFixture, onnx: Path, content: bytes) -> None:
    onnx.write_bytes(content)
    assert "not an ONNX, or a corrupt one" in failure(capsys, onnx)


def test_onnx_cut_off(capsys: pytest.CaptureFixture, onnx: Path) -> None:
    onnx.write_bytes(onnx.read_bytes()[:-100])
    assert "not an ONNX, or a corrupt one" in failure(capsys, onnx)


def test_a_folder_as_onnx(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert "cannot read ONNX" in failure(capsys, tmp_path)


@pytest.mark.parametrize("name", ["", "/"])  # as from a shell variable that is not set
def test_names_that_are_empty(capsys: pytest.CaptureFixture, onnx: Path, name: str) -> None:
    assert failure(capsys, name) == f"build_engine.py: cannot read ONNX {Path(name)}: Is a directory\n"
    wanted = f"build_engine.py: cannot write {Path(name)}: it is a folder\n"
    assert failure(capsys, onnx, "-o", name) == wanted
    assert failure(capsys, onnx, "-o", name, "--profile") == wanted


def test_unwritable_output(capsys: pytest.CaptureFixture, onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for output in (tmp_path / "file" / "a.engine", tmp_path / "file" / "deeper" / "a.engine", tmp_path):
        assert "cannot write" in failure(capsys, onnx, "-o", output)
    assert "cannot write" in failure(capsys, onnx, "--timing-cache", tmp_path / "file" / "cache")


def test_output_over_the_onnx(capsys: pytest.CaptureFixture, onnx: Path) -> None:
    before = onnx.read_bytes()
    assert "would overwrite an input" in failure(capsys, onnx, "-o", onnx)
    assert onnx.read_bytes() == before


def test_no_output_in_the_place_of_another(capsys: pytest.CaptureFixture, onnx: Path) -> None:
    for option in ("--timing-cache", "--profile"):
        place = onnx.with_name("student.engine.json")
        assert f"two outputs would go to {place}" in failure(capsys, onnx, option, place)


@pytest.mark.usefixtures("no_tensorrt")
def test_without_tensorrt(capsys: pytest.CaptureFixture, onnx: Path, tmp_path: Path) -> None:
    assert "sudo apt install python3-libnvinfer" in failure(capsys, onnx, "-o", tmp_path / "new" / "a.engine")
    assert [path.name for path in tmp_path.iterdir()] == ["student.onnx"]


@pytest.mark.usefixtures("no_tensorrt")
def test_the_shipped_student_is_the_default(capsys: pytest.CaptureFixture) -> None:
    assert "python3-libnvinfer" in failure(capsys)


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], ("student.onnx", "student.engine")),
        (["fast"], ("fast.onnx", "fast.engine")),
        (["fast", "-o", "other.engine"], ("fast.onnx", "other.engine")),
        (["some/where.onnx"], ("where.onnx", "some/where.engine")),
    ],
)
def test_what_is_built_and_where(monkeypatch: pytest.MonkeyPatch, argv: List[str], wanted: Tuple[str, str]) -> None:
    built = []
    monkeypatch.setattr(build_engine, "build_engine", lambda *given, **_: built.append(given) or sys.exit(3))
    with pytest.raises(SystemExit):
        build_engine.run(build_engine.make_parser().parse_args(argv))
    ((onnx, engine, _),) = built
    assert (onnx.name, engine.as_posix()) == wanted


@pytest.mark.parametrize(
    "argv",
    [
        ["--size", "480"],
        ["--size", "8x8"],
        ["--fp16", "--fp32"],
        ["--workspace", "0"],
        ["--workspace", "much"],
        ["--tactic-sources=-CUBLAS,CUDNN"],
        ["--tactic-sources=,"],
        ["--int4"],
        ["--int8"],
        ["--int8", "--fp16", "--calibrate", "pairs"],
        ["--calibrate", "pairs"],
        ["--calibration-cache", "ranges"],
        ["--frames", "--planes"],
        ["--profile", "student.onnx"],
        ["a.onnx", "b.onnx"],
    ],
)
def test_usage(capsys: pytest.CaptureFixture, argv: List[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_engine.main(argv)
    assert caught.value.code == 2
    assert "usage: build_engine.py" in capsys.readouterr().err


def test_options() -> None:
    parse = build_engine.make_parser().parse_args
    assert parse([]).precision == "fp16"
    arguments = parse("a.onnx --fp32 --size 64x80 --workspace 256 --tactic-sources=-CUBLAS,+jit_convolutions".split())
    assert (arguments.precision, arguments.size, arguments.workspace) == ("fp32", (64, 80), 256)
    assert arguments.tactic_sources == ("-CUBLAS", "+JIT_CONVOLUTIONS")
    assert build_engine.parse_tactic_sources("CUBLAS, CUDNN") == ("CUBLAS", "CUDNN")
    with pytest.raises(argparse.ArgumentTypeError):
        build_engine.parse_mebibytes("-5")


def test_options_of_precision_and_interface() -> None:
    parse = build_engine.make_parser().parse_args
    defaults = parse([])
    assert (defaults.frames, defaults.pins, defaults.force, defaults.profile) == (None, True, False, None)
    arguments = parse("a.onnx --int8 --calibrate pairs --planes --no-pins --force --pairs other --profile".split())
    assert (arguments.precision, arguments.calibrate, arguments.pairs) == ("int8", Path("pairs"), Path("other"))
    assert (arguments.frames, arguments.pins, arguments.force, arguments.profile) == (False, False, True, "")


def test_where_a_profile_goes(tmp_path: Path) -> None:
    engine = tmp_path / "deep" / "student.engine"
    assert build_engine.profile_path("", engine) == tmp_path / "deep" / "student.profile.json"
    assert build_engine.profile_path(str(tmp_path), engine) == tmp_path / "student.profile.json"
    assert build_engine.profile_path("runs/first", engine) == Path("runs/first.profile.json")
    assert build_engine.profile_path("runs/first.json", engine) == Path("runs/first.json")


def test_a_name_that_no_runtime_would_open(capsys: pytest.CaptureFixture, onnx: Path, tmp_path: Path) -> None:
    assert "must end with .engine" in failure(capsys, onnx, "-o", tmp_path / "student.bin")


def test_folders_without_pairs_are_found_before_tensorrt_is_asked(
    capsys: pytest.CaptureFixture, onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "no pairs in" in failure(capsys, onnx, "--int8", "--calibrate", tmp_path / "empty")
    assert "folder not found" in failure(capsys, onnx, "--pairs", tmp_path / "none")


@pytest.mark.parametrize("options", [["--pairs"], ["--int8", "--calibrate"]])
def test_a_bad_pair_is_told_before_tensorrt_is_asked(
    capsys: pytest.CaptureFixture, onnx: Path, cut_samples: Path, options: List[str]
) -> None:
    assert "not an image that OpenCV can read" in failure(capsys, onnx, *options, cut_samples)


def run_command(command: List[str], folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **variables})


@pytest.mark.parametrize("how", [[str(SCRIPT)], ["-m", "irvis.export.build_engine"]])
def test_as_a_script_and_as_a_module(tmp_path: Path, how: List[str]) -> None:
    process = run_command([sys.executable, *how, "no.onnx"], tmp_path)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == "build_engine.py: ONNX not found: no.onnx\n"


def test_ctrl_c_while_packages_are_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    process = run_command([sys.executable, str(SCRIPT)], tmp_path, PYTHONPATH=str(tmp_path))
    assert (process.returncode, process.stderr) == (130, "build_engine.py: interrupted\n")


def test_a_package_that_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    process = run_command([sys.executable, str(SCRIPT)], tmp_path, PYTHONPATH=str(tmp_path))
    wanted = "build_engine.py: a package cannot be imported (libGL.so.1: cannot open); `irvis doctor` says which\n"
    assert (process.returncode, process.stderr) == (1, wanted)


def test_where_irvis_is_not_installed(tmp_path: Path) -> None:
    process = run_command([sys.executable, "-I", "-S", str(SCRIPT), "student.onnx"], tmp_path)
    assert process.returncode == 1
    assert process.stderr == (
        "build_engine.py: irvis is not installed: run `pip install -e .` in the root of its repository\n"
    )


def test_neither_torch_nor_onnx_is_imported(tmp_path: Path) -> None:
    code = "import sys, irvis.export.build_engine; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    assert run_command([sys.executable, "-c", code], tmp_path).stdout == "set()\n"


def test_node_labels() -> None:
    onnx_package = pytest.importorskip("onnx")
    model = onnx_package.load(str(SHIPPED_MODEL))
    data = SHIPPED_MODEL.read_bytes()
    for index, node in enumerate(model.graph.node):
        assert onnx_wire.node_label(data, index) == f"node {index} {node.op_type} {node.name!r} -> {node.output[0]}"
    assert onnx_wire.node_label(data, -1) == onnx_wire.node_label(data, len(model.graph.node)) == "the graph"
    model.graph.node[0].name = "once"
    model.graph.node[0].output.append("second")
    label = onnx_wire.node_label(model.SerializeToString().replace(b"once", b"\xff..."), 0)
    assert label == f"node 0 {model.graph.node[0].op_type} '\ufffd...' -> {model.graph.node[0].output[0]}"


# The spinner.


def test_clock_gives_the_result_and_lines(capsys: pytest.CaptureFixture) -> None:
    assert spinner.under_clock(lambda: 42, "building") == 42
    assert capsys.readouterr().err == "building: 0:00\n"
    assert not spinner.is_at_work()


def test_clock_leaves_nothing_on_a_terminal(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    spinner.under_clock(lambda: None, lambda: "building")
    assert capsys.readouterr().err == "\r\x1b[K| building: 0:00 \r\x1b[K"


def test_clock_counts_minutes_and_turns(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(spinner.time, "monotonic", lambda: now[-1])
    with spinner._clock("building", plain=False) as tick:
        for later in (0.0, 0.125, 0.25, 0.375, 0.5, 61.0):
            now.append(100.0 + later)
            assert tick() == 0.125
    shown = [text.strip() for text in capsys.readouterr().err.split("\r\x1b[K")]
    turns = ["| building: 0:00", "/ building: 0:00", "- building: 0:00", "\\ building: 0:00", "| building: 0:00"]
    assert shown == ["", *turns, "| building: 1:01", ""]


def test_clock_raises_what_the_work_raised() -> None:
    for work, error in ((lambda: 1 // 0, ZeroDivisionError), (sys.exit, SystemExit)):
        with pytest.raises(error):
            spinner.under_clock(work, "building")


def test_clock_turns_while_the_work_goes_on(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinner, "PLAIN_S", 0.05)
    monkeypatch.setattr(spinner, "WHEEL_S", 60.0)
    spinner.under_clock(lambda: time.sleep(0.3), "building")
    assert 3 <= capsys.readouterr().err.count("building: 0:00\n") <= 100


def test_ctrl_c_reaches_the_waiting_thread() -> None:
    released = threading.Event()
    interrupt = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            spinner.under_clock(released.wait, "building")
        assert spinner.is_at_work()
    finally:
        released.set()
        interrupt.join()


def test_ctrl_c_while_tensorrt_builds_ends_the_process_with_130(tmp_path: Path) -> None:
    code = """
import sys, threading
from irvis.export import build_engine, spinner
build_engine.build_engine = lambda *_, **__: spinner.under_clock(threading.Event().wait, "building")
sys.exit(build_engine.main(["student.onnx"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "building: 0:00\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "build_engine.py: interrupted\n"
    assert list(tmp_path.iterdir()) == []


# What is asked of TensorRT: the names alone, for its objects cannot be made without a GPU.

SOURCES = (
    build_engine,
    calibration,
    frames_layers,
    pins,
    trt_build,
    trt_config,
    trt_network,
    trt_profile,
    trt_versions,
    backend_tensorrt,
    engine_tensors,
    tensorrt_messages,
)
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "error": "ParserError",  # in trt_versions
    "cache": "ITimingCache",
    "tensor": "ITensor",
    "engine": "ICudaEngine",  # in engine_tensors
    "self.network": "INetworkDefinition",  # in frames_layers
    "activation": "IActivationLayer",
    "shuffle": "IShuffleLayer",
    "layer": "ILayer",
    "inspector": "EngineInspector",
    "self._engine": "ICudaEngine",
    "self._runtime": "Runtime",
    "self._context": "IExecutionContext",  # in TensorRTBackend
}
# Variables of the same name that are no objects of TensorRT.
OTHERS = {
    ("tensorrt_messages", "error"),
    ("trt_build", "network"),  # what trt_network gives
    ("build_engine", "engine"),
    ("build_engine", "parser"),
}


def dotted(node: ast.AST) -> Tuple[str, ...]:
    """``a.b.c`` -> ("a", "b", "c"); () for anything else."""
    names: List[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return (node.id, *names) if isinstance(node, ast.Name) else ()


def asked_of_tensorrt() -> Iterator[str]:
    """Yield ``BuilderFlag.TF32``, ``IBuilderConfig.set_flag`` and the like: each name that the sources use."""
    for module in SOURCES:
        stem = module.__name__.rsplit(".", 1)[1]
        tree = ast.parse(Path(module.__file__ or "").read_text())
        for node in ast.walk(tree):
            names = dotted(node)
            names = names[1:] if names[:2] == ("self", "trt") else names
            if names[:1] == ("trt",) and len(names) > 1:
                yield ".".join(names[1:])
            for variable, kind in OBJECTS.items():
                size = variable.count(".") + 1
                if ".".join(names[:size]) == variable and len(names) > size and (stem, variable) not in OTHERS:
                    yield f"{kind}.{names[size]}"


def test_the_sources_are_read() -> None:
    asked = set(asked_of_tensorrt())
    assert {
        "BuilderFlag.TF32",
        "Builder.build_serialized_network",
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.get_tensor_shape",
        "ITensor.shape",
        "ParserError.node",
        "LayerType.SOFTMAX",
        "ILayer.set_output_type",
        "IInt8EntropyCalibrator2",
        "IBuilderConfig.int8_calibrator",
        "ProfilingVerbosity.DETAILED",
        "EngineInspector.get_engine_information",
        "IExecutionContext.profiler",
        "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
        "INetworkDefinition.add_reduce",
    } <= asked
    assert len(asked) > 60


def test_tensorrt_has_what_is_asked() -> None:
    trt = pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    missing = []
    for name in sorted(set(asked_of_tensorrt())):
        there: Any = trt
        for part in name.split("."):
            if not hasattr(there, part):
                missing.append(name)
                break
            there = getattr(there, part)
    assert missing == [], f"TensorRT {trt.__version__} lacks these"


def test_every_kind_of_dtype_has_numpys_name() -> None:
    trt = pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    found: Dict[str, Any] = {
        engine_tensors.dtype_name(dtype): dtype for dtype in (trt.float32, trt.float16, trt.int8, trt.uint8)
    }
    assert set(found) == {"float32", "float16", "int8", "uint8"}
