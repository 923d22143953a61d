"""A discrete NVIDIA GPU's energy, temperature, clock and throttling, from NVML where nvidia-ml-py is installed."""

import importlib
from typing import Any, List, Optional

# From nvml.h: what slows a GPU down involuntarily, unlike idling, a limit set by its user, or a display.
THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "temperature, by software",
    0x40: "temperature, by hardware",
    0x80: "power brake",
}


class NvmlGpu:
    """The machine's only GPU. Raises ValueError if there are several: NVML and CUDA number them differently.

    Its methods raise OSError where NVML fails.
    """

    def __init__(self, pynvml: Any) -> None:
        self._pynvml = pynvml
        pynvml.nvmlInit()
        if pynvml.nvmlDeviceGetCount() != 1:
            raise ValueError("several GPUs")
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        name = pynvml.nvmlDeviceGetName(self._handle)
        self.name: str = name.decode() if isinstance(name, bytes) else name  # bytes before nvidia-ml-py 11.515

    def energy_j(self) -> float:
        """Return the energy taken since the driver was loaded, in joules. For Volta and later."""
        return float(self._ask("nvmlDeviceGetTotalEnergyConsumption")) / 1e3

    def temperature_c(self) -> float:
        """Return the temperature of its die, in °C."""
        return float(self._ask("nvmlDeviceGetTemperature", self._pynvml.NVML_TEMPERATURE_GPU))

    def clock_hz(self) -> int:
        """Return the clock of its multiprocessors, in Hz."""
        return int(self._ask("nvmlDeviceGetClockInfo", self._pynvml.NVML_CLOCK_SM)) * 1_000_000

    def throttling(self) -> List[str]:
        """Return the reasons for which it is slowed down now."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]

    def bytes_of(self, pid: int) -> Optional[int]:
        """Return the GPU memory that a process uses; None if it uses none, or the driver does not tell."""
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return next((process.usedGpuMemory for process in processes if process.pid == pid), None)

    def close(self) -> None:
        """Shut NVML down."""
        self._pynvml.nvmlShutdown()

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._pynvml, function)(self._handle, *arguments)
        except self._pynvml.NVMLError as error:
            raise OSError(f"{function}: {error}") from error


def open_gpu() -> Optional[NvmlGpu]:
    """Open the GPU; None if pynvml or NVML is missing, or there is not exactly one GPU with an energy counter."""
    try:
        gpu = NvmlGpu(importlib.import_module("pynvml"))
        gpu.energy_j(), gpu.temperature_c(), gpu.clock_hz(), gpu.throttling()
    except Exception:  # ImportError, and NVMLError of many kinds: NVML is optional, whatever goes wrong
        return None
    return gpu
