"""The builder's settings: stand-ins for its configuration, with the calls that TensorRT 8.5's has."""

import contextlib
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest

from irvis.export import trt_config
from irvis.runtime.errors import ModelError

SOURCES = IntEnum("SOURCES", {"CUBLAS": 0, "CUBLAS_LT": 1, "CUDNN": 2, "UNAVAILABLE": 3})
TRT = SimpleNamespace(
    __version__="8.5.2.2", TacticSource=SOURCES, MemoryPoolType=SimpleNamespace(WORKSPACE="workspace")
)
GPU = SimpleNamespace(current=contextlib.nullcontext, cuda=SimpleNamespace(mem_get_info=lambda: (1000, 4000)))


class Config:
    def __init__(self) -> None:
        self.mask, self.cache = 0b0101, b""
        self.limits: Dict[str, int] = {}

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.limits[pool] = limit

    def get_tactic_sources(self) -> int:
        return self.mask

    def set_tactic_sources(self, mask: int) -> bool:
        if mask < 0b1000:
            self.mask = mask
        return mask < 0b1000

    def create_timing_cache(self, data: bytes) -> Any:
        return None if data == b"corrupt" else SimpleNamespace(serialize=lambda: data)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        fits = ignore_mismatch or cache.serialize() != b"of another GPU"
        self.cache = cache if fits else None
        return fits

    def get_timing_cache(self) -> Any:
        return self.cache


def test_layers_may_use_half_of_the_free_memory_or_what_was_given() -> None:
    config = Config()
    trt_config.set_workspace(TRT, config, GPU, None)
    assert config.limits == {"workspace": 500}
    trt_config.set_workspace(TRT, config, GPU, 3)
    assert config.limits == {"workspace": 3 << 20}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ((), ["CUBLAS", "CUDNN"]),
        (("CUBLAS_LT",), ["CUBLAS_LT"]),
        (("+CUBLAS_LT", "-CUDNN"), ["CUBLAS", "CUBLAS_LT"]),
        (("-CUBLAS_LT", "+CUDNN"), ["CUBLAS", "CUDNN"]),
    ],
)
def test_tactic_sources_are_those_named_or_the_default_changed(names: Tuple[str, ...], wanted: List[str]) -> None:
    config = Config()
    trt_config.set_tactic_sources(TRT, config, names)
    assert trt_config.tactic_sources(TRT, config) == wanted


def test_tactic_sources_that_are_unknown_or_refused_are_named() -> None:
    with pytest.raises(ModelError, match=r"has no tactic source CUFFT; it has CUBLAS, CUBLAS_LT, CUDNN, UNAVAILABLE$"):
        trt_config.set_tactic_sources(TRT, Config(), ("+CUFFT",))
    with pytest.raises(ModelError, match=r"refuses the tactic sources UNAVAILABLE$"):
        trt_config.set_tactic_sources(TRT, Config(), ("UNAVAILABLE",))


@pytest.mark.parametrize(
    ("content", "loaded", "warnings"),
    [(None, b"", 0), (b"timings", b"timings", 0), (b"corrupt", b"", 1), (b"of another GPU", b"", 1)],
)
def test_timings_that_fit_are_loaded_and_others_start_anew(
    tmp_path: Path, content: Any, loaded: bytes, warnings: int
) -> None:
    path, config = tmp_path / "timings", Config()
    notes: List[str] = []
    if content is not None:
        path.write_bytes(content)
    cache = trt_config.attach_timing_cache(config, path, notes)
    assert config.cache is cache
    assert cache.serialize() == loaded
    assert len(notes) == warnings
    trt_config.keep_timing_cache(config, path, notes)
    assert path.read_bytes() == loaded
    trt_config.keep_timing_cache(config, tmp_path, notes)
    assert len(notes) == warnings + 1
