"""Peaks of devices, from ``devices.json``: bandwidth, operations per second by precision and unit, cache."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from irvis.benchmarks.roofline.work import Work

TABLE = Path(__file__).with_name("devices.json")
CACHE_SHARE = 0.5  # of the cache that one tensor may take, so that a kernel's input and output both stay in it
CPU = "cpu"  # not in the table: measured where it runs

# Lowest, likeliest, highest.
Range = Tuple[float, float, float]


class Device(NamedTuple):
    """The peaks that bound a kernel."""

    key: str
    name: str
    runtime: str  # what runs the graph: "tensorrt" or "onnxruntime"
    dram_gb_per_s: float
    cache_mb: float  # a tensor up to half of it is assumed to be read and written at the cache's bandwidth
    cache_gb_per_s: float
    overhead_us: Range  # of a kernel that does next to nothing
    tflops: Dict[str, Dict[str, float]]  # precision -> unit -> 1e12 operations per second

    def memory_ms(self, work: Work) -> float:
        """Return the least time that moving a kernel's bytes takes."""
        fitting_bytes = CACHE_SHARE * self.cache_mb * 1e6
        in_cache = sum(count for count in (*work.read_bytes, *work.written_bytes) if count <= fitting_bytes)
        return in_cache / (self.cache_gb_per_s * 1e6) + (work.bytes - in_cache) / (self.dram_gb_per_s * 1e6)

    def arithmetic_ms(self, work: Work) -> float:
        """Return the least time that a kernel's operations take."""
        return work.operations / (self.tflops[work.precision][work.unit] * 1e9)

    def bound_ms(self, work: Work) -> float:
        """Return the longer of the two times: at these peaks, the kernel cannot be faster."""
        return max(self.memory_ms(work), self.arithmetic_ms(work))

    def bound_by(self, work: Work) -> str:
        """Return which of the two it is: ``memory`` or ``arithmetic``."""
        return "memory" if self.memory_ms(work) >= self.arithmetic_ms(work) else "arithmetic"


def table() -> Dict[str, Dict[str, Any]]:
    """Return the table as written in the file."""
    return json.loads(TABLE.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def names() -> List[str]:
    """Return the names of all devices."""
    return [*table(), CPU]


def device(key: str) -> Device:
    """Return a device of the table; one ``like`` another has the other's peaks, scaled by the clocks."""
    entries = table()
    entry = entries[key]
    base = entries[entry.get("like", key)]
    compute, memory = entry.get("compute", 1.0), entry.get("memory", 1.0)
    return Device(
        key,
        entry["name"],
        base["runtime"],
        base["dram_gb_per_s"] * memory,
        base["cache_mb"],
        # Xavier's L2 is too small to matter and is listed at the memory's bandwidth; a data-centre GPU's keeps its own.
        max(base["cache_gb_per_s"] * compute, base["dram_gb_per_s"] * memory),
        tuple(entry["overhead_us"]),
        {
            precision: {unit: peak * compute for unit, peak in units.items()}
            for precision, units in base["tflops"].items()
        },
    )
