import dataclasses
import json
import platform
import subprocess

import pytest

from irvis.benchmarks.machine import jtop_state
from irvis.benchmarks.machine.board import Board, read_board
from irvis.benchmarks.machine.clocks import CpuClock, GpuClock, read_cpu_clock
from irvis.benchmarks.machine.conditions import Lookout
from irvis.benchmarks.machine.power_mode import AGX_XAVIER_MODES
from irvis.benchmarks.machine.requirements import require_mode
from irvis.runtime import IrvisError

pytestmark = pytest.mark.usefixtures("no_jtop")

SERIAL = "1421320012345"
GPU = "sys/devices/17000000.gv11b/devfreq/17000000.gv11b"
L4T_35 = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n"
L4T_32 = "# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t186ref, EABI: aarch64\n"
XAVIER = {
    "proc/device-tree/model": "Jetson-AGX\0",
    "proc/device-tree/serial-number": f"{SERIAL}\0",
    "proc/sys/kernel/hostname": "rover\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 0 (v8l)\n"
    f"processor\t: 1\nmodel name\t: ARMv8 Processor rev 0 (v8l)\nSerial\t\t: {SERIAL}\n",
    "etc/os-release": 'NAME="Ubuntu"\nVERSION_ID="20.04"\nPRETTY_NAME="Ubuntu 20.04.6 LTS"\n',
    "etc/nv_tegra_release": L4T_35,
    "var/lib/dpkg/status": "Package: libnvinfer8\nVersion: 8.5.2-1+cuda11.4\n",
    "sys/devices/soc0/serial_number": f"{SERIAL}\n",
    # The ranges of MAXN, clocks free.
    f"{GPU}/cur_freq": "318750000\n",
    f"{GPU}/min_freq": "114750000\n",
    f"{GPU}/max_freq": "1377000000\n",
}
WORKSTATION = {
    "proc/sys/kernel/hostname": "bench-01\n",
    "proc/cpuinfo": "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
}
# What `nvpmodel -q` prints, JetPack 4.6 and 5.1, by mode id.
NVPMODEL = {
    0: "NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0\n",
    2: "NVPM WARN: patching tpc_pg_mask: (0x1:0x4)\nNVPM WARN: patched tpc_pg_mask: 0x4\n"
    "NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n2\n",
    7: "NV Power Mode: MODE_15W_DESKTOP\n7\n",
}


def without(tree, *names):
    return {name: text for name, text in tree.items() if name not in names}


def prints(output):
    def run(command):
        assert list(command) == ["nvpmodel", "-q"]
        return output

    return run


def absent(command):
    raise FileNotFoundError(command[0])


def hangs(command):
    raise subprocess.TimeoutExpired(command, 5)


def test_a_xavier_is_read_whole(machines, tmp_path):
    board = read_board(machines.plant(tmp_path, XAVIER), prints(NVPMODEL[0]))
    assert board == Board(
        host="rover",
        cpu="ARMv8 Processor rev 0 (v8l)",
        architecture=platform.machine(),
        os="Ubuntu 20.04.6 LTS",
        python=platform.python_version(),
        is_jetson=True,
        module="Jetson-AGX",
        l4t="35.4.1",
        jetpack="5.1.2",
        tensorrt="8.5.2",
        mode_name="MAXN",
        mode_id=0,
        mode_source="nvpmodel -q",
        gpu_clock=GpuClock(318750000, 114750000, 1377000000),
        clocks_locked=False,
    )
    assert board.is_agx_xavier


def test_the_gpu_is_found_where_jetpack_5_lists_it(machines, tmp_path):
    # Its device is under /sys/devices/platform there, so that only the class is where JetPack 4 has it too.
    listed = "sys/class/devfreq/17000000.gv11b"
    tree = {name.replace(GPU, listed): text for name, text in without(XAVIER, "etc/nv_tegra_release").items()}
    machines.plant(tmp_path, without(tree, "proc/device-tree/model"))
    assert read_board(tmp_path, prints(NVPMODEL[0])).gpu_clock == GpuClock(318750000, 114750000, 1377000000)
    assert Lookout(tmp_path).look().gpu_hz == 318750000


