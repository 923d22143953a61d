"""What is asked of ONNX Runtime, and what is made of its answers.

Where a provider does not load, a stand-in for the module answers as onnxruntime-gpu 1.15 to 1.23 were seen to without
CUDA's or TensorRT's libraries: it raises, or it leaves the provider out.
"""

import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from irvis.runtime import Fuser
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.providers import CPU, CUDA, TENSORRT, engine_folder, open_session, provider_options
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import SHIPPED_MODEL

SIZE = (48, 64)
CONTENT = SHIPPED_MODEL.read_bytes()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the engines go by default."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "irvis" / "onnxruntime"


def test_tensorrt_gets_fp16_and_its_engines_and_timings_are_kept() -> None:
    before = provider_options(TENSORRT, "1.16.3", Path("/cache/student"))
    assert before == {
        "trt_fp16_enable": "True",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/cache/student",
        "trt_timing_cache_enable": "True",
    }
    for version in ("1.17.0", "1.18.1", "1.23.2", "2.0.0"):
        assert provider_options(TENSORRT, version, Path("/cache/student")) == {
            **before,
            "trt_timing_cache_path": "/cache",
        }
    assert provider_options(TENSORRT, "1.18.1", None) == {"trt_fp16_enable": "True"}


def test_cuda_searches_all_algorithms_and_the_cpu_has_no_options() -> None:
    assert provider_options(CUDA, "1.15.1", None) == {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
    }
    assert provider_options(CPU, "1.15.1", Path("/cache")) == {}


def test_each_onnx_and_each_version_has_a_folder_of_its_own(tmp_path: Path, home: Path) -> None:
    models = [tmp_path / name / "student.onnx" for name in ("a", "b")]
    for model in models:
        model.parent.mkdir()
        model.write_bytes(model.parent.name.encode())
    folders = {
        engine_folder(model, model.read_bytes(), version, cache)
        for model in models
        for version in ("1.18.1", "1.23.2")
        for cache in (None, tmp_path / "engines")
    }
    assert len(folders) == 8
    assert all(folder is not None and folder.is_dir() for folder in folders)
    assert {folder.parent for folder in folders if folder} == {home, tmp_path / "engines"}


def test_a_cache_that_cannot_be_made_is_an_error_if_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="cannot write the engine cache"):
        engine_folder(SHIPPED_MODEL, CONTENT, "1.18.1", tmp_path / "file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert engine_folder(SHIPPED_MODEL, CONTENT, "1.18.1", None) is None
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 1_234_567)
    assert engine_folder(SHIPPED_MODEL, CONTENT, "1.18.1", None) is None
    first, second = caplog.messages
    assert re.fullmatch(r"TensorRT's engine will be built at every start, .*: .*Not a directory: .*", first)
    assert second.endswith(": this user has no home folder to cache in; set HOME or XDG_CACHE_HOME")


