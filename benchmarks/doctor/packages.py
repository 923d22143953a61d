"""The software: Python, its environment, and each package that irvis may need, as it behaves when imported."""

import re
import subprocess
from typing import List, Tuple

from irvis.benchmarks.doctor.child import Answer
from irvis.benchmarks.doctor.item import ABSENT, FAILURE, OK, WARNING, Item
from irvis.benchmarks.doctor.surroundings import Surroundings
from irvis.benchmarks.machine.board import Board
from irvis.benchmarks.machine.system_files import read_text

JETPACK = "5.1"
JETPACK_PYTHON = (3, 8)  # TensorRT's and OpenCV's bindings are compiled only for it
PYTHONS = ((3, 8), (3, 13))
OLDEST_NUMPY, OLDEST_OPENCV = (1, 21), (4, 5, 4)
SHADOWING = "/usr/lib/python3/dist-packages/"  # Ubuntu's, which Python searches before JetPack's python3.8/
CUDA_PATHS = "export PATH=/usr/local/cuda/bin:$PATH CPATH=/usr/local/cuda/include"
OPENBLAS = "export OPENBLAS_CORETYPE=ARMV8"  # some OpenBLAS mistakes a Jetson for another core, and crashes with SIGILL
JETPACK_OPENCV = "sudo apt install libopencv-python"  # not python3-opencv, which is Ubuntu's 4.2
EVERYTHING = "sudo apt install nvidia-jetpack"  # CUDA, TensorRT, OpenCV: flashing alone installs none of them
# From 7.2 on jetson-stats is a wheel, which does not install its service; on Ubuntu 20.04 it finds the service's files
# only through the variable (https://github.com/rbonghi/jetson_stats/issues/913).
JTOP = "sudo -H pip3 install -U jetson-stats && sudo env VIRTUAL_ENV=/usr/local jtop --install-service"
VENV = "/usr/bin/python3 -m venv --system-site-packages"
# In a new environment, since pip's OpenCV would hide it, and pip's numpy 2 is too new for it. In the checkout.
SYSTEM = "~/irvis-system"
SYSTEMS_OPENCV = (
    f"sudo apt install python3-opencv && {VENV} {SYSTEM} && {SYSTEM}/bin/pip install '.[system]', in the checkout"
)
EXTRA = {True: "pip install 'irvis[jetson]'", False: "pip install 'irvis[cpu]'"}  # by whether it is a Jetson
# Not pip's cached wheel, which was compiled for another CUDA.
COMPILE_PYCUDA = "pip install --force-reinstall --no-cache-dir --no-deps 'pycuda>=2022.2,<2026'"


def check_python(place: Surroundings, board: Board) -> Item:
    """Python's version."""
    found = ".".join(map(str, place.python))
    if board.is_jetson and place.python[:2] != JETPACK_PYTHON:
        return Item("Python", FAILURE, f"{found}: JetPack 5's TensorRT is only for 3.8", f"{VENV} ~/irvis-3.8")
    if not PYTHONS[0] <= place.python[:2] <= PYTHONS[1]:
        return Item("Python", FAILURE, f"{found}, irvis supports 3.8 to 3.13", "python3 -m venv, with one of those")
    return Item("Python", OK, found)


def check_environment(place: Surroundings, board: Board) -> Item:
    """Whether the virtual environment sees what apt installed."""
    if place.venv is None:
        return Item("environment", OK, "the system's Python, no virtual environment")
    settings = read_text(place.venv / "pyvenv.cfg") or ""
    if re.search(r"^include-system-site-packages\s*=\s*true", settings, re.MULTILINE | re.IGNORECASE):
        return Item("environment", OK, f"{place.venv}, which sees the system's packages")
    found = f"{place.venv}, which does not see the system's packages"
    if board.is_jetson:
        # On an existing environment, it changes the setting and keeps the packages.
        return Item("environment", FAILURE, f"{found}: TensorRT and OpenCV are among them", f"{VENV} {place.venv}")
    return Item("environment", OK, found)