def test_no_serial_number_is_kept(machines, tmp_path):
    board = read_board(machines.plant(tmp_path, XAVIER), prints(NVPMODEL[0]))
    assert SERIAL not in json.dumps(dataclasses.asdict(board))
    # In a container soc0 alone has it.
    hidden = without(machines.xavier_tree(), "proc/device-tree/serial-number")
    assert read_board(machines.plant(tmp_path / "container", hidden), absent).host == "rover-SERIAL"


def test_a_jtop_that_does_not_know_the_mode_leaves_it_to_nvpmodel(machines, tmp_path):
    told = jtop_state.JtopState(jetson_clocks=True)
    board = read_board(machines.plant(tmp_path, XAVIER), prints(NVPMODEL[2]), lambda: told)
    assert (board.mode_name, board.mode_source) == ("MODE_15W", "nvpmodel -q")


@pytest.mark.parametrize("mode_id", sorted(NVPMODEL))
def test_nvpmodel_gives_the_mode_whatever_it_warns_of_before(machines, tmp_path, mode_id):
    # A stale status file must not win over the command.
    tree = machines.plant(tmp_path, XAVIER, {"var/lib/nvpmodel/status": "pmode:0003\n"})
    board = read_board(tree, prints(NVPMODEL[mode_id]))
    assert (board.mode_name, board.mode_id) == (AGX_XAVIER_MODES[mode_id], mode_id)


@pytest.mark.parametrize(
    "output", ["NV Power Mode: MAXN", "NV Power Mode: MAXN\n", "NV Power Mode: MAXN\nNVPM WARN: 5\n"]
)
def test_a_mode_without_its_id_is_still_a_mode(machines, tmp_path, output):
    board = read_board(machines.plant(tmp_path, XAVIER), prints(output))
    assert (board.mode_name, board.mode_id) == ("MAXN", None)
    require_mode(board, "MAXN")


@pytest.mark.parametrize("run", [absent, hangs, prints(""), prints("NVPM ERROR: need root\n")])
@pytest.mark.parametrize("mode_id", sorted(AGX_XAVIER_MODES))
def test_without_nvpmodel_the_status_file_gives_the_mode(machines, tmp_path, run, mode_id):
    tree = machines.plant(tmp_path, XAVIER, {"var/lib/nvpmodel/status": f"pmode:{mode_id:04d}"})
    board = read_board(tree, run)
    assert (board.mode_name, board.mode_id) == (AGX_XAVIER_MODES[mode_id], mode_id)


def test_the_boards_own_configuration_names_the_modes_of_the_status_file(machines, tmp_path):
    nx = {
        "proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
        "var/lib/nvpmodel/status": "pmode:0002\n",
    }
    configuration = {
        "etc/nvpmodel.conf": "# comment\n< POWER_MODEL ID=0 NAME=MODE_15W_2CORE >\nCPU_ONLINE CORE_0 1\n"
        "< POWER_MODEL ID=2 NAME=MODE_15W_6CORE >\n"
    }
    tree = machines.plant(tmp_path, XAVIER, nx)
    board = read_board(tree, absent)
    assert (board.mode_name, board.mode_id) == (None, 2)  # the AGX Xavier's names are not another module's
    assert not board.is_agx_xavier
    board = read_board(machines.plant(tree, configuration), absent)
    assert (board.mode_name, board.mode_id) == ("MODE_15W_6CORE", 2)