def stand_in(raises: Tuple[str, ...] = (), leaves_out: Tuple[str, ...] = ()) -> Any:
    """Return a stand-in for a GPU's module ``onnxruntime``, some of whose providers fail in one way or the other."""
    asked: List[Dict[str, Dict[str, str]]] = []

    class InferenceSession:
        def __init__(self, model: bytes, options: Any, providers: Any) -> None:
            assert model == CONTENT
            self._enable_fallback = True
            asked.append(dict(providers))
            self.names = [name for name, _ in providers if name not in leaves_out]
            if any(name in raises for name in self.names):
                if self._enable_fallback:
                    raise AssertionError("ONNX Runtime would print now, and take another provider")
                raise RuntimeError(
                    "/src/state.cc:456 void f(Options&, const Map&) Please install libraries\nas mentioned"
                )
            self.names += [CPU] if CPU not in self.names else []

        def get_providers(self) -> List[str]:
            return self.names

    return SimpleNamespace(
        __version__="1.18.1",
        InferenceSession=InferenceSession,
        get_available_providers=lambda: [TENSORRT, CUDA, "AzureExecutionProvider", CPU],
        set_default_logger_severity=lambda level: None,
        asked=asked,
    )


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("failures", "used", "said"),
    [
        ({}, [TENSORRT, CUDA, CPU], None),
        ({"raises": (TENSORRT,)}, [CUDA, CPU], f"{TENSORRT} (Please install libraries as mentioned)"),
        ({"leaves_out": (TENSORRT,)}, [CUDA, CPU], "TensorrtExecutionProvider (its libraries do not load)"),
        ({"raises": (TENSORRT,), "leaves_out": (CUDA,)}, [CPU], "CUDAExecutionProvider (its libraries do not load)"),
        ({"raises": (TENSORRT, CUDA)}, [CPU], "CUDAExecutionProvider (Please install"),
    ],
)
def test_by_default_the_best_that_loads_is_used_and_what_is_not_is_said_in_one_line(
    caplog: pytest.LogCaptureFixture, failures: Any, used: List[str], said: Any
) -> None:
    onnxruntime = stand_in(**failures)
    session = open_session(onnxruntime, SHIPPED_MODEL, CONTENT, None, None, None)
    assert session.get_providers() == used
    if CUDA in used:
        assert onnxruntime.asked[-1][CUDA] == provider_options(CUDA, "1.18.1", None)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    if TENSORRT in used:
        assert "take minutes: TensorRT builds an engine" in warnings.pop()
    assert len(warnings) == (said is not None)
    for line in warnings:
        assert f"student.onnx runs on {used[0]}: " in line
        assert said in line
        assert "\n" not in line


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({"raises": (TENSORRT,)}, "cannot load .*student.onnx: Please install libraries as mentioned"),
        ({"leaves_out": (TENSORRT,)}, f"cannot use {TENSORRT} .*would run .* on {CUDA}"),
        ({"leaves_out": (CUDA,)}, f"cannot use {CUDA} "),
    ],
)
def test_a_provider_asked_for_by_name_must_load(failures: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        open_session(stand_in(**failures), SHIPPED_MODEL, CONTENT, None, (TENSORRT, CUDA), None)
    assert "\n" not in str(caught.value)


def test_an_engine_cache_reaches_tensorrts_provider(tmp_path: Path, home: Path) -> None:
    onnxruntime = stand_in()
    open_session(onnxruntime, SHIPPED_MODEL, CONTENT, None, (TENSORRT,), tmp_path / "engines")
    (folder,) = (tmp_path / "engines").iterdir()
    assert onnxruntime.asked[0][TENSORRT]["trt_engine_cache_path"] == str(folder)
    assert not home.exists()


def test_a_first_run_that_takes_minutes_is_announced_and_a_later_one_is_not(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_session(stand_in(), SHIPPED_MODEL, CONTENT, None, None, None)
    assert caplog.text.count("take minutes") == 1
    (folder,) = home.iterdir()
    (folder / "TensorrtExecutionProvider_TRTKernel_graph_0_fp16_sm72.engine").write_bytes(b"")
    open_session(stand_in(), SHIPPED_MODEL, CONTENT, None, None, None)
    assert caplog.text.count("take minutes") == 1


def test_the_cpu_is_as_it_was_and_nothing_is_made_for_it(tmp_path: Path, home: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    infrared, visible = make_scene("street", *SIZE)
    planes = infrared / np.float32(255), visible[:, :, 1] / np.float32(255)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, length in zip(("height", "width"), SIZE):
        options.add_free_dimension_override_by_name(name, length)
    session = onnxruntime.InferenceSession(str(SHIPPED_MODEL), options, providers=[CPU])
    (wanted,) = session.run(
        ["fused"], {name: plane[None, None] for name, plane in zip(("infrared", "visible"), planes)}
    )
    backend = OnnxRuntimeBackend(SHIPPED_MODEL, (CPU,), 1, tmp_path / "engines")
    np.testing.assert_array_equal(backend.run(*planes), wanted[0, 0])
    with Fuser(providers=(CPU,), threads=1, engine_cache=tmp_path / "engines") as fuser:
        assert fuser.backend.name.endswith(CPU)
    assert not home.exists()
    assert not (tmp_path / "engines").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("provider", [TENSORRT, CUDA])
def test_a_gpus_provider_takes_the_options_and_is_near_the_cpus(tmp_path: Path, provider: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {provider}")
    pair = make_scene("street", *SIZE)
    with Fuser(providers=(CPU,)) as exact:
        wanted = exact(*pair).astype(int)
    with Fuser(providers=(provider, CPU), engine_cache=tmp_path / "engines") as fuser:
        assert fuser.backend.name.endswith(provider)
        difference = abs(fuser(*pair) - wanted)
    assert difference.mean() < 1
    assert difference.max() <= 8
    if provider == TENSORRT:
        assert list((tmp_path / "engines").rglob("*.engine"))
        assert list((tmp_path / "engines").rglob("*.timing"))