def check_jetpack(place: Surroundings, board: Board) -> Item:
    """L4T and JetPack."""
    if not board.is_jetson:
        return Item("JetPack", ABSENT, "no Jetson")
    found = f"JetPack {board.jetpack or 'unknown'}, L4T {board.l4t or 'unknown'}, {board.module or 'unknown module'}"
    if (board.jetpack or "").startswith(JETPACK):
        return Item("JetPack", OK, found)
    return Item("JetPack", WARNING, f"{found}; irvis is made for {JETPACK}", "flash it as docs/jetson.md describes")


def check_numpy(place: Surroundings, board: Board) -> Item:
    """Numpy, and whether TensorRT works with it."""
    pin = "'numpy>=1.21,<1.24'" if board.is_jetson else "'numpy>=1.21'"
    answer = place.ask("numpy")
    if answer.trouble:
        killed = "SIGILL" in answer.trouble and board.is_jetson
        return Item("numpy", FAILURE, _trouble(answer), OPENBLAS if killed else f"pip install {pin}")
    found = answer.found["version"]
    if _version(found) < OLDEST_NUMPY:
        return Item("numpy", FAILURE, f"{found}, irvis needs 1.21", f"pip install {pin}")
    if board.tensorrt and _version(board.tensorrt) < (8, 6) and _version(found) >= (1, 24):
        reason = f"{found}: it has no np.bool, which TensorRT {board.tensorrt} uses"
        return Item("numpy", FAILURE, reason, "pip install 'numpy>=1.21,<1.24'")
    return Item("numpy", OK, found)


def check_opencv(place: Surroundings, board: Board) -> Item:
    """OpenCV, with GStreamer, and not one that hides JetPack's."""
    answer = place.ask("opencv")
    if answer.trouble:
        # The system's, compiled for numpy 1, beside pip's numpy 2.
        mend = "pip install 'numpy<2'" if "numpy.core.multiarray" in answer.trouble else EXTRA[False]
        return Item("OpenCV", FAILURE, _trouble(answer), JETPACK_OPENCV if board.is_jetson else mend)
    version, file, gstreamer = (answer.found[key] for key in ("version", "file", "gstreamer"))
    found = f"{version}, GStreamer {gstreamer}, {file}"
    has_gstreamer = gstreamer.startswith("YES")
    if board.is_jetson and file.startswith(SHADOWING):
        found = f"{found}: Ubuntu's, which hides JetPack's 4.5.4"
        return Item("OpenCV", WARNING, found, f"sudo apt remove python3-opencv && {JETPACK_OPENCV}")
    if board.is_jetson and not has_gstreamer:
        wheels = " ".join(answer.found["wheels"])
        mend = f"pip uninstall {wheels} && {JETPACK_OPENCV}" if wheels else JETPACK_OPENCV
        return Item("OpenCV", FAILURE, f"{found}: pip's, which hides JetPack's" if wheels else found, mend)
    if _version(version) < OLDEST_OPENCV:
        return Item("OpenCV", WARNING, f"{found}; irvis is tested with 4.5.4 and later", EXTRA[False])
    if not has_gstreamer:
        return Item("OpenCV", WARNING, f"{found}: no csi: and gst: cameras", SYSTEMS_OPENCV)
    return Item("OpenCV", OK, found)


def check_tensorrt(place: Surroundings, board: Board) -> Item:
    """TensorRT's library and its Python binding."""
    answer, library = place.ask("tensorrt"), board.tensorrt
    if answer.trouble:
        if not board.is_jetson:
            state = ABSENT if answer.is_missing else WARNING
            return Item("TensorRT", state, f"{_trouble(answer)}; ONNX Runtime serves without it")
        found = f"library {library or 'not installed'}, Python's binding {_trouble(answer)}"
        return Item("TensorRT", FAILURE, found, f"{EVERYTHING} python3-libnvinfer")
    version = answer.found["version"]
    if library and not version.startswith(library):
        found = f"Python's binding is {version}, the library {library}"
        return Item("TensorRT", FAILURE, found, "pip uninstall tensorrt && sudo apt install python3-libnvinfer")
    return Item("TensorRT", OK, version)


