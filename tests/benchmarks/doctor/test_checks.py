import os
import shlex
from pathlib import Path

import pytest

from irvis.benchmarks.doctor.child import Answer
from irvis.benchmarks.doctor.command import examine
from irvis.benchmarks.doctor.packages import COMPILE_PYCUDA, JTOP
from irvis.benchmarks.doctor.surroundings import read_surroundings_board

GPU_ZONE = "sys/class/thermal/thermal_zone1/temp"


def look(place, engine=None):
    return {item.name: item for item in examine(place, read_surroundings_board(place), engine)}


def states(items):
    return {name: item.state for name, item in items.items()}


def test_a_healthy_xavier_has_nothing_to_mend(recorded, machines):
    jtop = {"version": "4.2.12", "state": {"mode_name": "MAXN", "mode_id": 0, "jetson_clocks": True}}
    items = look(recorded.xavier(answers={"jtop": Answer(jtop)}))
    assert states(items) == dict.fromkeys(items, "ok")
    assert len(items) == 18
    assert [item.mend for item in items.values()] == [""] * len(items)
    assert items["JetPack"].found == "JetPack 5.1.2, L4T 35.4.1, Jetson-AGX"
    assert items["CUDA"].found == "11.4.19, nvcc on PATH"
    assert items["pycuda"].found == "2022.2.2, Xavier, compute capability 7.2"
    assert items["power mode"].found == "MAXN (id 0)"
    assert items["clocks"].found == "locked, GPU at 1377 MHz, only root can read the memory's"
    assert items["temperature"].found == "42 °C at the hottest, CPU-therm"
    assert items["memory"].found == "27.5 of 31.0 GiB free, 15.0 GiB of zram"
    assert items["disk"].found == "7.0 GiB free in the home folder"
    assert items["cameras"].found == "/dev/video0 vi-output, imx274 30-001a, /dev/video1 Boson: FLIR Video"
    assert items["student"].found == "fused 96x128 on the CPU in 61 ms, levels 0 to 255"


def test_a_xavier_with_everything_wrong_is_told_how_to_mend_each(recorded, monkeypatch):
    wheel = {"version": "4.11.0", "file": "/x/cv2/__init__.py", "gstreamer": "NO", "wheels": ["opencv-python"]}
    answers = {
        "numpy": Answer({}, "ended Python by SIGILL"),
        "opencv": Answer(wheel),
        "tensorrt": recorded.missing,
        "pycuda": recorded.missing,
        "onnxruntime": Answer({}, "ImportError: libgomp.so.1: cannot allocate memory in static TLS block"),
        "engine": Answer({}, "the engine was built with TensorRT 8.4.1: build it here with `build_engine.py`"),
    }
    files = {
        "usr/local/cuda/version.json": None,
        "home/rover/irvis/pyvenv.cfg": "include-system-site-packages = false\n",
        "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so": None,
        "proc/meminfo": recorded.meminfo(31, 0.4, 0),
        "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29689809\n",
        GPU_ZONE: 91500,
    }
    commands = {"nvcc": None, "df": recorded.df.format(1 << 20), "systemctl": "inactive\n"}
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may open everything
    place = recorded.xavier(files, commands, answers, mode=2, locked=False)._replace(python=(3, 10, 2))
    items = look(place, place.root / "student.engine")
    venv = "/usr/bin/python3 -m venv --system-site-packages"
    video = "sudo usermod -aG video $USER, then log in again"
    cuda = "export PATH=/usr/local/cuda/bin:$PATH CPATH=/usr/local/cuda/include"
    assert {name: (item.state, item.mend) for name, item in items.items()} == {
        "Python": ("failure", f"{venv} ~/irvis-3.8"),
        "environment": ("failure", f"{venv} {place.venv}"),
        "JetPack": ("warning", "flash it as docs/jetson.md describes"),
        "numpy": ("failure", "export OPENBLAS_CORETYPE=ARMV8"),
        "OpenCV": ("failure", "pip uninstall opencv-python && sudo apt install libopencv-python"),
        "TensorRT": ("failure", "sudo apt install nvidia-jetpack python3-libnvinfer"),
        "CUDA": ("warning", "sudo apt install nvidia-jetpack"),
        "pycuda": ("failure", f"{cuda} && pip install 'irvis[jetson]'"),
        "ONNX Runtime": ("failure", "pip install 'irvis[jetson]'"),
        "jtop": ("warning", f"{JTOP}, then reboot"),
        "power mode": ("warning", "sudo nvpmodel -m 0"),
        "clocks": ("warning", "sudo jetson_clocks, after setting the power mode"),
        "temperature": ("warning", "sudo jetson_clocks --fan"),
        "memory": ("failure", "sudo systemctl isolate multi-user.target, which ends the desktop"),
        "disk": ("warning", "sudo apt clean; pip cache purge"),
        "cameras": ("failure", video),
        "CSI": ("warning", "sudo apt install nvidia-l4t-gstreamer"),
        "student": ("failure", ""),
        "engine": ("failure", ""),
    }
    assert items["power mode"].found == "power mode is MODE_15W (id 2), not MAXN"
    assert items["clocks"].found == "clocks are free to move: GPU, CPU"
    assert items["temperature"].found == "slowed down: GPU-therm at 92 °C, its trip point is 86"
    assert items["student"].found == "not tried without numpy and OpenCV and ONNX Runtime"


