"""What differs between versions of TensorRT: stand-ins with the names that 8.5 and 11 have."""

from types import SimpleNamespace
from typing import Any, List, Tuple

import pytest

from irvis.export import trt_versions
from irvis.runtime.shipped import SHIPPED_MODEL

FLAGS = ("FP16", "INT8", "TF32", "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")
V8 = SimpleNamespace(
    __version__="8.5.2.2",
    BuilderFlag=SimpleNamespace(**{name: name for name in FLAGS}),
    NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0),
    ILayer=SimpleNamespace(precision=None),
    IInt8EntropyCalibrator2=object,
)
V11 = SimpleNamespace(
    __version__="11.0.0",
    BuilderFlag=SimpleNamespace(TF32="TF32"),
    NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
    ILayer=SimpleNamespace(),
)


class Config:
    def __init__(self) -> None:
        self.calls: List[Tuple[str, Any]] = []

    def set_flag(self, flag: Any) -> None:
        self.calls.append(("set", flag))

    def clear_flag(self, flag: Any) -> None:
        self.calls.append(("clear", flag))


FAST = SimpleNamespace(platform_has_fast_fp16=True, platform_has_fast_int8=True)
SLOW = SimpleNamespace(platform_has_fast_fp16=False, platform_has_fast_int8=False)


def test_an_explicit_batch_where_there_is_another() -> None:
    assert (trt_versions.network_flags(V8), trt_versions.network_flags(V11)) == (1, 0)


@pytest.mark.parametrize(("precision", "flag"), [("fp16", "FP16"), ("int8", "INT8")])
def test_precisions(precision: str, flag: str) -> None:
    config = Config()
    assert trt_versions.allow(V8, FAST, config, precision) is None
    assert config.calls == [("set", flag)]
    assert trt_versions.allow(V8, SLOW, config, precision) == f"this GPU gains nothing from {flag}"
    assert trt_versions.allow(V11, SimpleNamespace(), config, precision).startswith("TensorRT 11.0.0 ")
    assert len(config.calls) == 1


def test_int8_needs_a_calibrator() -> None:
    without, config = SimpleNamespace(__version__="10.99", BuilderFlag=V8.BuilderFlag), Config()
    assert trt_versions.allow(without, FAST, config, "int8") == "TensorRT 10.99 has no calibrator"
    assert config.calls == []


def test_constraints() -> None:
    assert trt_versions.takes_constraints(V8)
    assert not trt_versions.takes_constraints(V11)
    config = Config()
    trt_versions.set_constraints(V8, config, "obey")
    trt_versions.set_constraints(V8, config, "prefer")
    obey, prefer = "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"
    assert config.calls == [("set", obey), ("clear", prefer), ("clear", obey), ("set", prefer)]


def test_tf32_is_forbidden_in_both() -> None:
    for trt in (V8, V11):
        config = Config()
        trt_versions.forbid_tf32(trt, config)
        assert config.calls == [("clear", "TF32")]


def test_an_error_of_the_parser_is_one_line_with_its_node() -> None:
    """TensorRT 8.5 prints a code as ``ErrorCode.UNSUPPORTED_NODE``, as do the enumerations of later versions."""
    texts = [(3, "No importer\nregistered"), (-1, "no graph")]
    errors = [
        SimpleNamespace(
            node=lambda index=index: index,
            desc=lambda text=text: text,
            code=lambda: "ErrorCode.UNSUPPORTED_NODE",
            func=lambda: "parse",
        )
        for index, text in texts
    ]
    parser, model = SimpleNamespace(num_errors=len(errors), get_error=errors.__getitem__), SHIPPED_MODEL.read_bytes()
    assert trt_versions.parser_errors(parser, model) == [
        f"{trt_versions.node_label(model, 3)}: No importer registered (UNSUPPORTED_NODE in parse)",
        "the graph: no graph (UNSUPPORTED_NODE in parse)",
    ]
