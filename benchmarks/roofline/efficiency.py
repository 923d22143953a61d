"""The fraction of its bound that a kind of layer reaches: it turns a bound into an estimate, and is fitted here."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from irvis.benchmarks.roofline.devices import Device, Range
from irvis.benchmarks.roofline.work import Work
from irvis.runtime.errors import FileError
from irvis.runtime.files import LARGEST_JSON, parse_json, read_bytes, write_json

SHIPPED = Path(__file__).with_name("efficiency.json")
ANY = "any"  # entry for kinds of layer that were not fitted
QUANTILES = (0.1, 0.5, 0.9)
NONE_THERE = "not efficiencies of layers"
LONG = 5  # times the overhead, above which a kernel's time is used for fitting

Timed = Tuple[Work, float]  # a kernel and its time in ms


class Efficiencies(NamedTuple):
    """The fraction of its bound that each kind of layer reaches under one runtime; above 1 if caches help."""

    runtime: str
    source: str  # what they were fitted to, or that they are assumed
    kinds: Dict[str, Range]

    def estimate_ms(self, work: Work, device: Device) -> Range:
        """Return the shortest, likeliest and longest time of a kernel: bound / efficiency + overhead."""
        bound_ms, efficiency = device.bound_ms(work), self.kinds.get(work.kind, self.kinds[ANY])
        low, middle, high = (
            bound_ms / fraction + overhead_us / 1e3
            for fraction, overhead_us in zip(efficiency[::-1], device.overhead_us)
        )
        return low, middle, high


def total_ms(ranges: Sequence[Range]) -> Range:
    """Add up estimates, the ends of the ranges as well, as if all were off in the same direction."""
    low, middle, high = (sum(values) for values in zip(*ranges)) if ranges else (0.0, 0.0, 0.0)
    return low, middle, high


def fit(timed: Sequence[Timed], device: Device, source: str) -> Efficiencies:
    """Fit each kind's efficiency: the quantiles, weighted by time, of bound / (measured - overhead).

    Quantiles, since a single kernel that a runtime implements badly would shift a mean. Raises FileError if nothing
    took long enough.
    """
    ratios: Dict[str, List[Tuple[float, float]]] = {}
    overhead_ms = device.overhead_us[1] / 1e3
    for work, measured_ms in timed:
        if measured_ms > LONG * overhead_ms and work.bytes:
            ratio = device.bound_ms(work) / (measured_ms - overhead_ms)
            for kind in (work.kind, ANY):
                ratios.setdefault(kind, []).append((ratio, measured_ms))
    if not ratios:
        raise FileError(f"nothing to fit efficiencies to: no kernel takes {LONG} times the overhead of {device.name}")
    kinds = {kind: _quantiles(found) for kind, found in sorted(ratios.items())}
    return Efficiencies(device.runtime, source, kinds)


def read_efficiencies(path: Path, runtime: str) -> Efficiencies:
    """Read what ``write_efficiencies`` wrote. Raises FileError, also if the file has none for that runtime."""
    entries = _read_entries(path)
    if runtime not in entries:
        raise FileError(f"{path} has efficiencies for {', '.join(sorted(entries))}, but none for {runtime}")
    try:
        entry = entries[runtime]
        kinds = {str(kind): _checked(values) for kind, values in entry["kinds"].items()}
        return Efficiencies(runtime, str(entry["source"]), {ANY: kinds[ANY], **kinds})
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise FileError(f"{NONE_THERE}: {path}; irvis roofline --fit writes them") from error


def write_efficiencies(found: Efficiencies, path: Path) -> None:
    """Write efficiencies as JSON; the file keeps those of other runtimes. Raises FileError."""
    entries = _read_entries(path) if path.exists() else {}
    entries[found.runtime] = as_json(found)
    write_json(path, entries)


def as_json(found: Efficiencies) -> Dict[str, Any]:
    """Return source and kinds, to three significant digits: fixed decimals would turn a small fraction into 0."""
    kinds = {kind: [float(f"{value:.3g}") for value in values] for kind, values in found.kinds.items()}
    return {"source": found.source, "kinds": kinds}


def _read_entries(path: Path) -> Dict[str, Any]:
    try:
        entries = parse_json(read_bytes(path, "efficiencies", LARGEST_JSON))
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise FileError(f"{NONE_THERE}: {path}; irvis roofline --fit writes them")
    return entries


def _checked(values: Any) -> Range:
    low, middle, high = (float(value) for value in values)
    if not 0 < low <= middle <= high < np.inf:
        raise ValueError(values)
    return low, middle, high


def _quantiles(found: List[Tuple[float, float]]) -> Range:
    ratios, weights = np.array(sorted(found)).T
    places = (np.cumsum(weights) - weights / 2) / weights.sum()
    low, middle, high = (float(value) for value in np.interp(QUANTILES, places, ratios))
    return low, middle, high
