"""Measure fusion quality on data sets, each a folder with ir/ and vi/: ``irvis evaluate TNO/test MSRS/test``."""

import argparse
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
from tqdm import tqdm

from irvis.benchmarks.metrics import evaluate_fusion
from irvis.runtime.errors import FileError
from irvis.runtime.frames import split_luminance
from irvis.runtime.fuser import Fuser
from irvis.runtime.images import read_infrared, read_visible
from irvis.runtime.pairs import Pair, pairs_of

Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``irvis evaluate``."""
    parser.add_argument("folders", type=Path, nargs="+", help="data sets")
    parser.add_argument("--model", type=Path, help=".onnx or .engine (default: the student that irvis ships)")
    parser.add_argument("--resize", action="store_true", help="fit frames of another size to the model's and back")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis evaluate``: a Markdown table with the mean of the two inputs, which flatters some metrics, beside."""
    datasets = [(folder, pairs_of(folder)) for folder in arguments.folders]
    with Fuser(arguments.model, resize=arguments.resize, infrared_smoothing=0) as fuser:
        for number, (folder, pairs) in enumerate(datasets):
            rows = {fuser.model.name: evaluate_pairs(pairs, fuser), "mean of the inputs": evaluate_pairs(pairs, mean)}
            names = list(rows[fuser.model.name])
            if not number:
                print(f"| data set | pairs | fused by | {' | '.join(names)} |\n|{'---|' * (len(names) + 3)}")
            for by, row in rows.items():
                values = " | ".join(f"{row[name]:.4f}" for name in names)
                print(f"| {'/'.join(folder.resolve().parts[-2:])} | {len(pairs)} | {by} | {values} |", flush=True)
    return 0


def mean(infrared: np.ndarray, luminance: np.ndarray) -> np.ndarray:
    """Give the mean of two uint8 planes, halves rounded to even as the fused plane's are."""
    return np.rint((infrared.astype(np.float32) + luminance) / 2).astype(np.uint8)


def evaluate_pairs(pairs: List[Pair], fuse: Fuse) -> Dict[str, float]:
    """Give each metric's mean over the pairs, on luminance. Raises IrvisError."""
    values = []
    for pair in tqdm(pairs, desc="evaluating", unit="pair", disable=None, leave=False):
        infrared, luminance = read_infrared(pair.infrared), split_luminance(read_visible(pair.visible)).y
        if infrared.dtype != np.uint8:
            raise FileError(f"metrics take 8-bit infrared. Got {infrared.dtype} in {pair.infrared}; convert it first")
        values.append(evaluate_fusion(infrared, luminance, fuse(infrared, luminance)))
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}
