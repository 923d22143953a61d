from types import SimpleNamespace

import pytest

from irvis.benchmarks.machine.meters import find_meter

WATTS = {"GPU": 6.5, "CPU": 2.25, "SOC": 3.0, "CV": 0.0, "VDDRQ": 1.75, "SYS5V": 4.5}
RAPL = "sys/class/powercap/intel-rapl:"


@pytest.mark.parametrize("jetpack", ["5.1.2", "4.6.1"])
def test_the_rails_of_a_xavier(tmp_path, machines, jetpack):
    meter, why = find_meter(machines.plant(tmp_path, machines.power_tree(WATTS, jetpack)))
    assert meter.read() == pytest.approx(WATTS)  # and nothing of the driver's channel 7
    assert meter.name == "INA3221 (GPU, CPU, SOC, CV, VDDRQ, SYS5V)"
    assert not meter.is_counter
    assert why == ""


def test_a_chip_that_averages_tells_for_how_long_it_shows_an_earlier_load(tmp_path, machines):
    tree = machines.plant(tmp_path, machines.power_tree(WATTS))
    assert find_meter(tree)[0].settles_s == 0
    intervals = {"sys/bus/i2c/devices/1-0040/hwmon/hwmon1/update_interval": 430}  # as nvpower.sh of JetPack 5 sets it
    assert find_meter(machines.plant(tree, intervals))[0].settles_s == pytest.approx(1.29)


@pytest.mark.parametrize("whole", ["VDD_IN", "POM_5V_IN"])
def test_an_input_rail_that_holds_the_others_is_taken_alone(tmp_path, machines, whole):
    folder = "sys/bus/i2c/devices/7-0040/hwmon/hwmon3"
    rails = {whole: 5000, "VDD_CPU_GPU_CV": 2000, "NC": 10}
    tree = {f"{folder}/name": "ina3221"}
    for number, (name, milliamperes) in enumerate(rails.items(), 1):
        tree.update({f"{folder}/in{number}_label": name, f"{folder}/in{number}_input": 5000})
        tree[f"{folder}/curr{number}_input"] = milliamperes
    assert find_meter(machines.plant(tmp_path, tree))[0].read() == {whole: pytest.approx(25.0)}


def test_another_chip_on_the_bus_is_no_meter(tmp_path, machines):
    folder = "sys/bus/i2c/devices/1-004c/hwmon/hwmon0"
    tree = {
        f"{folder}/name": "tmp451",
        f"{folder}/in1_label": "x",
        f"{folder}/in1_input": 1,
        f"{folder}/curr1_input": 1,
    }
    assert find_meter(machines.plant(tmp_path, tree))[0] is None


def test_the_packages_and_the_memory_of_an_x86_and_not_what_is_in_them_or_holds_them(tmp_path, machines):
    zones = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "1:1": "dram", "2": "psys"}
    for zone, name in zones.items():
        files = {"name": name, "energy_uj": 5_000_000, "max_energy_range_uj": 262_143_328_850}
        machines.plant(tmp_path, {f"{RAPL}{zone}/{file}": text for file, text in files.items()})
    meter, _ = find_meter(tmp_path)
    assert meter.read() == {"package-0": 5.0, "dram": 5.0, "package-1": 5.0, "dram intel-rapl:1:1": 5.0}
    assert meter.is_counter
    assert meter.wraps_at_j["package-0"] == pytest.approx(262143.32885)


def test_counters_that_only_root_may_read_are_said_to_be_so(tmp_path, machines):
    machines.plant(tmp_path, {f"{RAPL}0/name": "package-0", f"{RAPL}0/energy_uj": ""})
    machines.plant(tmp_path, {f"{RAPL}0:1/name": "dram", f"{RAPL}0:1/energy_uj": 1})  # a part is not the whole
    assert find_meter(tmp_path) == (None, "only root may read this machine's RAPL counters")


def test_a_gpu_goes_before_the_processor_beside_it(tmp_path, machines):
    machines.plant(tmp_path, {f"{RAPL}0/name": "package-0", f"{RAPL}0/energy_uj": 1})
    meter, _ = find_meter(tmp_path, SimpleNamespace(name="NVIDIA H100", energy_j=lambda: 12.5))
    assert meter.read() == {"GPU": 12.5}
    assert "NVIDIA H100 alone" in meter.name


def test_a_machine_without_a_meter_says_so(tmp_path):
    meter, why = find_meter(tmp_path)
    assert meter is None
    assert "no INA3221" in why
