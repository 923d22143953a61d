"""Peaks of devices: bandwidth, operations a second by precision and unit, the cache. From ``devices.json``."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from irvis.benchmarks.roofline.work import Work

TABLE = Path(__file__).with_name("devices.json")
CACHE_SHARE = 0.5  # of the cache, that one tensor may take: a kernel's input and output are both to stay in it
CPU = "cpu"  # is no entry of the table: it is measured where it runs

# Lowest, likeliest, highest.
Range = Tuple[float, float, float]


class Device(NamedTuple):
    """What bounds a kernel."""

    key: str
    name: str
    runtime: str  # what runs the graph: "tensorrt" or "onnxruntime"
    dram_gb_per_s: float
    cache_mb: float  # a tensor up to half of it is taken to be read and written at the cache's bandwidth
    cache_gb_per_s: float
    overhead_us: Range  # of a kernel that does next to nothing
    tflops: Dict[str, Dict[str, float]]  # precision -> unit -> 1e12 operations a second

    def memory_ms(self, work: Work) -> float:
        """Give what moving a kernel's bytes takes at the least."""
        fitting_bytes = CACHE_SHARE * self.cache_mb * 1e6
        in_cache = sum(count for count in (*work.read_bytes, *work.written_bytes) if count <= fitting_bytes)
        return in_cache / (self.cache_gb_per_s * 1e6) + (work.bytes - in_cache) / (self.dram_gb_per_s * 1e6)

    def arithmetic_ms(self, work: Work) -> float:
        """Give what its operations take at the least."""
        return work.operations / (self.tflops[work.precision][work.unit] * 1e9)

    def bound_ms(self, work: Work) -> float:
        """Give the larger of both: no kernel is faster at the peaks."""
        return max(self.memory_ms(work), self.arithmetic_ms(work))

    def bound_by(self, work: Work) -> str:
        """Name which of both it is."""
        return "memory" if self.memory_ms(work) >= self.arithmetic_ms(work) else "arithmetic"


def table() -> Dict[str, Dict[str, Any]]:
    """Give the table as it is written."""
    return json.loads(TABLE.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def names() -> List[str]:
    """Give the devices that can be asked for."""
    return [*table(), CPU]


def device(key: str) -> Device:
    """Give a device of the table; one that is ``like`` another has its peaks, scaled by its clocks."""
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
        # Xavier's L2 is too small to matter and stands at the memory's bandwidth; a data-centre GPU's keeps its own.
        max(base["cache_gb_per_s"] * compute, base["dram_gb_per_s"] * memory),
        tuple(entry["overhead_us"]),
        {
            precision: {unit: peak * compute for unit, peak in units.items()}
            for precision, units in base["tflops"].items()
        },
    )
