"""Asks an engine for its layers, and times each, on the machine that it was built on."""

import contextlib
from pathlib import Path
from typing import Any, Dict, List

from irvis.export.layer_profile import LayerTimes
from irvis.export.sample_frames import to_planes
from irvis.runtime.backend_tensorrt import TensorRTBackend
from irvis.runtime.errors import ModelError
from irvis.runtime.samples import SCENES, make_scene
from irvis.runtime.sidecar import read_sidecar
from irvis.runtime.tensorrt_messages import import_tensorrt

WARMUP_RUNS, RUNS = 20, 100


def profile_layers(engine: Path, warmup_runs: int = WARMUP_RUNS, runs: int = RUNS) -> LayerTimes:
    """Run an engine that keeps its layers' details and give each layer's times. Raises FileError and ModelError."""
    sidecar = read_sidecar(engine)
    scene = make_scene(SCENES[0], *sidecar.size)
    infrared, visible = scene if sidecar.takes_frames else to_planes(scene)
    with contextlib.closing(LayerTimer(engine)) as timer:
        for _ in range(warmup_runs):
            timer.run(infrared, visible)
        timer.start()
        for _ in range(runs):
            timer.next_run()
            timer.run(infrared, visible)
        return timer.times()


def inspect_layers(engine: Path) -> str:
    """Give what TensorRT tells of the layers of an engine, as JSON. Raises FileError and ModelError."""
    with contextlib.closing(LayerTimer(engine)) as timer:
        return timer.inspect()


class LayerTimer(TensorRTBackend):
    """An engine whose execution context reports the time of every layer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._runs: List[Dict[str, float]] = []
        self._profiler: Any = None

    def start(self) -> None:
        """Report from the next run on; each then ends before the next layer times are asked for."""
        self._profiler = _make_profiler(import_tensorrt(), self._runs)  # TensorRT keeps no reference of its own
        self._context.profiler = self._profiler

    def next_run(self) -> None:
        """Begin a row of times."""
        self._runs.append({})

    def inspect(self) -> str:
        """Give what TensorRT tells of the layers, as JSON. Raises ModelError where it tells nothing."""
        trt = import_tensorrt()
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        if not text:
            raise ModelError(f"TensorRT {trt.__version__} tells nothing of the layers")
        return str(text)

    def times(self) -> LayerTimes:
        """Give what was reported, and ``inspect``'s. Raises ModelError where TensorRT tells nothing."""
        if not any(self._runs):
            raise ModelError(f"TensorRT {import_tensorrt().__version__} reported no layer's time")
        return LayerTimes(self.inspect(), self._runs)


def _make_profiler(trt: Any, runs: List[Dict[str, float]]) -> Any:
    base: Any = trt.IProfiler

    class Profiler(base):
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            runs[-1][layer_name] = runs[-1].get(layer_name, 0.0) + ms

    return Profiler()
