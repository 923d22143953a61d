"""What half precision does to a model: ``irvis fp16 student.onnx --pairs TNO/test``.

Each ONNX runs with every tensor rounded to FP16 and every sum accumulated in FP16, in the worst of several orders
(``irvis.export.half_precision``), on real and on hostile pairs, and is compared with itself in FP32.
"""

import argparse
import math
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from tqdm import tqdm

from irvis.benchmarks.data_sets import data_set_name
from irvis.benchmarks.metrics import evaluate_fusion, means_of
from irvis.export.half_precision import HalfPrecision
from irvis.export.sample_frames import find_pairs
from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import FrameError
from irvis.runtime.frames import to_levels
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair
from irvis.runtime.providers import CPU_ONLY
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_count, parse_size

SAFE_DB = 50.0

# Infrared and visible luminance, uint8 (H, W) each.
Planes = Tuple[np.ndarray, np.ndarray]


class Comparison(NamedTuple):
    """FP16 against FP32 on one pair."""

    name: str
    psnr_db: float  # infinite if nothing differs, NaN if FP16's output is not finite
    max_abs: float  # of planes in [0, 1]; NaN likewise
    overflow: Optional[str]  # the first node whose output was not finite
    metrics_fp32: Dict[str, float]  # empty if not requested
    metrics_fp16: Dict[str, float]


class Outcome(NamedTuple):
    """FP16 against FP32 on a set of pairs."""

    pairs: List[Comparison]

    @property
    def unusable(self) -> List[Comparison]:
        """The pairs with a tensor that is not finite."""
        return [pair for pair in self.pairs if pair.overflow is not None]

    @property
    def worst_psnr_db(self) -> float:
        """Least PSNR of any pair; NaN if any pair's is."""
        values = [pair.psnr_db for pair in self.pairs]
        return math.nan if any(map(math.isnan, values)) else min(values)

    @property
    def metric_changes(self) -> Dict[str, float]:
        """Metric -> how much FP16 changes its mean over the pairs; empty if not measured."""
        if self.unusable:
            return {}
        pairs = [(pair.metrics_fp16, pair.metrics_fp32) for pair in self.pairs]
        return means_of([{name: fp16[name] - fp32[name] for name in fp32} for fp16, fp32 in pairs])

    @property
    def safe(self) -> bool:
        """Whether every pair is finite and at 50 dB or more."""
        return not self.unusable and self.worst_psnr_db >= SAFE_DB

    def to_text(self) -> str:
        """Return one line of text."""
        count = f"{len(self.pairs)} pairs"
        if self.unusable:
            causes = Counter(pair.overflow for pair in self.unusable)
            return f"{len(self.unusable)} of {count} NOT FINITE, first at {causes.most_common(1)[0][0]}"
        worst = min(self.pairs, key=lambda pair: pair.psnr_db)
        line = f"{count}, PSNR at least {worst.psnr_db:.1f} dB ({worst.name})"
        line += f", largest error {max(pair.max_abs for pair in self.pairs):.4f}"
        if self.metric_changes:
            line += "; metrics: " + ", ".join(f"{name} {change:+.5f}" for name, change in self.metric_changes.items())
        return line if self.safe else f"NOT SAFE: {line}"


def hostile_planes(size: Tuple[int, int]) -> Iterator[Tuple[str, Planes]]:
    """Yield named pairs that only a broken camera takes: flat, checkered, one hot pixel, noise."""
    black, white = np.zeros(size, np.uint8), np.full(size, 255, np.uint8)
    checkerboard = (np.indices(size).sum(0) % 2 * 255).astype(np.uint8)
    hot = black.copy()
    hot[size[0] // 3, size[1] // 2] = 255
    noise = np.random.default_rng(0).integers(0, 256, (2, *size), np.uint8)
    yield "all black", (black, black)
    yield "all white", (white, white)
    yield "white infrared on black", (white, black)
    yield "checkerboard on its inverse", (checkerboard, 255 - checkerboard)
    yield "one hot pixel", (hot, black)
    yield "one cold pixel", (255 - hot, white)
    yield "noise", (noise[0], noise[1])


def fitting(named: Iterable[Tuple[str, Planes]], wanted: Optional[Tuple[int, int]]) -> Iterator[Tuple[str, Planes]]:
    """Yield named pairs. Raises FrameError for one of another size than ``wanted``, (H, W) or None for any."""
    for name, planes in named:
        size = planes[0].shape
        if wanted is not None and size != wanted:
            raise FrameError(
                f"{name} is {format_size(size)}, and the ONNX takes only {format_size(wanted)} (HEIGHTxWIDTH): give "
                "one of any size, from `irvis export CHECKPOINT --dynamic`"
            )
        yield name, planes


def compare(half: HalfPrecision, full: OnnxRuntimeBackend, name: str, planes: Planes, with_metrics: bool) -> Comparison:
    """Run one pair in FP16 and in FP32."""
    infrared, visible = (plane.astype(np.float32) / 255 for plane in planes)
    wanted, found = full.run(infrared, visible), half(infrared, visible)
    error = found.astype(np.float64) - wanted
    mean_square = float(np.mean(error**2))
    usable = math.isfinite(mean_square)
    metrics: List[Dict[str, float]] = [{}, {}]
    if usable and with_metrics:
        metrics = [evaluate_fusion(*planes, to_levels(plane)) for plane in (wanted, found)]
    psnr_db = (-10 * math.log10(mean_square) if mean_square else math.inf) if usable else math.nan
    max_abs = float(np.abs(error).max()) if usable else math.nan
    return Comparison(name, psnr_db, max_abs, half.overflow, *metrics)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis fp16``."""
    parser.add_argument(
        "models", type=find_model, nargs="+", metavar="ONNX", help="of any size, or irvis's own: student, fast"
    )
    parser.add_argument("--pairs", type=Path, nargs="+", default=[], metavar="FOLDER", help="data sets")
    parser.add_argument(
        "--limit", type=parse_count, metavar="N", help="take N pairs of each, evenly spread (default: all)"
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HEIGHTxWIDTH",
        help="of the hostile pairs (default: the ONNX's own, or 480x640 if it takes any)",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis fp16``; return 0 if every model is safe on every pair, else 1."""
    real: List[Tuple[str, List[Pair]]]
    real = [(data_set_name(folder), find_pairs(folder, arguments.limit)) for folder in arguments.pairs]
    safe = True
    for model in arguments.models:
        print(model)
        half = HalfPrecision(model)
        with closing(OnnxRuntimeBackend(model, CPU_ONLY)) as full:
            size = arguments.size or full.size or DEFAULT_SIZE
            for name, pairs in [(f"hostile, {format_size(size)}", []), *real]:
                named = ((pair.name, read_luminance(pair)) for pair in pairs) if pairs else hostile_planes(size)
                named = fitting(named, full.size)
                bar = tqdm(named, desc=name, total=len(pairs) or None, unit="pair", disable=None, leave=False)
                outcome = Outcome([compare(half, full, label, planes, bool(pairs)) for label, planes in bar])
                safe = safe and outcome.safe
                print(f"  {name}: {outcome.to_text()}", flush=True)
    return 0 if safe else 1
