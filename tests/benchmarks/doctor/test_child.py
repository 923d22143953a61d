"""Real packages that are broken in real ways, asked about in real processes."""

import subprocess
import sys

import pytest

from irvis.benchmarks.doctor.child import Answer, ask_child


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put a module of that name and source before all others."""

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "ended Python by SIGILL"),
        ("import ctypes; ctypes.string_at(0)", "ended Python by SIGSEGV"),
        ("import sys; sys.exit('no licence')", "ended Python with exit code 1: no licence"),
        ("import os; os._exit(3)", "ended Python with exit code 3: and said nothing"),
        ("raise ImportError('libcudart.so.11.0: cannot open')", "ImportError: libcudart.so.11.0: cannot open"),
        ("import not_installed_either", "ModuleNotFoundError: No module named 'not_installed_either'"),
        ("__version__ = '9'", "AttributeError: module 'numpy' has no attribute 'ones'"),
    ],
)
def test_a_broken_numpy_is_a_line(package, source, trouble):
    package("numpy", source)
    assert ask_child("numpy") == Answer({}, trouble)


def test_an_import_that_never_ends_is_given_up(package):
    package("tensorrt", "import time; time.sleep(600)")
    assert ask_child("tensorrt", time_limit_s=1.5) == Answer({}, "gave no answer in 1.5 s")


def test_a_package_that_is_not_there_is_missing(package):
    package("numpy", "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')")
    assert ask_child("numpy").is_missing


def test_what_a_package_prints_is_passed_over(package):
    package("tensorrt", "print('{\"found\": 1}'); __version__ = '8.5.2.2'")
    assert ask_child("tensorrt") == Answer({"version": "8.5.2.2"})


def test_the_packages_that_are_here(monkeypatch, tmp_path):
    import numpy

    (tmp_path / "numpy.py").write_text("raise ImportError('of the folder of the moment')")
    monkeypatch.chdir(tmp_path)
    assert ask_child("numpy") == Answer({"version": numpy.__version__, "sum": 64.0**3})
    cv2 = pytest.importorskip("cv2")
    found = ask_child("opencv").found
    assert (found["version"], found["file"]) == (cv2.__version__, cv2.__file__)
    assert found["gstreamer"].startswith(("YES", "NO"))


def test_the_shipped_student_fuses_a_pair():
    pytest.importorskip("onnxruntime")
    found = ask_child("student").found
    assert found["size"] == [96, 128]
    assert 0 <= found["low"] < found["high"] <= 255
    assert found["latency_ms"] > 0


def test_a_folder_is_no_engine(tmp_path):
    for folder in ("/", tmp_path):
        assert ask_child("engine", str(folder)) == Answer({}, f"cannot read engine {folder}: it is a folder")


def test_an_engine_without_its_sidecar_or_with_other_bytes_is_refused(tmp_path):
    from irvis.runtime.sidecar import Sidecar, write_sidecar

    engine = tmp_path / "student.engine"
    engine.write_bytes(b"not what was built")
    assert ask_child("engine", str(engine)).trouble.startswith(f"sidecar not found: {engine}.json")
    specs = {"x": {"shape": [1], "dtype": "uint8"}}
    built = ("a.onnx", "8.5.2.2", "Xavier", "7.2", "fp16", specs, specs, (8, 8), {}, 1.0, None, "0.1.0")
    write_sidecar(engine, Sidecar("0" * 64, "0" * 64, *built))
    assert "engine is corrupt or was replaced" in ask_child("engine", str(engine)).trouble


def test_the_doctor_itself_imports_nothing_that_may_be_broken():
    code = "import sys, irvis.benchmarks.doctor.command; print(sorted({'numpy', 'cv2', 'tqdm'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
