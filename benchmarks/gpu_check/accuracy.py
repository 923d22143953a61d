"""Part ``accuracy``: each engine of a shipped student compared with its ONNX in FP32 on all pairs of the data sets."""

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from irvis.benchmarks.gpu_check.engines import built, engine_path
from irvis.benchmarks.gpu_check.results import Results
from irvis.export.acceptance import compare, summarise
from irvis.export.sample_frames import read_frames, to_planes
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import IrvisError
from irvis.runtime.frames import join_luminance, split_luminance
from irvis.runtime.fuser import Fuser
from irvis.runtime.pairs import pairs_of
from irvis.runtime.providers import CPU_ONLY
from irvis.runtime.shipped import NAMES, find_model
from irvis.runtime.sizes import DEFAULT_SIZE

DATA_SETS = ("TNO/test", "RoadScene/test", "MSRS/test")
REFERENCE = "ONNX FP32"


def measure_accuracy(out: Path, data: Path) -> None:
    """Fuse each data set, resized to 480x640, with every engine; save the errors, and the planes for ``quality``."""
    results = Results(out / "accuracy.json")
    for data_set, student in itertools.product(DATA_SETS, NAMES):
        engines = {
            spec.name: engine_path(out, spec.name)
            for spec in built(out)
            if spec.student == student and spec.size == DEFAULT_SIZE and f"{data_set}: {spec.name}" not in results
        }
        if engines:
            for name, found in _measure(student, engines, data, data_set, out / "fused").items():
                results.put(f"{data_set}: {name}", found)
                print(f"{data_set}: {name}: {found}", flush=True)


def _measure(
    student: str, engines: Dict[str, Path], data: Path, data_set: str, fused_folder: Path
) -> Dict[str, Dict[str, Any]]:
    pairs, reference = pairs_of(data / data_set), f"{student} {REFERENCE}"
    errors: Dict[str, List[Tuple[float, float]]] = {}
    failed: Dict[str, Dict[str, Any]] = {}
    shape = (len(pairs), *DEFAULT_SIZE)
    planes = {name: np.zeros(shape, np.uint8) for name in (reference, "infrared", "visible", *engines)}
    with ExitStack() as stack:
        backend = OnnxRuntimeBackend(find_model(student), CPU_ONLY)
        stack.callback(backend.close)
        fusers = {}
        for name, engine in engines.items():
            try:
                fusers[name] = stack.enter_context(Fuser(engine, infrared_smoothing=0))
            except IrvisError as error:
                failed[name] = {"failed": str(error)}
        for index, pair in enumerate(pairs):
            infrared, visible = read_frames(pair, DEFAULT_SIZE)
            luminance = split_luminance(visible)
            inputs = to_planes((infrared, visible))
            plane = backend.run(*inputs)
            frame = join_luminance(plane, luminance)
            planes["infrared"][index], planes["visible"][index] = infrared, luminance.y
            planes[reference][index] = join_luminance(plane, None)
            for name, fuser in list(fusers.items()):
                takes_frames = fuser.backend.takes_frames
                try:
                    found = fuser(infrared, visible) if takes_frames else fuser.backend.run(*inputs)
                    errors.setdefault(name, []).append(compare(found, frame if takes_frames else plane))
                    planes[name][index] = fuser(infrared, luminance.y)
                except IrvisError as error:
                    failed[name] = {"failed": f"{pair.infrared.name}: {error}"}
                    del fusers[name]
    fused_folder.mkdir(parents=True, exist_ok=True)
    for name, stack_of_planes in planes.items():
        if name not in failed:
            np.save(fused_folder / f"{data_set.replace('/', '_')}.{name.replace(' ', '_')}.npy", stack_of_planes)
    return {**{name: summarise(own) for name, own in errors.items() if name not in failed}, **failed}


def measure_quality(out: Path) -> None:
    """Compute CC, PSNR, SCD and SSIM of the planes that ``measure_accuracy`` saved; needs scikit-image, but no GPU."""
    from irvis.benchmarks.metrics import published_metrics  # here, since the rest needs no scikit-image

    results = Results(out / "quality.json")
    for data_set in DATA_SETS:
        prefix = data_set.replace("/", "_")
        files = {path.name.split(".")[1]: path for path in sorted((out / "fused").glob(f"{prefix}.*.npy"))}
        inputs = {name: np.load(files.pop(name)) for name in ("infrared", "visible") if name in files}
        for name, path in files.items():
            key = f"{data_set}: {name.replace('_', ' ')}"
            if key in results:
                continue
            rows = [
                published_metrics(*(plane.astype(np.float64) for plane in planes))
                for planes in zip(inputs["infrared"], inputs["visible"], np.load(path))
            ]
            results.put(key, {metric: round(float(np.mean([row[metric] for row in rows])), 6) for metric in rows[0]})
            print(f"{key}: {results[key]}", flush=True)