def check_cuda(place: Surroundings, board: Board) -> Item:
    """CUDA's toolkit, which pycuda is compiled with."""
    try:
        release = re.search(r"release ([\d.]+)", place.run(["nvcc", "--version"]))
    except (OSError, subprocess.SubprocessError):
        release = None
    if release is not None:
        return Item("CUDA", OK, f"{board.cuda or release.group(1)}, nvcc on PATH")
    if board.cuda is not None:
        return Item("CUDA", WARNING, f"{board.cuda}, but no nvcc on PATH to compile pycuda with", CUDA_PATHS)
    if board.is_jetson:
        return Item("CUDA", WARNING, "no toolkit to compile pycuda with", EVERYTHING)
    return Item("CUDA", ABSENT, "no toolkit")


def check_pycuda(place: Surroundings, board: Board) -> Item:
    """Pycuda, and whether this user can make a context on the GPU."""
    answer = place.ask("pycuda")
    if not answer.trouble:
        version, gpu, capability = (answer.found[key] for key in ("version", "gpu", "compute_capability"))
        return Item("pycuda", OK, f"{version}, {gpu}, compute capability {capability}")
    if not board.is_jetson:
        return Item("pycuda", ABSENT if answer.is_missing else WARNING, _trouble(answer))
    if "cannot use CUDA" in answer.trouble:
        return Item("pycuda", FAILURE, _trouble(answer), "sudo usermod -aG video $USER, then log in again")
    mend = f"{CUDA_PATHS} && {EXTRA[True] if answer.is_missing else COMPILE_PYCUDA}"
    return Item("pycuda", FAILURE, _trouble(answer), mend)


def check_onnxruntime(place: Surroundings, board: Board) -> Item:
    """ONNX Runtime, which runs an ONNX, and is the reference for every engine."""
    answer = place.ask("onnxruntime")
    if answer.trouble:
        return Item("ONNX Runtime", FAILURE, _trouble(answer), EXTRA[board.is_jetson])
    providers = [name.replace("ExecutionProvider", "") for name in answer.found["providers"]]
    return Item("ONNX Runtime", OK, f"{answer.found['version']}: {', '.join(providers)}")


def check_jtop(place: Surroundings, board: Board) -> Item:
    """jetson-stats, which reports the clocks where plain files do not. Optional."""
    if not board.is_jetson:
        return Item("jtop", ABSENT, "no Jetson")
    answer, install = place.ask("jtop"), f"{JTOP}, then reboot"
    if answer.trouble:
        return Item("jtop", ABSENT if answer.is_missing else WARNING, f"{_trouble(answer)} (optional)", install)
    if answer.found["state"] is None:
        # A wheel installs no service, and pip in a virtual environment never does.
        return Item("jtop", WARNING, f"{answer.found['version']}, but its service does not answer", install)
    return Item("jtop", OK, f"{answer.found['version']}, its service answers")


CHECKS = (
    check_python,
    check_environment,
    check_jetpack,
    check_numpy,
    check_opencv,
    check_tensorrt,
    check_cuda,
    check_pycuda,
    check_onnxruntime,
    check_jtop,
)


def check_student(place: Surroundings, lacking: List[str]) -> Item:
    """Whether the shipped student fuses a pair; not tried if a package that it needs is in ``lacking``."""
    needed = [name for name in ("numpy", "OpenCV", "ONNX Runtime") if name in lacking]
    if needed:
        return Item("student", FAILURE, f"not tried without {' and '.join(needed)}")
    answer = place.ask("student")
    if answer.trouble:
        return Item("student", FAILURE, _trouble(answer))
    height, width = answer.found["size"]
    found = f"fused {height}x{width} on the CPU in {answer.found['latency_ms']:.0f} ms"
    return Item("student", OK, f"{found}, levels {answer.found['low']} to {answer.found['high']}")


def check_engine(place: Surroundings, path: str) -> Item:
    """An engine, checked against its sidecar, this TensorRT and this GPU."""
    answer = place.ask("engine", path)
    if answer.trouble:
        return Item("engine", FAILURE, answer.trouble)
    height, width = answer.found["size"]
    found = f"{answer.found['precision'].upper()}, {height}x{width}, for this TensorRT and this GPU"
    if answer.found["warning"]:
        return Item("engine", WARNING, f"{found}; it {answer.found['warning']}")
    return Item("engine", OK, found)


def _trouble(answer: Answer) -> str:
    return "not installed" if answer.is_missing else answer.trouble


def _version(text: str) -> Tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:3]))
