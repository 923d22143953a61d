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
