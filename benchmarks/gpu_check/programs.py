"""The parts that run as separate programs, in PyTorch's interpreter or ours: ``peaks``, ``tests`` and ``train``."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

from irvis.benchmarks.gpu_check.results import Results
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import parse_json

TRAIN_OPTIONS = ("--compile",)  # repays its half minute in a run of 80,000 steps
TAIL = 2000  # characters of a program's output that are kept
STOPPED = 130  # exit code of a program that can be resumed
# Tests marked gpu, by what they need.
TESTS = {
    "TensorRT": ("runtime", "export"),
    "PyTorch": ("student", "benchmarks/test_compare.py", "benchmarks/test_evaluate.py"),
}


def environment_of(python: str) -> Dict[str, str]:
    """Return an environment in which an interpreter finds its own libraries and our irvis."""
    if python == sys.executable:
        return dict(os.environ)
    ours = ("PYTHONHOME", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "PYTHONPATH")
    places = [place for place in sys.path if (Path(place) / "irvis").is_dir()]
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "PYTHONPATH": os.pathsep.join(places)}


def run_program(command: Sequence[str], log: Optional[Path] = None, **variables: str) -> Tuple[int, str]:
    """Run ``PYTHON ARGUMENT ...`` with more environment variables; return its exit code and the end of its output.

    All of the output also goes to ``log``, while the program runs.
    """
    environment = {**environment_of(command[0]), **variables}
    with tempfile.TemporaryFile() if log is None else log.open("wb+") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
        output.seek(0)
        return done.returncode, output.read().decode(errors="replace")[-TAIL:].strip()


def measure_peaks(out: Path, torch_python: Optional[str]) -> None:
    """Measure the GPU's peaks with PyTorch. Raises IrvisError."""
    results = Results(out / "peaks.json")
    if "peaks" in results:
        return
    code, said = run_program([_needed(torch_python), "-m", "irvis.benchmarks.gpu_check.peaks"])
    last = said.splitlines()[-1] if said else ""
    results.put("peaks", parse_json(last.encode()) if code == 0 else {"failed": f"exit {code}: {said}"})
    print(f"peaks: {results['peaks']}", flush=True)


def run_tests(out: Path, tests: Path, torch_python: Optional[str]) -> None:
    """Run each interpreter's tests marked ``gpu``; those that passed are not run again. Raises IrvisError.

    ``tests-NAME.log`` has a line for each test as it ends, in case time runs out.
    """
    if not tests.is_dir():
        raise IrvisError(f"no tests in {tests}; give --tests the folder of this repository's")
    results = Results(out / "tests.json")
    pythons = {"TensorRT": sys.executable, "PyTorch": torch_python}
    for name, python in pythons.items():
        if python is None or name in results:
            continue
        places = [str(tests / place) for place in TESTS[name]]
        command = [python, "-u", "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider", *places]
        # The pytest beside our packages may be older than the plugins that the interpreter brings.
        code, said = run_program(command, out / f"tests-{name}.log", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        results.put(name, {"said": said} if code == 0 else {"failed": f"exit {code}: {said}"})
        print(f"tests of {name}: {(said.splitlines() or [''])[-1].strip('= ')}", flush=True)


def train_students(out: Path, models: Path, torch_python: Optional[str], runs: Sequence[str], seconds: float) -> None:
    """Train the queue of ``irvis.benchmarks.gpu_train`` on ``models``' crops for ``seconds``. Raises IrvisError."""
    if not (models / "crops.npz").exists():
        raise IrvisError(
            f"no crops in {models}: python -m irvis.benchmarks.gpu_train pack {models}/crops.npz MSRS/train"
        )
    command = [_needed(torch_python), "-m", "irvis.benchmarks.gpu_train", "run", str(models / "crops.npz")]
    command += [str(out / "train"), "--teachers", str(models), "--seconds", str(seconds), *TRAIN_OPTIONS]
    code, said = run_program([*command, *(["--runs", *runs] if runs else [])])
    print(said, flush=True)
    if code not in (0, STOPPED):
        raise IrvisError(f"the training failed with {code}: {said[-300:]}")


def _needed(torch_python: Optional[str]) -> str:
    if torch_python is None:
        raise IrvisError("this part needs PyTorch; give --torch-python an interpreter that has it")
    return torch_python