@pytest.mark.parametrize(
    ("frequencies", "locked"),
    [
        ((1377000000, 1377000000, 1377000000), True),
        ((675750000, 675750000, 675750000), True),
        ((1377000000, 114750000, 1377000000), False),  # busy, yet free to drop
        ((114750000, 114750000, 1377000000), False),
        ((1109250000, 1377000000, 1377000000), False),  # throttled, whatever the range says
    ],
)
def test_clocks_are_locked_when_they_cannot_move(machines, tmp_path, frequencies, locked):
    tree = {f"{GPU}/{name}_freq": f"{hertz}\n" for name, hertz in zip(("cur", "min", "max"), frequencies)}
    board = read_board(machines.plant(tmp_path, XAVIER, tree), prints(NVPMODEL[0]))
    assert board.gpu_clock == GpuClock(*frequencies)
    assert board.clocks_locked is locked


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {f"{GPU}/cur_freq": "", f"{GPU}/min_freq": "1", f"{GPU}/max_freq": "N/A"},
        *(
            {f"{GPU}/{name}_freq": 1377000000 for name in ("cur", "min", "max") if name != gone}
            for gone in ("cur", "min")
        ),
    ],
)
def test_clocks_that_cannot_be_read_are_unknown(machines, tmp_path, broken):
    tree = without(XAVIER, f"{GPU}/cur_freq", f"{GPU}/min_freq", f"{GPU}/max_freq")
    board = read_board(machines.plant(tmp_path, tree, broken), prints(NVPMODEL[0]))
    assert board.gpu_clock is None
    assert board.clocks_locked is None


def test_in_a_container_the_module_is_read_beside_the_hidden_device_tree(machines, tmp_path):
    tree = without(XAVIER, "proc/device-tree/model", "etc/nv_tegra_release")
    board = read_board(machines.plant(tmp_path, tree, {"sys/devices/soc0/machine": "Jetson-AGX\n"}), absent)
    assert board.is_jetson
    assert board.is_agx_xavier
    assert board.l4t is None


def test_a_jetson_that_hides_its_name_is_a_jetson_but_not_known_to_be_a_xavier(machines, tmp_path):
    board = read_board(machines.plant(tmp_path, without(XAVIER, "proc/device-tree/model")), absent)
    assert board.is_jetson
    assert board.module is None
    assert not board.is_agx_xavier


@pytest.mark.parametrize(
    ("model", "is_agx_xavier"),
    [
        ("Jetson-AGX", True),
        ("jetson-xavier", True),
        ("NVIDIA Jetson AGX Xavier Developer Kit", True),
        ("NVIDIA Jetson AGX Xavier Industrial Developer Kit", False),
        ("NVIDIA Jetson Xavier NX Developer Kit", False),
        ("NVIDIA Jetson AGX Orin Developer Kit", False),
        ("NVIDIA Jetson Nano Developer Kit", False),
    ],
)
def test_only_the_board_of_the_paper_is_the_board_of_the_paper(machines, tmp_path, model, is_agx_xavier):
    board = read_board(machines.plant(tmp_path, XAVIER, {"proc/device-tree/model": f"{model}\0"}), prints(NVPMODEL[0]))
    assert board.module == model
    assert board.is_agx_xavier is is_agx_xavier


def test_jetpack_4(machines, tmp_path):
    assert read_board(machines.plant(tmp_path, XAVIER, {"etc/nv_tegra_release": L4T_32}), absent).l4t == "32.7.1"


def test_a_workstation_is_no_jetson_and_is_asked_for_no_mode(machines, tmp_path):
    def must_not_run(command):
        raise AssertionError(command)

    board = read_board(machines.plant(tmp_path, WORKSTATION), must_not_run)
    assert not board.is_jetson
    assert not board.is_agx_xavier
    assert (board.host, board.os) == ("bench-01", "Ubuntu 22.04.4 LTS")
    assert board.cpu == "Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz"
    assert (board.module, board.mode_name, board.mode_id, board.gpu_clock, board.clocks_locked) == (None,) * 5


def test_an_arm_board_that_is_no_jetson_keeps_its_model_out_of_the_module(machines, tmp_path):
    pi = {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}
    board = read_board(machines.plant(tmp_path, WORKSTATION, pi), absent)
    assert not board.is_jetson
    assert board.module is None


