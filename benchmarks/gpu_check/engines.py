"""The engines of a GPU check, and its part ``build``: each is built by the command that a user types."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from irvis.benchmarks.gpu_check.programs import run_program
from irvis.benchmarks.gpu_check.results import Results
from irvis.runtime.shipped import NAMES, find_model
from irvis.runtime.sidecar import read_sidecar
from irvis.runtime.sizes import DEFAULT_SIZE, format_size

# Each of these libraries is larger than everything else together, so a machine prepared for the check lacks them.
WITHOUT_LIBRARIES = "--tactic-sources=-CUBLAS,-CUBLAS_LT,-CUDNN"
PEERS = ("SeAFusion", "SFDFusion", "SHIP", "DATFuse")


class EngineSpec(NamedTuple):
    """One engine: what it is built from, and how."""

    name: str
    onnx: str  # file name in the models' folder, or the name of a student that irvis ships
    options: Tuple[str, ...]
    size: Tuple[int, int] = DEFAULT_SIZE

    @property
    def student(self) -> Optional[str]:
        """The shipped student that it computes, or None."""
        name = "student" if self.onnx == PLAIN else self.onnx
        return name if name in NAMES else None


def onnx_of(probe: str) -> str:
    """Return the file name of a probe's ONNX."""
    return f"{probe.replace(' ', '_')}.onnx"


PLAIN = "student_plain.onnx"
CALIBRATE = ("--int8", "--calibrate", "MSRS/train")

FRAMES = "--frames"  # explicit, so that a failure is reported, rather than an engine of planes built instead

# Parts of the deploy form, each in several variants; see ``probes``.
PROBES = (
    "probe attention",
    "probe attention folded",
    "probe attention grouped",
    "probe attention grams by a product",
    "probe attention grams in two steps",
    "probe DACB",
    "probe DACB pooled",
    "probe DACB columns first",
    "probe DACB by a product",
)

# Most important first, in case time runs out.
ENGINES = (
    EngineSpec("deploy planes FP16", "student", ("--planes", "--profile")),
    EngineSpec("deploy planes FP32", "student", ("--planes", "--fp32", "--profile")),
    EngineSpec("deploy frames FP16", "student", (FRAMES,)),
    EngineSpec("fast planes FP16", "fast", ("--planes", "--profile")),
    EngineSpec("fast frames FP16", "fast", (FRAMES,)),
    EngineSpec("plain planes FP16", PLAIN, ("--planes", "--force")),
    EngineSpec("deploy planes INT8", "student", (*CALIBRATE, "--planes", "--force", "--profile")),
    EngineSpec("fast planes INT8", "fast", (*CALIBRATE, "--planes", "--force", "--profile")),
    EngineSpec("SeAFusion planes FP16", "SeAFusion.onnx", ("--planes", "--force")),
    EngineSpec("deploy planes FP16 without pins", "student", ("--planes", "--no-pins", "--force", "--profile")),
    EngineSpec("plain planes FP32", PLAIN, ("--planes", "--fp32")),
    EngineSpec("plain planes FP16 without pins", PLAIN, ("--planes", "--no-pins", "--force")),
    EngineSpec("deploy frames INT8", "student", (*CALIBRATE, FRAMES, "--force")),
    EngineSpec("deploy frames FP32", "student", ("--fp32", FRAMES)),
    EngineSpec("deploy planes FP16 240x320", "student", ("--planes",), (240, 320)),
    EngineSpec("deploy planes FP16 1024x1280", "student", ("--planes",), (1024, 1280)),
    EngineSpec("SFDFusion planes FP16", "SFDFusion.onnx", ("--planes", "--force")),
    EngineSpec("DATFuse planes FP16", "DATFuse.onnx", ("--planes", "--force")),
    EngineSpec("SHIP planes FP16", "SHIP.onnx", ("--planes", "--force")),
    *(EngineSpec(name, onnx_of(name), ("--planes", "--force", "--profile")) for name in PROBES),
)


def engine_path(out: Path, name: str) -> Path:
    """Return the path of an engine."""
    return out / "engines" / f"{name.replace(' ', '_')}.engine"


def built(out: Path) -> List[EngineSpec]:
    """Return the engines that exist."""
    return [spec for spec in ENGINES if engine_path(out, spec.name).exists()]


def build_engines(out: Path, data: Path, models: Path, names: List[str], left_s: Callable[[], float]) -> None:
    """Build the missing engines, all or those in ``names``, while time is left; failures are recorded."""
    results = Results(out / "build.json")
    (out / "engines").mkdir(parents=True, exist_ok=True)
    for spec in ENGINES:
        if (names and spec.name not in names) or spec.name in results:
            continue
        if left_s() <= 0:
            print(f"no time left to build {spec.name}", flush=True)
            continue
        results.put(spec.name, build(spec, out, data, models))
        found = results[spec.name]
        print(f"{spec.name}: {found.get('failed') or found['said'].splitlines()[-1]}", flush=True)


def build(spec: EngineSpec, out: Path, data: Path, models: Path) -> Dict[str, Any]:
    """Build one engine; return its sidecar, the seconds and the end of the output, or why it failed."""
    onnx = find_model(spec.onnx) if spec.onnx in NAMES else models / spec.onnx
    engine = engine_path(out, spec.name)
    options = [str(data / option) if option == "MSRS/train" else option for option in spec.options]
    options += ["--calibration-cache", str(engine.with_suffix(".calibration"))] if "--int8" in options else []
    command = [sys.executable, "-m", "irvis.export.build_engine", str(onnx), "-o", str(engine), *options]
    command += ["--size", format_size(spec.size), WITHOUT_LIBRARIES, "--timing-cache", str(out / "timing.cache")]
    if not onnx.exists():
        return {"failed": f"{onnx} not found"}
    begun = time.monotonic()
    code, said = run_program(command)
    if code != 0:
        return {"failed": f"exit {code}: {said}"}
    return {
        "command": " ".join(command[3:]),
        "seconds": round(time.monotonic() - begun, 1),
        "engine_bytes": engine.stat().st_size,
        "sidecar": asdict(read_sidecar(engine)),
        "said": said,
    }
