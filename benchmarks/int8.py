"""What INT8 would do to a model, without a GPU: ``irvis int8 student.onnx --calibrate MSRS/train --pairs TNO/test``.

The convolutions that an INT8 engine of ``build_engine.py`` runs in INT8 are emulated on the CPU
(``irvis.export.int8_emulation``) and the result is compared with the ONNX in FP32. A second figure has all convolutions
in INT8, which shows what the rule is for.
"""

import argparse
from pathlib import Path
from typing import Any, Collection, Dict, Iterator, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from irvis.benchmarks.data_sets import data_set_name
from irvis.export.acceptance import LEAST_PSNR_DB, compare, summarise
from irvis.export.int8_emulation import Int8Emulation
from irvis.export.sample_frames import find_pairs, read_frames, to_planes
from irvis.runtime.columns import align
from irvis.runtime.pairs import Pair
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_count, parse_size

CALIBRATION_PAIRS = 16  # each has 300,000 pixels in every tensor: more pairs barely change a range


class Reference:
    """The pairs of a data set at one size, and what the ONNX fuses from them in FP32."""

    def __init__(self, name: str, pairs: Sequence[Pair], emulation: Int8Emulation) -> None:
        self.name, self.pairs, self.emulation = name, pairs, emulation
        run = emulation.open(())
        self.wanted = [run(planes) for planes in self._planes("FP32")]

    def errors_of(self, convolutions: Collection[str], label: str) -> Dict[str, Any]:
        """Run every pair with these convolutions in INT8; return the errors as ``summarise`` does."""
        run = self.emulation.open(convolutions)
        return summarise([compare(run(planes), wanted) for planes, wanted in zip(self._planes(label), self.wanted)])

    def _planes(self, label: str) -> Iterator[np.ndarray]:
        bar = tqdm(self.pairs, f"{self.name}, {label}", unit="pair", disable=None, leave=False)
        return (to_planes(read_frames(pair, self.emulation.size)) for pair in bar)


def to_text(found: Dict[str, Any]) -> str:
    """Return a result of ``summarise`` as one line of text."""
    return (
        "PSNR {worst_psnr_db:.1f} dB at the worst of {pairs} pairs, {mean_psnr_db:.1f} in the mean, "
        "largest error {max_abs:.4f}".format(**found)
    )


def one_at_a_time(reference: Reference) -> str:
    """Return a table of the error with each convolution alone in INT8, the worst first."""
    emulation = reference.emulation
    found = {name: reference.errors_of([name], name) for name in emulation.convolutions}
    rows = [["alone in INT8", "by the rule it", "worst PSNR, dB", "largest error"]]
    for name, one in sorted(found.items(), key=lambda item: float(item[1]["worst_psnr_db"])):
        rule = "may" if name in emulation.allowed else "must not"
        rows.append([name, rule, f"{one['worst_psnr_db']:.1f}", f"{one['max_abs']:.4f}"])
    return align(rows)


def measure(model: Path, data_sets: Sequence[Tuple[str, Sequence[Pair]]], arguments: argparse.Namespace) -> float:
    """Print what INT8 does to one ONNX on data sets, by name; return the worst PSNR in dB under the builder's rule."""
    to_calibrate = find_pairs(arguments.calibrate, CALIBRATION_PAIRS)
    # The calibration pairs are read once the size is known: the ONNX's own, unless it takes any.
    emulation = Int8Emulation(model, arguments.size, lambda size: _read(to_calibrate, size))
    chosen, every = len(emulation.allowed), len(emulation.convolutions)
    print(
        f"{model}, {format_size(emulation.size)}, ranges of {len(to_calibrate)} pairs: "
        f"{chosen} of {every} convolutions in INT8"
    )
    worst_db = []
    for index, (name, pairs) in enumerate(data_sets):
        reference = Reference(name, pairs, emulation)
        found = reference.errors_of(emulation.allowed, "INT8")
        worst_db.append(float(found["worst_psnr_db"]))
        print(f"  {name}: {to_text(found)}")
        unruled = reference.errors_of(emulation.convolutions, "all in INT8")
        print(f"    with all {every} in INT8: {to_text(unruled)}", flush=True)
        if arguments.each and index == 0:
            print(one_at_a_time(reference), flush=True)
    return min(worst_db)


def _read(pairs: Sequence[Pair], size: Tuple[int, int]) -> Iterator[np.ndarray]:
    for pair in tqdm(pairs, "calibrating", unit="pair", disable=None, leave=False):
        yield to_planes(read_frames(pair, size))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis int8``."""
    parser.add_argument(
        "models", type=find_model, nargs="+", metavar="ONNX", help="of planes, or irvis's own: student, fast"
    )
    parser.add_argument("--calibrate", type=Path, required=True, metavar="FOLDER", help="pairs to find the ranges on")
    parser.add_argument(
        "--pairs", type=Path, nargs="+", required=True, metavar="FOLDER", help="data sets to measure on"
    )
    parser.add_argument("--limit", type=parse_count, metavar="N", help="N pairs of each, evenly spread (default: all)")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HEIGHTxWIDTH",
        help=f"for an ONNX that takes any (default: {format_size(DEFAULT_SIZE)})",
    )
    parser.add_argument("--each", action="store_true", help="also each convolution alone, on the first data set")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis int8``; return 0 if every model passes the gate of INT8 engines on every pair, else 1."""
    data_sets = [(data_set_name(folder), find_pairs(folder, arguments.limit)) for folder in arguments.pairs]
    worst_db = [measure(model, data_sets, arguments) for model in arguments.models]
    least_db = LEAST_PSNR_DB["int8"]
    if min(worst_db) < least_db:
        print(f"NOT SAFE: build_engine.py asks for {least_db:.0f} dB at the worst pair")
        return 1
    return 0
