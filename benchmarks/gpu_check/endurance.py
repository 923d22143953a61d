"""Parts ``runtime`` and ``endurance``: what a Fuser's call takes; many frames, many openings, two at once, Ctrl-C."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from irvis.benchmarks.gpu_check.engines import engine_path
from irvis.benchmarks.gpu_check.programs import run_program
from irvis.benchmarks.gpu_check.results import Results
from irvis.benchmarks.latency import measure, summarize
from irvis.benchmarks.machine.nvml import open_gpu
from irvis.runtime.errors import IrvisError
from irvis.runtime.fuser import Fuser
from irvis.runtime.gpu import Gpu
from irvis.runtime.samples import make_scene
from irvis.runtime.tensorrt_messages import import_tensorrt, tensorrt_logger

ENGINES = (  # the first found
    "deploy frames FP16",
    "deploy planes FP16",
    "fast frames FP16",
    "fast planes FP16",
    "deploy planes FP32",
)
FAST = "fast frames FP16"
FRAMES, CYCLES, SAMPLES = 50_000, 100, 50
Check = Callable[[Path], Dict[str, Any]]  # of an engine
# A process that a shell started in the background ignores SIGINT, and its children inherit that.
LOOP = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from irvis.runtime.fuser import Fuser
from irvis.runtime.samples import make_scene
with Fuser(sys.argv[1]) as fuser:
    frames = make_scene("street", *fuser.size)
    fuser(*frames)
    print("running", flush=True)
    while True:
        fuser(*frames)
"""


def measure_runtime(out: Path) -> None:
    """Time the stages of a call and the loop of a camera; the GPU must have nothing else to do."""
    engines = _engines_in(out)
    runs: List[Tuple[str, Check, Path]] = [
        ("stages", _stages, engines[0]),
        ("bench at 30 Hz", _bench, engines[0]),
    ]
    fast = engine_path(out, FAST)
    if fast.exists():  # in addition to the student's
        runs[1:1] = [("stages of the fast student", _stages, fast)]
        runs.append(("bench at 30 Hz of the fast student", _bench, fast))
    _run(out / "runtime.json", runs)


def check_endurance(out: Path) -> None:
    """Run what takes many frames or openings; it may run beside other programs, since its times are no latencies."""
    checks: Dict[str, Check] = {
        "two at once": _two,
        "interrupted": _interrupted,
        "cycles": _cycles,
        "cycles of TensorRT alone": _cycles_of_tensorrt,
        "frames": partial(_frames, samples=out / "frames.csv"),  # last, since it takes minutes
    }
    engine = _engines_in(out)[0]
    _run(out / "endurance.json", [(name, check, engine) for name, check in checks.items()])


def _engines_in(out: Path) -> List[Path]:
    """Return those of ``ENGINES`` that exist. Raises IrvisError if none does."""
    engines = [path for path in (engine_path(out, name) for name in ENGINES) if path.exists()]
    if not engines:
        raise IrvisError(f"no engine to run in {out}: build one of {', '.join(ENGINES)} first")
    return engines


def _run(path: Path, runs: List[Tuple[str, Check, Path]]) -> None:
    """Run the checks that are not done yet; save what they found in ``path``."""
    results = Results(path)
    for name, check, engine in runs:
        if name not in results:
            try:
                results.put(name, {"engine": engine.name, **check(engine)})
            except Exception as error:  # the other checks go on
                results.put(name, {"failed": " ".join(f"{type(error).__name__}: {error}".split())})
        print(f"{name}: {results[name]}", flush=True)


def _stages(engine: Path) -> Dict[str, Any]:
    """Time every stage of a call, for colour frames with 8-bit and with 16-bit infrared, which the host prepares."""
    found = {}
    with Fuser(engine) as fuser:
        assert fuser.size is not None
        infrared, visible = make_scene("street", *fuser.size)
        counts = 7000 + 3 * infrared.astype(np.uint16)
        for name, frames in (("8 bits, colour", (infrared, visible)), ("16 bits, colour", (counts, visible))):
            latencies = measure(fuser, frames[0], frames[1], iterations=1000, warmup=100)
            found[name] = {
                stage: {"p50": summary.p50_ms, "p99": summary.p99_ms, "max": summary.max_ms}
                for stage, values in latencies.items()
                if values
                for summary in [summarize(values)]
            }
    return found


