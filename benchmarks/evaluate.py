"""Measure fusion quality on data sets, each a folder with ir/ and vi/: ``irvis evaluate TNO/test MSRS/test``."""

import argparse
import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence

import numpy as np
from tqdm import tqdm

from irvis.benchmarks.data_sets import data_set_name
from irvis.benchmarks.fusers import (
    Fuse,
    Model,
    check_device,
    open_model,
    open_teachers,
    parse_fused,
    split_name,
    teacher_files,
)
from irvis.benchmarks.metrics import evaluate_fusion, told_means_of
from irvis.benchmarks.published import published_quality
from irvis.benchmarks.tables import (
    BASELINE,
    FOOTNOTE,
    MODEL,
    PUBLISHED,
    Quality,
    Row,
    has_published,
    to_csv,
    to_markdown,
    to_tex,
    to_text,
)
from irvis.runtime.errors import FrameError, IrvisError
from irvis.runtime.files import check_outputs, write_text
from irvis.runtime.frames import split_luminance
from irvis.runtime.images import read_visible
from irvis.runtime.luminance import read_luminance, read_sizes
from irvis.runtime.pairs import Pair, files_of, images_called, pairs_of
from irvis.runtime.shipped import NAMES
from irvis.runtime.sizes import format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis evaluate``."""
    parser.add_argument("folders", type=Path, nargs="+", help="data sets")
    parser.add_argument(
        "--model",
        action="append",
        metavar="MODEL",
        help=".onnx or .engine; a student's .safetensors, .pt or .pth; or NAME=FILE, a published network such as "
        "SHIP and its weights; or student, the default, or fast, which irvis ships; may be repeated",
    )
    parser.add_argument(
        "--teacher",
        action="append",
        default=[],
        metavar="SPEC",
        help="a teacher of your own, or a published one, as `irvis train --teacher` takes it: NAME=WEIGHTS, or as "
        "`irvis teachers` says; run in PyTorch or ONNX Runtime, beside the models; may be repeated",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="where PyTorch runs checkpoints, published networks and teachers: cpu (the default), cuda or cuda:1; "
        "an ONNX or engine runs on a GPU if there is one",
    )
    parser.add_argument(
        "--fused",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="images that another program fused, called as the pairs of the one data set; may be repeated",
    )
    parser.add_argument("--resize", action="store_true", help="fit frames of another size to the model's and back")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the unrounded figures here too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="and here for a paper (booktabs, amssymb)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis evaluate``: one table per data set, of models, teachers, images, the inputs' mean and the paper's."""
    check_device(arguments.device)
    outputs = [(arguments.csv, to_csv), (arguments.markdown, to_markdown), (arguments.latex, to_tex)]
    inputs: List[Optional[Path]] = [split_name(text)[1] for text in arguments.model or []]
    inputs += teacher_files(arguments.teacher)
    data_sets = [(folder, pairs_of(folder)) for folder in arguments.folders]
    fused = _fused_images(arguments.fused, [pairs for _, pairs in data_sets])
    inputs += [file for _, pairs in data_sets for file in files_of(pairs)]
    inputs += [file for files in fused.values() for file in files]
    check_outputs([file for file, _ in outputs], inputs)
    results = []
    with ExitStack() as stack:
        models = _open_models(arguments, stack)
        for name in {model.name for model in models} & set(fused):
            raise IrvisError(f"two methods are called {name}; give the images of --fused another name")
        check_inputs(models, [pairs for _, pairs in data_sets], fused.values())
        for folder, pairs in data_sets:
            rows = [Row(model.name, MODEL, evaluate_pairs(pairs, model.fuse, model.name)) for model in models]
            rows += [Row(name, MODEL, evaluate_images(pairs, files, name)) for name, files in fused.items()]
            # Always included, since it flatters some metrics more than any model does.
            rows.append(Row("mean of the inputs", BASELINE, evaluate_pairs(pairs, mean)))
            rows += [Row(name, PUBLISHED, row) for name, row in published_quality(folder, len(pairs)).items()]
            results.append(Quality(data_set_name(folder), len(pairs), rows))
            print(to_text(results[-1]), end="\n\n", flush=True)
    if has_published(results):
        print(FOOTNOTE)
    for file, to_format in outputs:
        if file:
            write_text(file, to_format(results))
    return 0


