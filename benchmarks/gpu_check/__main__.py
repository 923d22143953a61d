"""The command line of the GPU check; see ``--help``."""

import argparse
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from irvis.benchmarks.gpu_check.accuracy import measure_accuracy, measure_quality
from irvis.benchmarks.gpu_check.endurance import check_endurance, measure_runtime
from irvis.benchmarks.gpu_check.engines import ENGINES, build_engines
from irvis.benchmarks.gpu_check.latency import measure_latency
from irvis.benchmarks.gpu_check.machine import describe_machine
from irvis.benchmarks.gpu_check.programs import measure_peaks, run_tests, train_students
from irvis.benchmarks.gpu_check.results import Results
from irvis.runtime.cli import guarded
from irvis.runtime.errors import IrvisError

PARTS = ("build", "accuracy", "latency", "runtime", "endurance", "peaks", "tests", "train", "quality")
DESCRIPTION = """Checks that need an NVIDIA GPU with TensorRT, part by part; each resumes where it was stopped.

build: engines of the student, plain and deploy, in FP32, FP16 and INT8, and of peers, by build_engine.py.
accuracy: each engine against the ONNX in FP32 on TNO, RoadScene/test and MSRS/test.
latency: engines and PyTorch in turn. runtime: the stages of a Fuser's call, and bench.py at a camera's rate.
endurance: 50,000 frames, 100 openings, two Fusers at once, Ctrl-C.
peaks: the GPU's peak rates. tests: the tests marked gpu. train: the queue of gpu_train, on MODELS/crops.npz.
quality: CC, PSNR, SCD and SSIM of what accuracy fused; needs scikit-image, but no GPU."""


def main(argv: Optional[List[str]] = None) -> int:
    """Run the chosen parts; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="gpu_check", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for engines and results (PART.json)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with TNO, MSRS and RoadScene")
    parser.add_argument(
        "--models", type=Path, default=Path("models"), help="folder with student_plain.onnx, peers' ONNX and weights"
    )
    parser.add_argument("--torch-python", help="interpreter with PyTorch, for latency, peaks, tests and train")
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        choices=[spec.name for spec in ENGINES],
        help="build only this; may be repeated",
    )
    parser.add_argument(
        "--run", action="append", default=[], help="what to train, as for gpu_train's --runs; may be repeated"
    )
    parser.add_argument("--tests", type=Path, default=Path("tests"), help="folder of the tests (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="start no part and no build after these, and end training then"
    )
    arguments = parser.parse_args(argv)
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return guarded("gpu_check", lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Run the parts in order. Raises IrvisError after the last if one of them failed as a whole."""
    out, torch_python, begun = arguments.out, arguments.torch_python, time.monotonic()

    def left_s() -> float:
        return arguments.seconds - (time.monotonic() - begun)

    if torch_python is not None and shutil.which(torch_python) is None:
        raise IrvisError(f"--torch-python {torch_python} is no program; give the path of a Python that has PyTorch")
    out.mkdir(parents=True, exist_ok=True)
    Results(out / "machine.json").put("machine", describe_machine())
    parts: Dict[str, Any] = {
        "build": lambda: build_engines(out, arguments.data, arguments.models, arguments.engine, left_s),
        "accuracy": lambda: measure_accuracy(out, arguments.data),
        "latency": lambda: measure_latency(out, arguments.models, torch_python),
        "runtime": lambda: measure_runtime(out),
        "endurance": lambda: check_endurance(out),
        "peaks": lambda: measure_peaks(out, torch_python),
        "tests": lambda: run_tests(out, arguments.tests, torch_python),
        "train": lambda: train_students(out, arguments.models, torch_python, arguments.run, left_s()),
        "quality": lambda: measure_quality(out),
    }
    failed = []
    for name in PARTS:
        if name not in (arguments.parts or PARTS):
            continue
        if left_s() <= 0:
            print(f"no time left for {name}", flush=True)
            continue
        started = time.monotonic()
        try:
            parts[name]()
        except IrvisError as error:
            failed.append(f"{name}: {error}")
        print(f"{name} took {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        raise IrvisError("; ".join(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