def _bench(engine: Path) -> Dict[str, Any]:
    """Run ``bench.py`` on 300 frames as from a camera at 30 Hz; return its report: latency, energy, clocks."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["--engine", str(engine), "--rate", "30", "--iterations", "300", "--json", str(report)]
        code, said = run_program([sys.executable, "-m", "irvis.benchmarks.bench", *command])
        if code != 0:
            raise IrvisError(f"bench.py ended with {code}: {said}")
        return {"report": json.loads(report.read_text()), "said": said}


def _frames(engine: Path, samples: Path) -> Dict[str, Any]:
    """Fuse 50,000 frames; return host and GPU memory, descriptors and mean latency, sampled after each fiftieth.

    Each sample is also written to ``samples``, a CSV, at once: what was seen remains if the time runs out.
    """
    rows: List[Dict[str, float]] = []
    with Fuser(engine) as fuser, samples.open("w", newline="") as file:
        assert fuser.size is not None
        frames = make_scene("street", *fuser.size)
        out = np.empty_like(frames[1])
        for _ in range(SAMPLES):
            begun = time.perf_counter()
            for _ in range(FRAMES // SAMPLES):
                fuser(*frames, out=out)
            mean_ms = (time.perf_counter() - begun) * 1e3 / (FRAMES // SAMPLES)
            row = {**_in_use(), "mean_ms": round(mean_ms, 4)}
            writer = csv.DictWriter(file, row)
            if not rows:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            rows.append(row)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        "count": FRAMES,
        **{f"{name} first, last": [values[0], values[-1]] for name, values in columns.items()},
        **{f"{name} least, most": [min(values), max(values)] for name, values in columns.items()},
    }


def _cycles(engine: Path) -> Dict[str, Any]:
    """Open the engine, fuse a pair and close it, 100 times."""

    def cycle() -> None:
        with Fuser(engine) as fuser:
            assert fuser.size is not None
            fuser(*make_scene("street", *fuser.size))

    return _grown(cycle)


def _cycles_of_tensorrt(engine: Path) -> Dict[str, Any]:
    """Load the engine, create its context and free both, using only the GPU's context from our code."""
    trt, content = import_tensorrt(), engine.read_bytes()

    def cycle() -> None:
        gpu = Gpu()
        try:
            runtime = trt.Runtime(tensorrt_logger())
            with gpu.current():
                loaded = runtime.deserialize_cuda_engine(content)
                context = loaded.create_execution_context()
                del context, loaded, runtime
        finally:
            gpu.release()

    return _grown(cycle)


def _grown(cycle: Callable[[], None]) -> Dict[str, Any]:
    """Return host and GPU memory, and descriptors, after 1, 10, 50 and 100 cycles."""
    rows = []
    begun = time.perf_counter()
    for _ in range(CYCLES):
        cycle()
        rows.append(_in_use())
    return {
        "count": CYCLES,
        "seconds_a_cycle": round((time.perf_counter() - begun) / CYCLES, 4),
        **{f"{name} after 1, 10, 50, 100": [rows[at][name] for at in (0, 9, 49, 99)] for name in rows[0]},
    }


def _two(engine: Path) -> Dict[str, Any]:
    """Compare the outputs of two Fusers used in turn in one thread with those of each alone."""
    with Fuser(engine) as one, Fuser(engine) as other:
        assert one.size is not None
        scenes = [make_scene(name, *one.size) for name in ("street", "smoke")]
        alone = [one(*scene) for scene in scenes]
        differences = [
            int(np.abs(fused.astype(int) - wanted).max())
            for _ in range(20)
            for fused, wanted in ((one(*scenes[0]), alone[0]), (other(*scenes[1]), alone[1]))
        ]
    return {"runs": len(differences), "largest_difference": max(differences)}


def _interrupted(engine: Path) -> Dict[str, Any]:
    """Send Ctrl-C to a process in the loop; return how and how fast it ends, and the GPU memory in use."""
    before = _device_bytes()
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(engine)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        during = _device_bytes()
        time.sleep(1)
        begun = time.perf_counter()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        seconds = time.perf_counter() - begun
    finally:
        process.kill()  # what ignored Ctrl-C would hold memory that the next checks count
        process.wait()
    time.sleep(1)
    return {
        "exit": process.returncode,
        "seconds": round(seconds, 3),
        "last_line": said.decode(errors="replace").strip().splitlines()[-1:],
        "device_bytes before, during, after": [before, during, _device_bytes()],
    }


def _in_use() -> Dict[str, float]:
    own = _own_device_bytes()
    device_bytes = _device_bytes() if own is None else own
    return {"host_bytes": _host_bytes(), "device_bytes": device_bytes, "descriptors": _descriptors()}


def _host_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _device_bytes() -> int:
    """Return the GPU memory in use by all processes."""
    gpu = Gpu()
    try:
        with gpu.current():
            free, total = gpu.cuda.mem_get_info()
    finally:
        gpu.release()
    return int(total - free)


def _own_device_bytes() -> Optional[int]:
    """Return the GPU memory in use by this process, or None where NVML does not tell it, as on a Jetson."""
    gpu = open_gpu()
    if gpu is None:
        return None
    try:
        return gpu.bytes_of(os.getpid())
    except OSError:
        return None
    finally:
        gpu.close()
