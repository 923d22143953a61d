"""Recorded machines for the doctor: what the files, the commands and the probes of each gave."""

from types import SimpleNamespace

import pytest

from irvis.benchmarks.doctor.child import Answer
from irvis.benchmarks.doctor.surroundings import Surroundings

JETPACK_CV2 = "/usr/lib/python3.8/dist-packages/cv2/python-3.8/cv2.cpython-38-aarch64-linux-gnu.so"
NVCC = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 11.4, V11.4.315\n"
DF = (
    "Filesystem     1024-blocks     Used Available Capacity Mounted on\n/dev/mmcblk0p1    28768380 21393172  {} 79% /\n"
)
SMOKE = {"size": [96, 128], "latency_ms": 61.4, "low": 0, "high": 255}
MISSING = Answer({}, "ModuleNotFoundError: No module named 'x'", True)


def meminfo(total_gib, available_gib, swap_gib):
    sizes = {"MemTotal": total_gib, "MemFree": 0.1, "MemAvailable": available_gib, "SwapTotal": swap_gib}
    return "".join(f"{name + ':':<16}{int(gib * 2**20)} kB\n" for name, gib in sizes.items())


HEALTHY_FILES = {
    "proc/meminfo": meminfo(31, 27.5, 15),
    "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 2031616 0 5\n",
    "sys/class/video4linux/video0/name": "vi-output, imx274 30-001a\n",
    "sys/class/video4linux/video1/name": "Boson: FLIR Video\n",
    "dev/video0": "",
    "dev/video1": "",
    "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so": "",
    "home/rover/irvis/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true\nversion = 3.8.10\n",
}
HEALTHY_COMMANDS = {"nvcc": NVCC, "df": DF.format(7374208), "systemctl": "active\n"}
HEALTHY_ANSWERS = {
    "numpy": Answer({"version": "1.23.5", "sum": 262144.0}),
    "opencv": Answer({"version": "4.5.4", "file": JETPACK_CV2, "gstreamer": "YES (1.16.2)", "wheels": []}),
    "tensorrt": Answer({"version": "8.5.2.2"}),
    "pycuda": Answer({"version": "2022.2.2", "gpu": "Xavier", "compute_capability": "7.2"}),
    "onnxruntime": Answer({"version": "1.19.2", "providers": ["AzureExecutionProvider", "CPUExecutionProvider"]}),
    "jtop": Answer({"version": "4.2.12", "state": None}),
    "student": Answer(SMOKE),
    "engine": Answer({"precision": "fp16", "size": [480, 640], "warning": None}),
}
WORKSTATION_FILES = {
    "proc/cpuinfo": "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
    "proc/meminfo": meminfo(62, 40, 0),
}
WORKSTATION_ANSWERS = {
    "numpy": Answer({"version": "2.2.6", "sum": 262144.0}),
    "opencv": Answer({"version": "4.11.0", "file": "/venv/cv2/__init__.py", "gstreamer": "NO", "wheels": ["opencv"]}),
    "onnxruntime": Answer({"version": "1.22.0", "providers": ["CPUExecutionProvider"]}),
    "student": Answer(SMOKE),
}


@pytest.fixture
def recorded(tmp_path, machines):
    """Make the Surroundings of a recorded machine, changed by the arguments."""

    def place(files, commands, answers, python=(3, 8, 10)):
        root = machines.plant(tmp_path / "root", files)

        def run(command):
            if command[0] not in commands:
                raise FileNotFoundError(command[0])
            return commands[command[0]]

        def ask(probe, *arguments):
            return answers.get(probe, MISSING)

        venv = root / "home/rover/irvis"
        return Surroundings(root, run, ask, python, venv if (venv / "pyvenv.cfg").exists() else None)

    def xavier(files=(), commands=(), answers=(), mode=0, **options):
        tree = {**machines.xavier_tree(mode, **options), **HEALTHY_FILES, **dict(files)}
        tree = {name: text for name, text in tree.items() if text is not None}
        told = {**HEALTHY_COMMANDS, "nvpmodel": machines.MODES[mode][-1], **dict(commands)}
        told = {name: text for name, text in told.items() if text is not None}
        return place(tree, told, {**HEALTHY_ANSWERS, **dict(answers)})

    def workstation(answers=()):
        return place(
            WORKSTATION_FILES, {"df": DF.format(99 << 20)}, {**WORKSTATION_ANSWERS, **dict(answers)}, (3, 11, 7)
        )

    return SimpleNamespace(xavier=xavier, workstation=workstation, df=DF, meminfo=meminfo, missing=MISSING)