def test_an_empty_tree_still_gives_a_board(tmp_path):
    board = read_board(tmp_path, absent)
    assert not board.is_jetson
    assert board.host
    assert board.cpu
    assert board.os


def test_this_machine_can_be_read():
    board = read_board()
    assert board.host
    assert board.python == platform.python_version()


def test_the_mode_asked_for_is_accepted(machines, tmp_path):
    require_mode(read_board(machines.plant(tmp_path, XAVIER), prints(NVPMODEL[0])), "MAXN")
    require_mode(read_board(tmp_path, prints(NVPMODEL[2])), "MODE_15W")


@pytest.mark.parametrize(
    ("mode_id", "wanted", "command"),
    [(7, "MAXN", "sudo nvpmodel -m 0"), (2, "MAXN", "sudo nvpmodel -m 0"), (0, "MODE_15W", "sudo nvpmodel -m 2")],
)
def test_another_mode_is_refused_with_the_command_that_sets_it(machines, tmp_path, mode_id, wanted, command):
    board = read_board(machines.plant(tmp_path, XAVIER), prints(NVPMODEL[mode_id]))
    message = refusal(board, wanted)
    assert f"power mode is {AGX_XAVIER_MODES[mode_id]} (id {mode_id}), not {wanted}" in message
    assert f"`{command}`" in message
    assert "reboot" not in message


def test_leaving_10_watt_is_said_to_need_a_reboot(machines, tmp_path):
    board = read_board(machines.plant(tmp_path, XAVIER), prints("NV Power Mode: MODE_10W\n1\n"))
    assert "`sudo nvpmodel -m 0`, which asks for a reboot" in refusal(board, "MAXN")


def test_a_mode_that_the_xavier_has_not_is_answered_with_those_it_has(machines, tmp_path):
    message = refusal(read_board(machines.plant(tmp_path, XAVIER), prints(NVPMODEL[0])), "MAXQ")
    assert all(name in message for name in AGX_XAVIER_MODES.values())


def test_on_another_jetson_no_id_of_the_xavier_is_suggested(machines, tmp_path):
    tree = machines.plant(tmp_path, XAVIER, {"proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0"})
    message = refusal(read_board(tree, prints("NV Power Mode: MODE_15W_6CORE\n2\n")), "MAXN")
    assert "/etc/nvpmodel.conf" in message
    assert "-m 0" not in message


def test_an_unreadable_mode_is_refused_with_what_to_run(machines, tmp_path):
    message = refusal(read_board(machines.plant(tmp_path, XAVIER), absent), "MAXN")
    assert "power mode is unknown" in message
    assert "`nvpmodel -q`" in message


def test_a_machine_that_is_no_jetson_is_refused_by_its_own_name(machines, tmp_path):
    message = refusal(read_board(machines.plant(tmp_path, WORKSTATION), absent), "MAXN")
    assert "bench-01" in message
    assert "Xeon(R) Gold 6230" in message
    assert "drop --mode" in message


def refusal(board, mode):
    with pytest.raises(IrvisError) as caught:
        require_mode(board, mode)
    message = str(caught.value)
    assert "\n" not in message
    return message


GRID = [(mode, jetpack, locked) for mode in (0, 2, 7) for jetpack in ("5.1.2", "4.6.1") for locked in (True, False)]