def test_a_workstation_needs_no_jetson(recorded):
    items = look(recorded.workstation())
    absent = ("JetPack", "TensorRT", "CUDA", "pycuda", "jtop", "power mode", "clocks", "temperature", "cameras", "CSI")
    assert states(items) == {
        **dict.fromkeys(("Python", "environment", "numpy", "ONNX Runtime", "memory", "disk", "student"), "ok"),
        **dict.fromkeys(absent, "not here"),
        "OpenCV": "warning",
    }
    assert items["OpenCV"].found.endswith(": no csi: and gst: cameras")
    # An environment that sees the system's OpenCV does not use it as long as it holds pip's.
    assert "--system-site-packages ~/irvis-system && ~/irvis-system/bin/pip install '.[system]'" in items["OpenCV"].mend


def test_the_systems_opencv_beside_pips_numpy_is_mended_by_an_older_numpy(recorded):
    # pip install 'irvis[cpu]' would bring back the OpenCV without GStreamer.
    trouble = "ImportError: numpy.core.multiarray failed to import"
    item = look(recorded.workstation(answers={"opencv": Answer({}, trouble)}))["OpenCV"]
    assert (item.state, item.mend) == ("failure", "pip install 'numpy<2'")


@pytest.mark.parametrize(
    ("probe", "answer", "state", "found", "mend"),
    [
        (
            "numpy",
            Answer({"version": "1.24.4"}),
            "failure",
            "which TensorRT 8.5.2 uses",
            "numpy>=1.21,<1.24",
        ),
        ("numpy", Answer({"version": "1.17.4"}), "failure", "1.17.4, irvis needs 1.21", "numpy>=1.21,<1.24"),
        ("numpy", Answer({}, "gave no answer in 60 s"), "failure", "gave no answer in 60 s", "numpy>=1.21,<1.24"),
        ("tensorrt", Answer({"version": "8.6.1"}), "failure", "binding is 8.6.1, the library 8.5.2", "tensorrt"),
        ("tensorrt", Answer({}, "ended Python by SIGSEGV"), "failure", "SIGSEGV", "python3-libnvinfer"),
        ("opencv", Answer({}, "gone", True), "failure", "not installed", "sudo apt install libopencv-python"),
        ("pycuda", Answer({}, "cannot use CUDA's GPU 0: no device"), "failure", "no device", "usermod -aG video"),
        ("pycuda", Answer({}, "libcurand.so.10: not found"), "failure", "libcurand.so.10", COMPILE_PYCUDA),
        ("jtop", Answer({}, "gone", True), "not here", "not installed (optional)", JTOP),
    ],
)
def test_one_package_amiss_on_a_xavier(recorded, probe, answer, state, found, mend):
    name = {"opencv": "OpenCV", "tensorrt": "TensorRT"}.get(probe, probe)
    item = look(recorded.xavier(answers={probe: answer}))[name]
    assert item.state == state
    assert found in item.found
    assert mend in item.mend


