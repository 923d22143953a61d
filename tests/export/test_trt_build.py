"""What a build asks TensorRT for, in which order, and what it tells of it: TensorRT is a stand-in."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Sequence

import pytest

from irvis.export import trt_build
from irvis.export.build_options import BuildOptions
from irvis.export.trt_build import CannotBuild, Source, build_on_gpu
from irvis.runtime.errors import FileError, ModelError

NAMES = ("FP16", "INT8", "TF32", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")


class StandIn:
    """TensorRT, its builder and its configuration; ``fails`` are the constraints under which no engine comes."""

    __version__ = "8.5.2.2"
    BuilderFlag = SimpleNamespace(**{name: name for name in NAMES})
    ILayer = SimpleNamespace(precision=None)
    IInt8EntropyCalibrator2 = object
    DataType = SimpleNamespace(HALF="half", FLOAT="float")
    MemoryPoolType = SimpleNamespace(WORKSPACE=0)
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    TacticSource = SimpleNamespace(__members__={})
    profiling_verbosity = "names"

    def __init__(self, fails: Sequence[str] = (), fast: Sequence[str] = ("fp16", "int8")) -> None:
        self.fails, self.flags = fails, {"TF32"}
        self.set_flag, self.clear_flag = self.flags.add, self.flags.discard
        self.platform_has_fast_fp16, self.platform_has_fast_int8 = "fp16" in fast, "int8" in fast
        self.built_with: List[Any] = []

    def Builder(self, _: Any) -> "StandIn":
        return self

    def create_builder_config(self) -> "StandIn":
        return self

    def set_memory_pool_limit(self, _: Any, limit: int) -> None:
        self.limit = limit

    def get_memory_pool_limit(self, _: Any) -> int:
        return self.limit

    def get_tactic_sources(self) -> int:
        return 0

    def build_serialized_network(self, *_: Any) -> Any:
        self.built_with.append({name.partition("_")[0].lower() for name in self.flags})
        return None if self.built_with[-1].intersection(self.fails) else b"engine"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that builds with a stand-in; of what it asks, the network's 3 pins, and what it holds to a type."""
    released: List[bool] = []
    gpu = SimpleNamespace(name="Xavier", compute_capability="7.2", release=lambda: released.append(True))
    held: List[Any] = []

    def hold(kind: str) -> Any:
        return lambda trt, network, dtype, size, pinned: held.append((kind, dtype, pinned)) or 5

    network = SimpleNamespace(definition=None, size=(48, 64), parsed=9)
    monkeypatch.setattr(trt_build, "Gpu", lambda: gpu)
    monkeypatch.setattr(trt_build, "tensorrt_logger", lambda: None)
    monkeypatch.setattr(trt_build, "make_network", lambda *_: network)
    monkeypatch.setattr(trt_build, "pin_to_fp32", lambda *given: {1, 2, 4} if given[-1] else set())
    monkeypatch.setattr(trt_build, "hold_large_to", hold("large"))
    monkeypatch.setattr(trt_build, "hold_all_but_int8", hold("all but INT8"))

    def call(trt: StandIn, precision: str, **options: Any) -> Any:
        source = Source(b"", "0" * 64, "s.onnx", [], tmp_path / "ranges")
        held.clear()
        try:
            return build_on_gpu(trt, source, BuildOptions(precision, workspace_mib=64, **options), print), list(held)
        finally:
            assert released.pop()

    return call


def test_fp16_holds_what_is_large_and_fp32_nothing(build: Any) -> None:
    trt = StandIn()
    built, held = build(trt, "fp16")
    assert (built.engine, built.precision, held) == (b"engine", "fp16", [("large", "half", {1, 2, 4})])
    assert trt.built_with == [{"fp16", "obey"}]
    told = {"fp32_pins": 3, "held_layers": 5, "precision_constraints": "obey", "workspace_mib": 64}
    assert told.items() <= built.options.items()
    built, held = build(StandIn(), "fp32")
    assert (built.precision, held, built.options["precision_constraints"]) == ("fp32", [], None)
    unpinned = build(StandIn(), "fp16", pins=False)[0].options
    assert (unpinned["fp32_pins"], unpinned["precision_constraints"]) == (0, "obey")
    newer = StandIn()
    newer.ILayer = SimpleNamespace()  # of TensorRT 11, which takes no precisions
    built, held = build(newer, "fp16")
    assert (built.options["fp32_pins"], held, built.options["precision_constraints"]) == (0, [], None)


