"""The parts that run programs, with this interpreter in the place of both."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irvis.benchmarks.gpu_check import programs
from irvis.benchmarks.gpu_check.__main__ import main
from irvis.benchmarks.gpu_check.programs import environment_of, measure_peaks, run_tests, train_students
from irvis.runtime.errors import IrvisError

PASSES = "import pytest\n@pytest.mark.gpu\ndef test_gpu(): pass\ndef test_other(): assert False\n"


def found(path: Path) -> dict:
    return json.loads(path.read_text())["found"]


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A folder of tests with its own options, one test in it marked gpu."""
    folder = tmp_path / "tests"
    for name in ("runtime", "export", "student"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: on a GPU\n")
    (folder / "runtime/test_it.py").write_text(PASSES)
    return folder


def test_another_interpreter_finds_irvis_and_its_own_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "irvis").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("PYTHONHOME", "LD_LIBRARY_PATH", "PYTHONPATH", "KEPT"):
        monkeypatch.setenv(name, "ours")
    environment = environment_of("/usr/bin/other")
    assert environment["PYTHONPATH"].split(":")[0] == str(tmp_path)
    assert environment["KEPT"] == "ours"
    assert "PYTHONHOME" not in environment
    assert "LD_LIBRARY_PATH" not in environment
    assert environment_of(sys.executable) == os.environ


def test_the_marked_tests_are_run_once(tests: Path, tmp_path: Path) -> None:
    run_tests(tmp_path, tests, None)
    assert "test_it.py::test_gpu PASSED" in found(tmp_path / "tests.json")["TensorRT"]["said"]
    (tests / "runtime/test_it.py").write_text(PASSES.replace("pass", "assert False"))
    run_tests(tmp_path, tests, None)  # what passed is not run again
    assert "failed" not in found(tmp_path / "tests.json")["TensorRT"]


def test_plugins_of_another_pytest_are_left_alone(tests: Path, tmp_path: Path) -> None:
    asserts = "def test_gpu(): assert os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] == '1'"
    (tests / "runtime/test_it.py").write_text(f"import os, pytest\n@pytest.mark.gpu\n{asserts}\n")
    run_tests(tmp_path, tests, None)
    assert "said" in found(tmp_path / "tests.json")["TensorRT"]


def test_tests_that_fail_are_told_and_run_again(tests: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tests / "runtime/test_it.py").write_text(PASSES.replace("pass", "assert False"))
    run_tests(tmp_path, tests, None)
    assert "test_it.py::test_gpu FAILED" in found(tmp_path / "tests.json")["TensorRT"]["failed"]
    assert "1 failed" in capsys.readouterr().out
    (tests / "runtime/test_it.py").write_text(PASSES)
    run_tests(tmp_path, tests, None)
    assert "said" in found(tmp_path / "tests.json")["TensorRT"]


def test_what_passed_before_the_time_ran_out_is_kept(tests: Path, tmp_path: Path) -> None:
    hangs = "@pytest.mark.gpu\ndef test_second():\n    import time; time.sleep(600)\n"
    (tests / "runtime/test_it.py").write_text(PASSES + hangs)
    command = [sys.executable, "-m", "irvis.benchmarks.gpu_check", str(tmp_path), "tests", "--tests", str(tests)]
    running, log = subprocess.Popen(command), tmp_path / "tests-TensorRT.log"
    try:
        limit_s = time.monotonic() + 60
        while not (log.exists() and "test_second" in log.read_text()):
            assert running.poll() is None
            assert time.monotonic() < limit_s
            time.sleep(0.05)
    finally:
        running.terminate()
        running.wait(60)
    assert "test_it.py::test_gpu PASSED" in log.read_text()


def test_without_tests_or_pytorch_it_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(IrvisError, match="give --tests the folder"):
        run_tests(tmp_path, tmp_path / "none", None)
    with pytest.raises(IrvisError, match="give --torch-python an interpreter"):
        measure_peaks(tmp_path, None)
    with pytest.raises(IrvisError, match="gpu_train pack"):
        train_students(tmp_path, tmp_path, None, [], 1)


def test_peaks_without_a_gpu_are_a_failure_that_is_kept(tmp_path: Path) -> None:
    measure_peaks(tmp_path, sys.executable)
    assert found(tmp_path / "peaks.json")["peaks"]["failed"].startswith("exit 1")


def test_students_are_trained_on_the_packed_crops(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(programs, "TRAIN_OPTIONS", ())  # to compile takes a minute on a CPU
    from irvis.benchmarks import gpu_train
    from irvis.runtime.pairs import pairs_of
    from irvis.student.checkpoint import read_metadata
    from irvis.student.crop_pack import write_pack

    options = {"crops": 4, "crop_side": 16, "batch": 2, "steps": 3}
    (tmp_path / "runs.json").write_text(json.dumps([{"name": "small", "options": options}]))
    runs = [str(tmp_path / "runs.json")]
    write_pack(tmp_path / "crops.npz", pairs_of(samples), [run.config for run in gpu_train.runs_of(runs)], {})
    train_students(tmp_path, tmp_path, sys.executable, runs, 300)
    assert json.loads(read_metadata(tmp_path / "train/small.safetensors")["training"])["steps"] == 3


def test_nothing_is_started_after_the_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path / "out"), "build", "tests", "--seconds", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == ["no time left for build", "no time left for tests"]


def test_a_python_that_is_not_there_is_told_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path / "out"), "peaks", "tests", "--torch-python", str(tmp_path / "python")]) == 1
    assert "is no program; give the path of a Python that has PyTorch" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_part_that_fails_does_not_keep_the_next_from_running(
    tmp_path: Path, tests: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([str(tmp_path / "out"), "runtime", "tests", "--tests", str(tests)]) == 1
    said = capsys.readouterr()
    assert "tests of TensorRT: 1 passed" in said.out
    assert "runtime: no engine to run" in said.err
