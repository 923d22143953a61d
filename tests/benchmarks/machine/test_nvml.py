import sys
from types import SimpleNamespace

import pytest

from irvis.benchmarks.machine.conditions import Lookout
from irvis.benchmarks.machine.nvml import NvmlGpu, open_gpu


def library(gpus=1, reasons=0):
    """Stand in for pynvml on a machine without a GPU: its functions, with NVML's own units."""
    return SimpleNamespace(
        NVMLError=RuntimeError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: gpus,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"NVIDIA H100",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 1_234_567,
        nvmlDeviceGetTemperature=lambda handle, sensor: 45,
        nvmlDeviceGetClockInfo=lambda handle, clock: 1980,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: reasons,
    )


def test_millijoules_and_megahertz_become_joules_and_hertz(tmp_path):
    gpu = NvmlGpu(library())
    assert gpu.energy_j() == 1234.567
    look = Lookout(tmp_path, gpu).look()
    assert look.temperatures_c == {"NVIDIA H100": 45.0}
    assert look.gpu_hz == 1_980_000_000
    assert look.throttling == {}


def test_the_memory_of_one_process_among_others():
    nvml = library()
    processes = [SimpleNamespace(pid=pid, usedGpuMemory=100 * pid) for pid in (3, 5)]
    nvml.nvmlDeviceGetComputeRunningProcesses = lambda handle: processes
    assert NvmlGpu(nvml).bytes_of(5) == 500
    assert NvmlGpu(nvml).bytes_of(4) is None


def test_being_idle_is_no_throttling_and_a_power_cap_is():
    assert NvmlGpu(library(reasons=0x01)).throttling() == []
    assert NvmlGpu(library(reasons=0x44)).throttling() == ["power cap", "temperature, by hardware"]
    # The five of nvml.h that are not idling, a user's clocks, boosting together, or a display.
    others = 0x01 | 0x02 | 0x10 | 0x100
    assert NvmlGpu(library(reasons=others)).throttling() == []
    assert len(NvmlGpu(library(reasons=0x1FF)).throttling()) == 5


def test_a_gpu_that_falls_off_the_bus_is_an_oserror():
    pynvml = library()
    gpu = NvmlGpu(pynvml)

    def lost(handle):
        raise pynvml.NVMLError("GPU is lost")

    pynvml.nvmlDeviceGetTotalEnergyConsumption = lost
    with pytest.raises(OSError, match="GPU is lost"):
        gpu.energy_j()


@pytest.mark.parametrize("module", [None, SimpleNamespace(), library(gpus=2)])
def test_without_the_library_or_one_gpu_nothing_is_told(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert open_gpu() is None


def test_the_gpu_is_opened_where_all_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library())
    assert open_gpu().name == "NVIDIA H100"
