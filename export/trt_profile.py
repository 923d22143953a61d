"""Lists an engine's layers and times each one, on the machine that built it."""

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
    """Run an engine that keeps its layers' details and return each layer's times. Raises FileError and ModelError."""
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
    """Return TensorRT's description of an engine's layers, as JSON. Raises FileError and ModelError."""
    with contextlib.closing(LayerTimer(engine)) as timer:
        return timer.inspect()


class LayerTimer(TensorRTBackend):
    """An engine whose execution context reports the time of every layer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._runs: List[Dict[str, float]] = []
        self._profiler: Any = None

    def start(self) -> None:
        """Report times from the next run on; each run then ends before times of the next are reported."""
        self._profiler = _make_profiler(import_tensorrt(), self._runs)  # TensorRT keeps no reference of its own
        self._context.profiler = self._profiler

    def next_run(self) -> None:
        """Begin the times of another run."""
        self._runs.append({})

    def inspect(self) -> str:
        """Return TensorRT's description of the layers, as JSON. Raises ModelError if there is none."""
        trt = import_tensorrt()
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        if not text:
            raise ModelError(f"TensorRT {trt.__version__} reports nothing about the layers")
        return str(text)

    def times(self) -> LayerTimes:
        """Return the reported times and ``inspect``'s text. Raises ModelError if TensorRT reported nothing."""
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
