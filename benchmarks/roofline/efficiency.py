"""The fraction of its bound that a kind of layer reaches: what makes an estimate of a bound, and how it is fitted."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from irvis.benchmarks.roofline.devices import Device, Range
from irvis.benchmarks.roofline.work import Work
from irvis.runtime.errors import FileError
from irvis.runtime.files import LARGEST_JSON, parse_json, read_bytes, write_json

SHIPPED = Path(__file__).with_name("efficiency.json")
ANY = "any"  # kind of layer that was not fitted
QUANTILES = (0.1, 0.5, 0.9)
NONE_THERE = "not efficiencies of layers"
LONG = 5  # times its overhead, from where on a kernel tells an efficiency

Timed = Tuple[Work, float]  # a kernel and what it took, in ms


class Efficiencies(NamedTuple):
    """Of one runtime: kind of layer -> fraction of the bound, lowest, likeliest, highest. Above 1 where caches help."""

    runtime: str
    source: str  # on what they were fitted, or that they are assumed
    kinds: Dict[str, Range]

    def estimate_ms(self, work: Work, device: Device) -> Range:
        """Give the shortest, the likeliest and the longest time of a kernel: bound / efficiency + overhead."""
        bound_ms, efficiency = device.bound_ms(work), self.kinds.get(work.kind, self.kinds[ANY])
        low, middle, high = (
            bound_ms / fraction + overhead_us / 1e3
            for fraction, overhead_us in zip(efficiency[::-1], device.overhead_us)
        )
        return low, middle, high


def total_ms(ranges: Sequence[Range]) -> Range:
    """Add up estimates; ends add up to ends, as if all were off to the same side."""
    low, middle, high = (sum(values) for values in zip(*ranges)) if ranges else (0.0, 0.0, 0.0)
    return low, middle, high


def fit(timed: Sequence[Timed], device: Device, source: str) -> Efficiencies:
    """Fit each kind's efficiency: the quantiles, weighted by time, of bound / (measured - overhead).

    A quantile, since one kernel that a runtime has badly written would shift a mean. Raises FileError where nothing
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
        raise FileError(f"nothing to fit efficiencies on: no kernel takes {LONG} times the overhead of {device.name}")
    kinds = {kind: _quantiles(found) for kind, found in sorted(ratios.items())}
    return Efficiencies(device.runtime, source, kinds)


def read_efficiencies(path: Path, runtime: str) -> Efficiencies:
    """Read what ``write_efficiencies`` wrote. Raises FileError, also where the file has none of that runtime."""
    entries = _read_entries(path)
    if runtime not in entries:
        raise FileError(f"{path} has efficiencies of {', '.join(sorted(entries))}, and none of {runtime}")
    try:
        entry = entries[runtime]
        kinds = {str(kind): _checked(values) for kind, values in entry["kinds"].items()}
        return Efficiencies(runtime, str(entry["source"]), {ANY: kinds[ANY], **kinds})
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise FileError(f"{NONE_THERE}: {path}; irvis roofline --fit writes them") from error


def write_efficiencies(found: Efficiencies, path: Path) -> None:
    """Write them as JSON; those of other runtimes in the file stay. Raises FileError."""
    entries = _read_entries(path) if path.exists() else {}
    entries[found.runtime] = as_json(found)
    write_json(path, entries)


def as_json(found: Efficiencies) -> Dict[str, Any]:
    """Give source and kinds, to three significant digits: a fixed point would make a small fraction 0."""
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
