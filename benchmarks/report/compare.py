"""Compare two reports: ratios of their latencies, with intervals, if the two may be compared at all."""

import math
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from irvis.benchmarks.report.text import UNTRUSTED, WATERMARK

RESAMPLES = 2000
AT_ONCE = 1_000_000  # resampled frames in memory
CONFIDENCE = 95.0  # percent
STATISTICS = {"p50": 50.0, "p99": 99.0}


class Ratio(NamedTuple):
    """The ratio of B's latency to A's; under 1, B is faster."""

    ratio: float
    low: float  # of the 95 % interval
    high: float

    def __str__(self) -> str:
        verdict = "faster" if self.high < 1 else "slower" if self.low > 1 else "no difference is shown"
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f}): {verdict}"


def find_obstacles(a: Dict[str, Any], b: Dict[str, Any]) -> List[str]:
    """Return what differs besides the model, so that a ratio of the two would reflect that instead."""
    boards = a["board"], b["board"]
    names = [board["module"] or ", ".join(filter(None, (board["cpu"], board["gpu"]))) for board in boards]
    clocks_hz = [[(board[f"{unit}_clock"] or {}).get("maximum_hz") for unit in ("gpu", "cpu")] for board in boards]
    aspects = {
        "board": names,
        "power mode": [document["verified_mode"] or document["board"]["mode_name"] for document in (a, b)],
        "clocks locked": [board["clocks_locked"] for board in boards],
        "greatest clocks of GPU and CPU, Hz": clocks_hz,
        "size": [f"{document['size']['height']}x{document['size']['width']}" for document in (a, b)],
        "precision": [document["model"]["precision"] or "the ONNX's" for document in (a, b)],
        "rate": [document["rate_hz"] or "back to back" for document in (a, b)],
    }
    return [f"{name}: {left} and {right}" for name, (left, right) in aspects.items() if left != right]


def find_differences(a: Dict[str, Any], b: Dict[str, Any]) -> List[str]:
    """Return what differs and may be the subject of the comparison."""
    aspects = {
        "model": [f"{document['model']['file']} {document['model']['sha256'][:8]}" for document in (a, b)],
        "backend": [document["backend"] for document in (a, b)],
        "threads": [document["threads"] for document in (a, b)],
        "host": [document["board"]["host"] for document in (a, b)],
        "L4T": [document["board"]["l4t"] for document in (a, b)],
        "TensorRT": [document["board"]["tensorrt"] for document in (a, b)],
        "Python": [document["board"]["python"] for document in (a, b)],
        "irvis": [document["irvis"] for document in (a, b)],
    }
    return [f"{name}: {left} and {right}" for name, (left, right) in aspects.items() if left != right]


def ratio_of(a_ms: List[float], b_ms: List[float], percent: float, seed: int = 0) -> Ratio:
    """Return the ratio of a percentile of B's latencies to A's, with its interval by a block bootstrap.

    Consecutive frames resemble each other (caches, clocks, temperature), and drawing frames one by one would treat them
    as independent: the interval would be too narrow. So whole blocks of ``block_length`` frames are drawn, from the
    frames taken as a circle (Politis and Romano, 1992).
    """
    draw = np.random.default_rng(seed)
    drawn = [_resampled(np.asarray(values), percent, draw) for values in (b_ms, a_ms)]
    low, high = np.percentile(drawn[0] / drawn[1], (50 - CONFIDENCE / 2, 50 + CONFIDENCE / 2))
    return Ratio(float(np.percentile(b_ms, percent) / np.percentile(a_ms, percent)), float(low), float(high))


def block_length(values: np.ndarray) -> int:
    """Return the frames per block: the cube root of their number, or more, until they no longer resemble each other.

    That is the first lag whose autocorrelation is within 1.96 / sqrt(n), as for independent frames by chance; a tenth
    of all frames at most, or there would be no blocks to choose from.
    """
    count, centred = len(values), values - values.mean()
    length, variance = math.ceil(count ** (1 / 3)), float(centred @ centred)
    most = max(length, count // 10)
    while variance and length < most and abs(centred[:-length] @ centred[length:]) / variance > 1.96 / math.sqrt(count):
        length += 1
    return length


def _resampled(values: np.ndarray, percent: float, draw: np.random.Generator) -> np.ndarray:
    """Return the percentile of each of 2000 resamples."""
    count, length = len(values), block_length(values)
    blocks = math.ceil(count / length)
    rows = max(1, AT_ONCE // count)
    found = []
    for done in range(0, RESAMPLES, rows):
        starts = draw.integers(count, size=(min(rows, RESAMPLES - done), blocks, 1))
        frames = (starts + np.arange(length)).reshape(len(starts), -1)[:, :count] % count
        found.append(np.percentile(values[frames], percent, axis=1))
    return np.concatenate(found)


def to_text(names: Tuple[str, str], a: Dict[str, Any], b: Dict[str, Any]) -> str:
    """Return the comparison of B with A as text."""
    lines = [f"A  {names[0]}", f"B  {names[1]}"]
    for name, document in zip("AB", (a, b)):
        if document["watermark"]:
            lines.append(f"{name} is {WATERMARK}: {'; '.join(document['watermark'])}")
        if not document["trusted"]:
            lines.append(f"{name} is {UNTRUSTED}: {'; '.join(document['stability']['reasons'])}")
    lines += [f"MAY NOT BE COMPARED, {text}" for text in find_obstacles(a, b)]
    lines += [f"differs, {text}" for text in find_differences(a, b)]
    lines += ["", f"{'latency':<9}{'A, ms':>10}{'B, ms':>10}  B over A (interval of {CONFIDENCE:g} %)"]
    for name, percent in STATISTICS.items():
        ratio = ratio_of(a["latencies_ms"], b["latencies_ms"], percent)
        left, right = (document["latency"][f"{name}_ms"] for document in (a, b))
        lines.append(f"{name:<9}{left:>10.3f}{right:>10.3f}  {ratio}")
    lines.append(f"from {a['latency']['count']} and {b['latency']['count']} frames, intervals by a block bootstrap")
    return "\n".join(lines)
