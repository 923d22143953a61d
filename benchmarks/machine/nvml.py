"""A discrete NVIDIA GPU's energy, temperature, clock and throttling, from NVML where nvidia-ml-py is installed."""

import importlib
from typing import Any, List, Optional

# Of nvml.h: what slows a GPU down against its will, unlike idling, a limit set by its user, or a display.
THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "temperature, by software",
    0x40: "temperature, by hardware",
    0x80: "power brake",
}


class NvmlGpu:
    """The machine's only GPU. Raises ValueError where it has several: NVML and CUDA number them differently.

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
        """Give the energy that it has taken since its driver was loaded, in joules: Volta and later."""
        return self._ask("nvmlDeviceGetTotalEnergyConsumption") / 1e3

    def temperature_c(self) -> float:
        """Give the temperature of its die."""
        return float(self._ask("nvmlDeviceGetTemperature", self._pynvml.NVML_TEMPERATURE_GPU))

    def clock_hz(self) -> int:
        """Give the clock of its multiprocessors."""
        return self._ask("nvmlDeviceGetClockInfo", self._pynvml.NVML_CLOCK_SM) * 1_000_000

    def throttling(self) -> List[str]:
        """Give what slows it down now."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]

    def close(self) -> None:
        """Give NVML back."""
        self._pynvml.nvmlShutdown()

    def _ask(self, function: str, *arguments: Any) -> int:
        try:
            return getattr(self._pynvml, function)(self._handle, *arguments)
        except self._pynvml.NVMLError as error:
            raise OSError(f"{function}: {error}") from error


def open_gpu() -> Optional[NvmlGpu]:
    """Open the GPU; None where pynvml or NVML is missing, or there is not one GPU that counts its energy."""
    try:
        gpu = NvmlGpu(importlib.import_module("pynvml"))
        gpu.energy_j(), gpu.temperature_c(), gpu.clock_hz(), gpu.throttling()
    except Exception:  # ImportError, and NVMLError of many kinds: it is optional, whatever goes wrong
        return None
    return gpu