def test_precisions_that_cannot_be_obeyed_become_preferences(build: Any) -> None:
    trt = StandIn(fails=["obey"])
    built, _ = build(trt, "fp16")
    assert trt.built_with == [{"fp16", "obey"}, {"fp16", "prefer"}]
    assert built.options["precision_constraints"] == "prefer"
    assert len(built.notes) == 1
    with pytest.raises(CannotBuild, match=r"8.5.2.2 cannot build s.onnx: "):
        build(StandIn(fails=["obey", "prefer"]), "fp16")


def test_a_library_that_is_missing_is_told_at_once(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorRT 8.5.2.2 told it; each of the other ways to build would take as long to fail as this one."""
    said = (
        "3: [libLoader.h::symbolAddress::92] Error Code 3: Internal Error (SymbolAddress for cublasGetProperty could "
        "not be loaded, check function name against library symbol)"
    )
    trt = StandIn(fails=["obey", "prefer"])
    trt.TacticSource = SimpleNamespace(
        __members__=dict.fromkeys(("CUBLAS", "CUBLAS_LT", "CUDNN", "JIT_CONVOLUTIONS"), 0)
    )
    original = trt.build_serialized_network
    logger = logging.getLogger("irvis.tensorrt")
    monkeypatch.setattr(trt, "build_serialized_network", lambda *given: logger.error(said) or original(*given))
    with pytest.raises(ModelError) as caught:
        build(trt, "fp16")
    assert not isinstance(caught.value, CannotBuild)  # for which planes are tried after frames
    assert len(trt.built_with) == 1
    assert f"lacks a library ({said}): install it" in str(caught.value)
    assert str(caught.value).endswith("`build_engine.py s.onnx --tactic-sources=-CUBLAS,-CUBLAS_LT,-CUDNN`")


def test_a_precision_that_gains_nothing_gives_way_to_the_next(build: Any) -> None:
    for fast, wanted in ((["fp16"], "fp16"), ([], "fp32")):
        built, _ = build(StandIn(fast=fast), "int8")
        assert built.precision == wanted
        assert [note.partition(":")[0] for note in built.notes] == ["warning"] * (2 - len(fast))
        assert built.options["calibration_pairs"] is None
    assert StandIn.profiling_verbosity == "names"


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What stands in for the calibrations, each of which finds the ranges ``found`` unless it is given some."""
    made: List[Any] = []

    def calibration(trt: Any, gpu: Any, pairs: Any, size: Any, frames: bool, kept: Any, progress: Any) -> Any:
        fresh = SimpleNamespace(calibrator=None, kept=kept, ranges=kept or made_of.found, closed=False)
        fresh.check = made_of.check
        fresh.close = lambda: setattr(fresh, "closed", True)
        made.append(fresh)
        return fresh

    made_of = SimpleNamespace(found=b"found", made=made, check=lambda: None)
    monkeypatch.setattr(trt_build, "Calibration", calibration)
    return made_of


def test_int8_holds_the_rest_and_keeps_its_ranges_for_the_next_build(
    build: Any, calibrations: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: List[Path] = []
    write = trt_build.write_ranges
    monkeypatch.setattr(trt_build, "write_ranges", lambda path, *rest: written.append(path) or write(path, *rest))
    trt = StandIn()
    built, held = build(trt, "int8")
    assert (built.precision, trt.profiling_verbosity) == ("int8", "detailed")
    assert held == [("all but INT8", "half", {1, 2, 4})]
    assert trt.built_with == [{"int8", "fp16", "obey"}]
    assert build(StandIn(fast=["int8"]), "int8")[1] == [("all but INT8", "float", {1, 2, 4})]
    assert [each.kept for each in calibrations.made] == [None, b"found"]
    assert written == [tmp_path / "ranges"]
    assert all(each.closed for each in calibrations.made)


def test_a_pair_that_failed_in_the_calibration_ends_the_build(build: Any, calibrations: Any, tmp_path: Path) -> None:
    def fail() -> None:
        raise FileError("no such pair")

    calibrations.check = fail
    with pytest.raises(FileError, match="no such pair"):
        build(StandIn(), "int8")
    assert calibrations.made[0].closed
    assert not (tmp_path / "ranges").exists()