def test_pycuda_is_compiled_anew_in_the_version_that_is_installed():
    *_, requirement = shlex.split(COMPILE_PYCUDA)
    root = Path(__file__).resolve().parents[3]
    assert f'"{requirement}"' in (root / "setup.py").read_text()
    assert COMPILE_PYCUDA in (root / "docs/jetson.md").read_text()


def test_what_dies_with_numpy_is_mended_with_it(recorded):
    dead = Answer({}, "ended Python by SIGILL")
    items = look(recorded.xavier(answers={"numpy": dead, "opencv": dead, "onnxruntime": recorded.missing}))
    assert items["OpenCV"].mend == items["numpy"].mend == "export OPENBLAS_CORETYPE=ARMV8"
    assert items["ONNX Runtime"].mend == "pip install 'irvis[jetson]'"


def test_ubuntus_opencv_hides_jetpacks(recorded):
    file = "/usr/lib/python3/dist-packages/cv2.cpython-38-aarch64-linux-gnu.so"
    old = {"version": "4.2.0", "file": file, "gstreamer": "YES (1.16.2)", "wheels": []}
    item = look(recorded.xavier(answers={"opencv": Answer(old)}))["OpenCV"]
    assert (item.state, item.mend) == (
        "warning",
        "sudo apt remove python3-opencv && sudo apt install libopencv-python",
    )
    assert "hides JetPack's 4.5.4" in item.found


def test_a_toolkit_off_the_path_is_named_with_the_line_that_adds_it(recorded):
    item = look(recorded.xavier(commands={"nvcc": None}))["CUDA"]
    assert (item.state, item.found) == ("warning", "11.4.19, but no nvcc on PATH to compile pycuda with")
    assert item.mend.startswith("export PATH=/usr/local/cuda/bin")


def test_in_a_container_a_camera_must_be_handed_in(recorded):
    items = look(recorded.xavier(files={"dev/video0": None, "dev/video1": None}))
    assert items["cameras"].state == "failure"
    assert items["cameras"].found.endswith("; no /dev/video0, /dev/video1 in here")
    assert "--device" in items["cameras"].mend
    one = look(recorded.xavier(files={"dev/video1": None}))["cameras"]
    assert (one.state, one.found.split("; ")[1]) == ("warning", "no /dev/video1 in here")


def test_another_jetson_is_not_told_the_xaviers_modes(recorded):
    nx = {"proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0"}
    item = look(recorded.xavier(nx, {"nvpmodel": "NV Power Mode: MODE_20W_6CORE\n8\n"}))["power mode"]
    assert (item.state, item.mend) == ("ok", "")
    assert item.found.startswith("MODE_20W_6CORE (id 8)")


def test_the_power_supply_is_named_where_it_gives_way(recorded):
    item = look(recorded.xavier({"sys/class/hwmon/hwmon0/oc1_event_cnt": 3}))["temperature"]
    assert item.state == "warning"
    assert "3 times" in item.found


def test_a_workstation_that_was_hot_needs_no_other_power_supply_and_one_of_3_gib_builds_no_engine(recorded, machines):
    place, zone = recorded.workstation(), "sys/class/thermal/thermal_zone0"
    tree = {f"{zone}/type": "x86_pkg_temp", f"{zone}/temp": 50000, "proc/meminfo": recorded.meminfo(8, 3, 0)}
    tree["sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"] = 5
    machines.plant(place.root, tree)
    items = look(place)
    assert (items["temperature"].state, items["memory"].state) == ("ok", "ok")


def test_an_engine_is_told_with_its_warning(recorded):
    place = recorded.xavier()
    item = look(place, place.root / "a.engine")["engine"]
    assert (item.state, item.found) == ("ok", "FP16, 480x640, for this TensorRT and this GPU")
    forced = {"precision": "fp16", "size": [480, 640], "warning": "is 31.0 dB from its ONNX at worst"}
    item = look(recorded.xavier(answers={"engine": Answer(forced)}), place.root / "a.engine")["engine"]
    assert (item.state, item.found.split("; ")[1]) == ("warning", "it is 31.0 dB from its ONNX at worst")
