"""Probes of packages, run in a process that may crash: ``python -m irvis.benchmarks.doctor.probes NAME``.

The last line printed is JSON: what was found, or the trouble.
"""

import importlib
import json
import os
import re
import sys
import time
from importlib import metadata
from typing import Any, Callable, Dict, List, Optional

from irvis.runtime.errors import FileError, ModelError, one_line

Found = Dict[str, Any]
SMOKE_SIZE = (96, 128)  # (H, W)


def probe_numpy() -> Found:
    """Import numpy, and multiply: a BLAS built for another core crashes the process there at the latest."""
    numpy = importlib.import_module("numpy")
    square = numpy.ones((64, 64), numpy.float32)
    return {"version": numpy.__version__, "sum": float((square @ square).sum())}


def probe_opencv() -> Found:
    """Import OpenCV; return where it is from and whether it has GStreamer."""
    cv2 = importlib.import_module("cv2")
    gstreamer = re.search(r"^\s*GStreamer:\s*(\S.*)$", cv2.getBuildInformation(), re.MULTILINE)
    names = {str(distribution.metadata["Name"]) for distribution in metadata.distributions()}
    return {
        "version": cv2.__version__,
        "file": str(cv2.__file__),
        "gstreamer": gstreamer.group(1).strip() if gstreamer else "NO",
        "wheels": sorted(name for name in names if name.startswith("opencv")),
    }


def probe_tensorrt() -> Found:
    """Import TensorRT's binding."""
    return {"version": importlib.import_module("tensorrt").__version__}


def probe_pycuda() -> Found:
    """Make a CUDA context on the first GPU."""
    from irvis.runtime.gpu import Gpu

    gpu = Gpu()
    version = importlib.import_module("pycuda").VERSION_TEXT
    gpu.release()
    return {"version": version, "gpu": gpu.name, "compute_capability": gpu.compute_capability}


def probe_onnxruntime() -> Found:
    """Import ONNX Runtime; return what it can run on."""
    onnxruntime = importlib.import_module("onnxruntime")
    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def probe_jtop() -> Found:
    """Import jetson-stats, and ask its service."""
    from irvis.benchmarks.machine.jtop_state import read_jtop

    version = importlib.import_module("jtop").__version__
    state = read_jtop()
    return {"version": version, "state": state._asdict() if state is not None else None}


def probe_student() -> Found:
    """Fuse a small generated pair with the student that irvis ships, by ONNX Runtime on the CPU."""
    from irvis.runtime.fuser import Fuser
    from irvis.runtime.providers import CPU_ONLY
    from irvis.runtime.samples import make_scene

    infrared, visible = make_scene("street", *SMOKE_SIZE)
    with Fuser(providers=CPU_ONLY) as fuser:
        fuser(infrared, visible)
        started = time.perf_counter()
        fused = fuser(infrared, visible)
        latency_ms = (time.perf_counter() - started) * 1e3
    low, high = int(fused.min()), int(fused.max())
    if fused.shape != visible.shape or low == high:
        raise ModelError(f"the student returned {fused.dtype} {fused.shape} from {low} to {high} for {visible.shape}")
    return {"size": list(SMOKE_SIZE), "latency_ms": latency_ms, "low": low, "high": high}


def probe_engine(path: str) -> Found:
    """Check an engine against its sidecar, this TensorRT and this GPU, without deserialising it."""
    from irvis.runtime.gpu import Gpu
    from irvis.runtime.sidecar import check_machine, read_engine, read_sidecar
    from irvis.runtime.tensorrt_messages import import_tensorrt

    if os.path.isdir(path):  # such as the root, which has no name to make that of a sidecar from
        raise FileError(f"cannot read engine {path}: it is a folder")
    sidecar = read_sidecar(path)
    read_engine(path, sidecar)
    trt, gpu = import_tensorrt(), Gpu()
    gpu.release()
    check_machine(sidecar, trt.__version__, gpu.name, gpu.compute_capability)
    return {"precision": sidecar.precision, "size": list(sidecar.size), "warning": sidecar.warning}


# Probes by name, which is also the module whose absence means "not installed", unless MODULES names another.
PROBES: Dict[str, Callable[..., Found]] = {
    "numpy": probe_numpy,
    "opencv": probe_opencv,
    "tensorrt": probe_tensorrt,
    "pycuda": probe_pycuda,
    "onnxruntime": probe_onnxruntime,
    "jtop": probe_jtop,
    "student": probe_student,
    "engine": probe_engine,
}
MODULES = {"opencv": "cv2"}  # if the package is imported by another name


def main(argv: List[str]) -> int:
    """Run a probe and print its answer."""
    name, *arguments = argv
    record: Dict[str, Any] = {"found": {}, "trouble": "", "is_missing": False}
    try:
        record["found"] = PROBES[name](*arguments)
    except Exception as error:  # a broken package may raise anything, which is what is probed for
        cause: Optional[BaseException] = error.__cause__ if isinstance(error, ModelError) else error
        if isinstance(cause, ModuleNotFoundError):
            record["is_missing"] = (cause.name or "").split(".")[0] == MODULES.get(name, name)
        ours = type(error).__module__.startswith("irvis.")
        record["trouble"] = one_line(error if ours else f"{type(error).__name__}: {error}")
    print("\n" + json.dumps(record), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