@pytest.mark.parametrize("with_jtop", [True, False])
@pytest.mark.parametrize(("mode", "jetpack", "locked"), GRID)
def test_an_agx_xavier_in_any_state(tmp_path, machines, mode, jetpack, locked, with_jtop):
    name, cores, cpu_khz, gpu_hz, emc_hz, output = machines.MODES[mode]
    tree = machines.plant(tmp_path, machines.xavier_tree(mode, jetpack, locked, as_root=True))
    told = jtop_state.state_of(machines.open_jtop(mode, jetpack, locked)) if with_jtop else None
    board = read_board(tree, absent if with_jtop else prints(output), lambda: told)
    assert (board.mode_name, board.mode_id) == (name, mode)
    assert board.mode_source == ("jtop" if with_jtop else "nvpmodel -q")
    assert board.module == "Jetson-AGX"  # with and without jtop, which has another name for it
    assert board.clocks_locked is locked
    assert board.free_clocks == ([] if locked else ["GPU", "CPU", "EMC"])
    assert board.gpu_clock.maximum_hz == gpu_hz
    assert (board.cpu_clock.cores, board.cpu_clock.maximum_hz) == (cores, cpu_khz * 1000)
    assert (board.emc_clock.current_hz, board.emc_clock.locked) == (emc_hz, locked)
    assert (board.jetpack, board.l4t) == (jetpack, {"5.1.2": "35.4.1", "4.6.1": "32.7.1"}[jetpack])
    versions = {"5.1.2": ("11.4.19", "8.5.2"), "4.6.1": ("10.2.300", "8.2.1")}
    assert (board.cuda, board.tensorrt) == versions[jetpack]
    assert board.is_agx_xavier
    # Planted in the device tree, cpuinfo, soc0, jtop, and in the name of the host.
    assert machines.SERIAL not in json.dumps(dataclasses.asdict(board))
    assert board.host == "rover-SERIAL"


@pytest.mark.parametrize("clock", ["GPU", "CPU", "EMC"])
def test_one_clock_that_may_move_is_enough(tmp_path, machines, clock):
    locked, free = (machines.xavier_tree(locked=locked, as_root=True) for locked in (True, False))
    part = {"GPU": "devfreq", "CPU": "cpufreq", "EMC": "emc"}[clock]
    mixed = {name: free[name] if part in name else text for name, text in locked.items()}
    board = read_board(machines.plant(tmp_path, mixed), prints(NVPMODEL[0]))
    assert board.free_clocks == [clock]
    assert board.clocks_locked is False


def test_without_root_the_memorys_clock_is_unknown_and_let_pass(tmp_path, machines):
    board = read_board(machines.plant(tmp_path, machines.xavier_tree()), prints(NVPMODEL[0]))
    assert board.emc_clock is None
    assert board.clocks_locked is True


@pytest.mark.parametrize("locked", [True, False])
def test_jtop_sees_clocks_that_a_container_hides(tmp_path, machines, locked):
    tree = {name: text for name, text in machines.xavier_tree().items() if "freq" not in name}
    told = jtop_state.state_of(machines.open_jtop(locked=locked))
    assert read_board(machines.plant(tmp_path, tree), absent, lambda: told).clocks_locked is locked
    assert read_board(tmp_path, absent, lambda: None).clocks_locked is None


def test_a_workstations_gpu_and_clocks(machines, tmp_path):
    gpu = {"proc/driver/nvidia/gpus/0000:01:00.0/information": f"Model: \t\t NVIDIA H100 PCIe\nGPU UUID: \t {SERIAL}\n"}
    cores = {f"sys/devices/system/cpu/cpu0/cpufreq/scaling_{name}_freq": khz for name, khz in
             (("cur", 3100000), ("min", 800000), ("max", 3900000))}  # fmt: skip
    board = read_board(
        machines.plant(tmp_path, WORKSTATION, gpu, {name: str(khz) for name, khz in cores.items()}), absent
    )
    assert board.gpu == "NVIDIA H100 PCIe"
    assert board.cpu_clock == CpuClock(1, 3100000000, 800000000, 3900000000)
    assert board.clocks_locked is False


def test_of_cores_that_differ_the_fastest_and_the_widest_range_are_told(machines, tmp_path):
    khz = {0: (1190400, 1190400, 1190400), 1: (2265600, 729600, 2265600), 2: (115200, 115200, 1420800)}
    for core, values in khz.items():
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        machines.plant(tmp_path, {f"{folder}/scaling_{n}_freq": v for n, v in zip(("cur", "min", "max"), values)})
    clock = read_cpu_clock(tmp_path)
    assert clock == CpuClock(3, 2265600000, 115200000, 2265600000)
    assert not clock.locked
