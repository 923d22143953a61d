import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from irvis.benchmarks.machine.conditions import Conditions, Lookout

ZONE = "sys/class/thermal/thermal_zone1"


def test_a_cool_xavier(tmp_path, machines):
    look = Lookout(machines.plant(tmp_path, machines.xavier_tree(mode=7))).look()
    # The PMIC's zone shows 100 °C for ever, and a fan slows nothing down.
    assert look.temperatures_c == {"CPU-therm": 41.5, "GPU-therm": 40.0, "AO-therm": 39.5, "Tboard_tegra": 38.0}
    assert look.throttling == {}
    assert look.events == {"oc1_event_cnt": 0}
    assert (look.gpu_hz, look.cpu_hz) == (675750000, 2188800000 - 1234000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{ZONE}/temp": 86000}, {"GPU-therm": "at 86 °C, its trip point is 86"}),
        ({"sys/class/thermal/cooling_device1/cur_state": 2}, {"gpu-balanced": "in state 2 of 7"}),
    ],
)
def test_throttling_is_seen(tmp_path, machines, change, said):
    assert Lookout(machines.plant(tmp_path, machines.xavier_tree(), change)).look().throttling == said


def test_only_passive_trip_points_slow_down(tmp_path, machines):
    hot = {f"{ZONE}/temp": 60000, f"{ZONE}/trip_point_1_type": "active", f"{ZONE}/trip_point_1_temp": 50000}
    assert Lookout(machines.plant(tmp_path, machines.xavier_tree(), hot)).look().throttling == {}


def test_zones_of_one_name_are_told_apart_and_broken_ones_left_out(tmp_path, machines):
    zones = {"0": ("acpitz", 27800), "1": ("acpitz", 29800), "2": ("iwlwifi", "")}
    for number, (name, value) in zones.items():
        folder = f"sys/class/thermal/thermal_zone{number}"
        machines.plant(tmp_path, {f"{folder}/type": name, f"{folder}/temp": value})
    assert Lookout(tmp_path).look().temperatures_c == {"acpitz": 27.8, "acpitz 1": 29.8}


def test_the_counters_of_an_x86_are_added_up_over_its_cores(tmp_path, machines):
    for core in range(2):
        machines.plant(tmp_path, {f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count": core + 3})
    assert Lookout(tmp_path).look().events == {"core_throttle_count": 7}


def test_a_machine_that_tells_nothing(tmp_path):
    assert Lookout(tmp_path).look() == Conditions()


def test_the_lowest_passive_trip_point_counts_and_one_that_is_not_set_does_not(tmp_path, machines):
    tree = {f"{ZONE}/type": "cpu", f"{ZONE}/temp": 80000}
    for number, millidegrees in enumerate((95000, 79000, 0, -274000)):
        trip = f"{ZONE}/trip_point_{number}"
        tree.update({f"{trip}_type": "passive", f"{trip}_temp": millidegrees})
    assert Lookout(machines.plant(tmp_path, tree)).look().throttling == {"cpu": "at 80 °C, its trip point is 79"}


def test_a_trip_point_that_only_warns_of_a_hot_surface_slows_nothing_down(tmp_path, machines):
    tree = {f"{ZONE}/type": "CPU-therm"}
    for number, (millidegrees, cooling) in enumerate(((99000, "cpufreq-cpu0"), (70000, "hot-surface-alert"))):
        trip, device = f"{ZONE}/trip_point_{number}", f"{ZONE}/cdev{number}"
        tree.update({f"{trip}_type": "passive", f"{trip}_temp": millidegrees})
        tree.update({f"{device}/type": cooling, f"{device}_trip_point": number, f"{device}_weight": 0})
    tree.update({f"{ZONE}/cdev2/type": "hot-surface-alert", f"{ZONE}/cdev2_trip_point": 0})  # as well as slowing down
    warm = Lookout(machines.plant(tmp_path / "warm", tree, {f"{ZONE}/temp": 75000})).look()
    assert (warm.temperatures_c, warm.throttling) == ({"CPU-therm": 75.0}, {})
    hot = Lookout(machines.plant(tmp_path / "hot", tree, {f"{ZONE}/temp": 99500})).look()
    assert hot.throttling == {"CPU-therm": "at 100 °C, its trip point is 99"}


def test_the_processors_clock_is_that_of_its_fastest_core(tmp_path, machines):
    for core, khz in enumerate((1200000, 2265600, "", 1190400)):  # one is off
        machines.plant(tmp_path, {f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": khz})
    assert Lookout(tmp_path).look().cpu_hz == 2265600000


def test_cooling_devices_of_one_name_are_told_apart_and_what_slows_nothing_down_is_left_out(tmp_path, machines):
    for number, name in enumerate(("Processor", "Processor", "Fan", "LCD", "TFan", "hot-surface-alert")):
        folder = f"sys/class/thermal/cooling_device{number}"
        machines.plant(tmp_path, {f"{folder}/type": name, f"{folder}/cur_state": 1, f"{folder}/max_state": 10})
    assert Lookout(tmp_path).look().throttling == {"Processor": "in state 1 of 10", "Processor 1": "in state 1 of 10"}


def test_what_slows_a_discrete_gpu_down_is_seen(tmp_path):
    gpu = SimpleNamespace(
        name="NVIDIA H100",
        temperature_c=lambda: 88.0,
        throttling=lambda: ["power cap", "temperature, by hardware"],
        clock_hz=lambda: 345_000_000,
    )
    look = Lookout(tmp_path, gpu).look()
    assert look.throttling == {"power cap": "NVIDIA H100", "temperature, by hardware": "NVIDIA H100"}
    assert (look.temperatures_c, look.gpu_hz) == ({"NVIDIA H100": 88.0}, 345_000_000)


def test_what_can_be_read_no_longer_is_left_out(tmp_path, machines):
    """As of a core that was switched off: here, what /proc has of a process that has ended since."""
    process = subprocess.Popen(["sleep", "60"])
    try:
        lost = Path(f"/proc/{process.pid}/oom_score_adj")  # a whole number
        core, other = (f"sys/devices/system/cpu/cpu{number}" for number in range(2))
        for name in (
            f"{ZONE}/temp",
            "sys/class/thermal/cooling_device0/cur_state",
            f"{core}/cpufreq/scaling_cur_freq",
            f"{core}/thermal_throttle/core_throttle_count",
            f"{machines.GPU}/cur_freq",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).symlink_to(lost)
        here = {f"{other}/cpufreq/scaling_cur_freq": 1190400, f"{other}/thermal_throttle/core_throttle_count": 3}
        lookout = Lookout(machines.plant(tmp_path, here))
    finally:
        process.kill()
        process.wait()
    assert lookout.look() == Conditions(events={"core_throttle_count": 3}, cpu_hz=1190400000)
    (tmp_path / other / "thermal_throttle/core_throttle_count").write_text("")  # read, but not a number
    assert lookout.look().events == {"core_throttle_count": 0}
