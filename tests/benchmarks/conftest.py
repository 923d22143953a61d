"""Machines as trees of files: an AGX Xavier in any of its modes, on JetPack 4 and 5, and a workstation."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

SERIAL = "1421320012345"
GPU = "sys/devices/17000000.gv11b/devfreq/17000000.gv11b"
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"

# id: name, cores that are on, greatest clocks of CPU (kHz), GPU and EMC (Hz), and what nvpmodel -q prints.
MODES = {
    0: ("MAXN", 8, 2265600, 1377000000, 2133000000, "NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n"),
    2: ("MODE_15W", 4, 1190400, 675750000, 1331200000, "NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n2\n"),
    7: ("MODE_15W_DESKTOP", 4, 2188800, 675750000, 1331200000, "NV Power Mode: MODE_15W_DESKTOP\n7\n"),
}
# JetPack: revision of L4T, Ubuntu, CUDA's file, TensorRT's package.
RELEASES = {
    "5.1.2": (
        "R35 (release), REVISION: 4.1",
        "20.04.6",
        ("version.json", '{"cuda": {"version": "11.4.19"}}'),
        "8.5.2-1",
    ),
    "4.6.1": ("R32 (release), REVISION: 7.1", "18.04.6", ("version.txt", "CUDA Version 10.2.300\n"), "8.2.1-1"),
}
RAILS = {"1-0040": ("GPU", "CPU", "SOC"), "1-0041": ("CV", "VDDRQ", "SYS5V")}
ZONES = {"CPU-therm": 41500, "GPU-therm": 40000, "AO-therm": 39500, "PMIC-Die": 100000, "Tboard_tegra": 38000}


def plant(root, *trees):
    for tree in trees:
        for name, text in tree.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(str(text))
    return root


def xavier_tree(mode=0, jetpack="5.1.2", locked=True, as_root=False):
    """Return the files of a Jetson AGX Xavier."""
    _, cores, cpu_khz, gpu_hz, emc_hz, _ = MODES[mode]
    release, ubuntu, (cuda_file, cuda), tensorrt = RELEASES[jetpack]
    tree = {
        "proc/device-tree/model": "Jetson-AGX\0",
        "proc/device-tree/serial-number": f"{SERIAL}\0",
        "proc/sys/kernel/hostname": f"rover-{SERIAL}\n",
        "proc/cpuinfo": f"model name\t: ARMv8 Processor rev 0 (v8l)\nSerial\t\t: {SERIAL}\n",
        "etc/os-release": f'PRETTY_NAME="Ubuntu {ubuntu} LTS"\n',
        "etc/nv_tegra_release": f"# {release}, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
        "sys/devices/soc0/serial_number": f"{SERIAL}\n",
        "var/lib/nvpmodel/status": f"pmode:{mode:04d}\n",
        f"usr/local/cuda/{cuda_file}": cuda,
        "var/lib/dpkg/status": "Package: libc6\nVersion: 2.31\n\nPackage: libnvinfer8\nStatus: install ok installed\n"
        f"Section: multiverse/libs\nVersion: {tensorrt}+cuda\nDescription: TensorRT\n\nPackage: zip\nVersion: 3.0\n",
        f"{GPU}/cur_freq": gpu_hz if locked else 318750000,
        f"{GPU}/min_freq": gpu_hz if locked else 114750000,
        f"{GPU}/max_freq": gpu_hz,
        "sys/class/hwmon/hwmon0/oc1_event_cnt": 0,
    }
    for core in range(8):
        folder = f"sys/devices/system/cpu/cpu{core}"
        tree[f"{folder}/online"] = int(core < cores)
        tree[f"{folder}/cpufreq/scaling_cur_freq"] = cpu_khz - 1234 if locked else 1190400
        tree[f"{folder}/cpufreq/scaling_min_freq"] = cpu_khz if locked else 115200
        tree[f"{folder}/cpufreq/scaling_max_freq"] = cpu_khz
    for number, (zone, millidegrees) in enumerate(ZONES.items()):
        folder = f"sys/class/thermal/thermal_zone{number}"
        tree.update({f"{folder}/type": zone, f"{folder}/temp": millidegrees})
        tree.update({f"{folder}/trip_point_0_type": "passive", f"{folder}/trip_point_0_temp": 86000})
    tree["sys/class/thermal/cooling_device0/type"] = "pwm-fan"
    tree["sys/class/thermal/cooling_device0/cur_state"] = 3
    tree["sys/class/thermal/cooling_device1/type"] = "gpu-balanced"
    tree["sys/class/thermal/cooling_device1/cur_state"] = 0
    tree["sys/class/thermal/cooling_device1/max_state"] = 7
    if as_root:
        tree.update({f"{EMC}/rate": emc_hz, f"{EMC}/mrq_rate_locked": int(locked)})
    tree.update(power_tree({rail: 1.0 for rails in RAILS.values() for rail in rails}, jetpack))
    return tree


def power_tree(watts, jetpack="5.1.2"):
    """Return the files of its power monitors: volts and amperes on JetPack 5, watts on 4."""
    tree = {}
    for device, (address, rails) in enumerate(RAILS.items()):
        for index, rail in enumerate(rails):
            if jetpack.startswith("5"):
                folder = f"sys/bus/i2c/devices/{address}/hwmon/hwmon{device + 1}"
                tree.update({f"{folder}/name": "ina3221", f"{folder}/in{index + 1}_label": rail})
                tree.update({f"{folder}/in{index + 1}_input": 5000})
                tree[f"{folder}/curr{index + 1}_input"] = round(watts[rail] * 200)
                tree.update({f"{folder}/in7_label": "sum of shunt voltages", f"{folder}/in7_input": 77777})
            else:
                folder = f"sys/bus/i2c/drivers/ina3221x/{address}/iio:device{device}"
                tree[f"{folder}/rail_name_{index}"] = rail
                tree[f"{folder}/in_power{index}_input"] = round(watts[rail] * 1000)
    return tree


def open_jtop(mode=0, jetpack="5.1.2", locked=True):
    """Return what an open jtop has, serial number and all."""
    release = {"5.1.2": "35.4.1", "4.6.1": "32.7.1"}[jetpack]
    return SimpleNamespace(
        nvpmodel=SimpleNamespace(name=MODES[mode][0], id=mode),
        jetson_clocks=locked,  # whose truth is what counts
        board={
            "hardware": {
                "Module": "NVIDIA Jetson AGX Xavier",
                "Serial Number": SERIAL,
                "L4T": release,
                "Jetpack": jetpack,
            }
        },
    )


def absent(command):
    raise FileNotFoundError(command[0])


@pytest.fixture
def machines():
    """The functions and tables above."""
    return SimpleNamespace(
        SERIAL=SERIAL,
        MODES=MODES,
        RAILS=RAILS,
        GPU=GPU,
        plant=plant,
        xavier_tree=xavier_tree,
        power_tree=power_tree,
        open_jtop=open_jtop,
        absent=absent,
        prints=lambda output: lambda command: output,
    )


@pytest.fixture
def no_jtop(monkeypatch):
    """Keep a jtop that runs on this machine out of the trees."""
    from irvis.benchmarks.machine import board

    monkeypatch.setattr(board, "read_jtop", lambda: None)


@pytest.fixture
def make_report(tmp_path, machines):
    """Make a report out of latencies, on a verified Xavier with locked clocks unless told otherwise."""
    from irvis.benchmarks.latency import Run
    from irvis.benchmarks.machine.board import read_board
    from irvis.benchmarks.machine.conditions import Lookout
    from irvis.benchmarks.report.report import ColdStart, Model, Report

    def make(calls_ms=None, verified_mode="MAXN", **changes):
        root = machines.plant(tmp_path / "xavier", machines.xavier_tree())
        calls_ms = list(calls_ms) if calls_ms is not None else [29.9, 30.0, 30.1, 30.0] * 30
        starts_s, ends_s, now_s = [], [], 100.0
        for value in calls_ms:
            starts_s.append(now_s)
            now_s += value / 1e3
            ends_s.append(now_s)
            now_s += 10e-6
        stages = {"pre": [1.0] * len(calls_ms), "h2d": None, "compute": [2.0] * len(calls_ms), "d2h": None}
        look = Lookout(root).look()
        report = Report(
            board=read_board(root, machines.prints(MODES[0][-1]), lambda: None),
            verified_mode=verified_mode,
            model=Model(tmp_path / "student.engine", "0" * 64, "fp16", None),
            backend="TensorRT 8.5.2.2, FP16, Xavier",
            size=(480, 640),
            warmup=20,
            threads=None,
            cold=ColdStart(800.0, 45.0),
            run=Run({**stages, "post": [0.5] * len(calls_ms), "total": calls_ms}, starts_s, ends_s),
            history=[(99.9, look), (100.0, look), (now_s, look)],
            not_measured={"energy": "no meter", "error": "no --pairs", "quality": "no --pairs"},
        )
        return dataclasses.replace(report, **changes)

    return make


@pytest.fixture
def document(make_report):
    """Make the JSON of such a report, through its text."""
    return lambda *calls_ms, **changes: json.loads(
        json.dumps(make_report(*calls_ms, **changes).to_json(), allow_nan=False)
    )