def _fused_images(given: Sequence[str], data_sets: Sequence[List[Pair]]) -> Dict[str, List[Path]]:
    """Return the images of each --fused by its name, one for each pair. Raises IrvisError."""
    if given and len(data_sets) > 1:
        raise IrvisError(f"--fused has the images of one data set. Got {len(data_sets)}; measure them one by one")
    names = [pair.name for pair in data_sets[0]]
    return {name: images_called(folder, names) for name, folder in parse_fused(given, "FOLDER").items()}


def _open_models(arguments: argparse.Namespace, stack: ExitStack) -> List[Model]:
    """Open each model once, then the teachers; those that share a name are named as on the command line."""
    texts: List[Optional[str]] = list(dict.fromkeys(arguments.model or [None]))
    resize, device = arguments.resize, arguments.device
    given = [(text or NAMES[0], open_model(text, stack, resize, device)) for text in texts]
    given += zip(arguments.teacher, open_teachers(arguments.teacher, device))
    names = [model.name for _, model in given]
    return [Model(text, model.fuse) if names.count(model.name) > 1 else model for text, model in given]


def check_inputs(models: Sequence[Model], data_sets: Iterable[List[Pair]], fused: Iterable[Sequence[Path]]) -> None:
    """Read every image, and try the models on pairs of two sizes, for one that takes only one size.

    Raises IrvisError for what would otherwise end the command after an hour. Each of ``fused`` has one image for each
    pair of the only data set.
    """
    for pairs in data_sets:
        sizes = read_sizes(pairs)
        for file, size in (each for files in fused for each in zip(files, sizes)):
            _read_fused(file, size)
        of_size = dict(zip(sizes, pairs))
        for model, pair in itertools.product(models, [*of_size.values()][:2]):
            model.fuse(*read_luminance(pair))


def mean(infrared: np.ndarray, luminance: np.ndarray) -> np.ndarray:
    """Return the mean of two uint8 planes, halves rounded to even as the fused plane's are."""
    return np.rint((infrared.astype(np.float32) + luminance) / 2).astype(np.uint8)


def evaluate_pairs(pairs: List[Pair], fuse: Fuse, label: str = "mean of the inputs") -> Dict[str, float]:
    """Return each metric's mean over the pairs, on luminance; ``label`` heads the progress bar. Raises IrvisError.

    A warning tells on which pairs a metric is not finite, which the mean leaves out.
    """
    values = []
    for pair in tqdm(pairs, desc=label, unit="pair", disable=None, leave=False):
        infrared, luminance = read_luminance(pair)
        values.append(evaluate_fusion(infrared, luminance, fuse(infrared, luminance)))
    return told_means_of(label, [pair.name for pair in pairs], values)


def evaluate_images(pairs: List[Pair], images: Sequence[Path], label: str) -> Dict[str, float]:
    """Return what ``evaluate_pairs`` does for images fused before, one for each pair. Raises IrvisError."""
    files = iter(images)

    def read(infrared: np.ndarray, _: np.ndarray) -> np.ndarray:
        return _read_fused(next(files), infrared.shape)

    return evaluate_pairs(pairs, read, label)


def _read_fused(file: Path, size: Sequence[int]) -> np.ndarray:
    """Return the luminance of an image that was fused elsewhere. Raises FrameError if it has another size (H, W)."""
    plane = split_luminance(read_visible(file)).y
    if plane.shape != size:
        raise FrameError(
            f"{file} does not have the size of its pair. "
            f"Got {format_size(plane.shape)}, the pair is {format_size(size)}"
        )
    return plane
