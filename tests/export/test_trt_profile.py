"""The times of an engine's layers, as TensorRT reports them to a stand-in."""

from types import SimpleNamespace
from typing import Any

import pytest

from irvis.export import trt_profile
from irvis.export.trt_profile import LayerTimer
from irvis.runtime.errors import ModelError


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Any:
    trt = SimpleNamespace(__version__="8.5.2.2", IProfiler=object, LayerInformationFormat=SimpleNamespace(JSON="json"))
    monkeypatch.setattr(trt_profile, "import_tensorrt", lambda: trt)
    timer = object.__new__(LayerTimer)  # without an engine, which needs a GPU
    timer._runs, timer._context = [], SimpleNamespace(profiler=None)
    inspector = SimpleNamespace(get_engine_information=lambda form: '{"Layers": []}' if form == "json" else "")
    timer._engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    timer.start()
    return timer


def test_times_of_one_name_are_added_within_a_run_and_kept_apart_between_runs(timer: Any) -> None:
    for times in ((1.0, 0.5), (2.0,)):
        timer.next_run()
        for ms in times:
            timer._context.profiler.report_layer_time("conv", ms)
    assert timer.times() == ('{"Layers": []}', [{"conv": 1.5}, {"conv": 2.0}])


def test_an_engine_that_tells_nothing_is_one_error(timer: Any) -> None:
    timer.next_run()
    with pytest.raises(ModelError, match=r"TensorRT 8\.5\.2\.2 reported no layer's time"):
        timer.times()
    timer._engine.create_engine_inspector = lambda: SimpleNamespace(get_engine_information=lambda _: "")
    with pytest.raises(ModelError, match=r"reports nothing about the layers"):
        timer.inspect()
