"""Tables 1 and 2: ``irvis experiment quality TNO/test MSRS/test --student FILE --weights FOLDER -o quality``.

Every method fuses every pair on luminance, the cheapest method first, and the tables are rewritten after each method. A
pair's metrics are saved at once, by the SHA-256 of the method's file and of the pair's: a stopped command resumes, and
a command with one more method measures only that one. Besides the tables, quality-pairs.csv has every pair's metrics.
"""

import argparse
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Deque, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from tqdm import tqdm

from irvis.benchmarks import complexity
from irvis.benchmarks.data_sets import data_set_name
from irvis.benchmarks.evaluate import mean
from irvis.benchmarks.experiments.methods import Method, add_method_arguments, methods_of
from irvis.benchmarks.experiments.pair_keys import key_of
from irvis.benchmarks.experiments.quality_tables import MEAN, Measured, write_quality
from irvis.benchmarks.fusers import Fuse
from irvis.benchmarks.metrics import published_metrics
from irvis.benchmarks.published import METRICS
from irvis.benchmarks.ranked_tables import check_quick
from irvis.runtime.errors import FileError, IrvisError, one_line
from irvis.runtime.files import check_writable, parse_json, read_bytes, write_json
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import Pair, pairs_of
from irvis.runtime.spread import spread_end_to_end
from irvis.student.checkpoint import load_student
from irvis.student.teachers.published import network_class

QUICK_PAIRS, QUICK_SIDE = 1, 128
AHEAD = 2  # pairs fused before their metrics are computed, to keep both cores busy


class DataSet(NamedTuple):
    """A data set to measure on."""

    name: str
    folder: Path
    pairs: Dict[str, Pair]  # by ``key_of``
    held: int  # pairs in the folder
    side: Optional[int]  # of the corner of each image that is measured; None: whole images


class Kept:
    """A method's metrics on the pairs of a data set, in a file that is written after each pair. Raises FileError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.metrics: Dict[str, Dict[str, float]] = {}  # by the pair's key in DataSet
        if path.exists():
            try:
                found = parse_json(read_bytes(path, "figures"))
                self.metrics = {key: {name: float(row[name]) for name in METRICS} for key, row in found.items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise FileError(f"not figures of irvis experiment quality: {path}; remove it") from error

    def measure(self, key: str, *planes: np.ndarray) -> None:
        """Compute and save the metrics of infrared, visible and fused, uint8 (H, W) each."""
        self.metrics[key] = published_metrics(*(plane.astype(np.float64) for plane in planes))
        write_json(self._path, self.metrics)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis experiment quality``."""
    parser.add_argument("folders", type=Path, nargs="+", help="data sets, such as TNO/test")
    add_method_arguments(parser)
    parser.add_argument("--limit", type=int, metavar="INT", help="pairs of each data set, evenly spread (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=Path("quality"), help="folder (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="a corner of one pair per data set: writes all files, but means nothing"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis experiment quality``; return the exit code: 0 when done, 130 when stopped and resumable."""
    check_writable(arguments.output / "quality-pairs.csv")
    if arguments.quick:
        check_quick(arguments.output.glob("quality-*.md"))
    if arguments.limit is not None and arguments.limit < 1:
        raise IrvisError(f"--limit must be 1 or more. Got {arguments.limit}")
    data_sets = data_sets_of(arguments)
    methods = methods_of(arguments)
    fusers = {method: method.open() for method in methods}  # a wrong file is reported before the others take an hour
    measured = [
        Measured(data_set.name, data_set.folder, list(data_set.pairs.values()), data_set.held, data_set.side, {}, {})
        for data_set in data_sets
    ]
    try:
        cheapest_first = sorted(methods, key=cost_of)
        runs = [(MEAN, "", mean), *((method.name, method.digest, fusers[method]) for method in cheapest_first)]
        for number, (name, digest, fuse) in enumerate(runs, 1):
            print(f"{number} of {len(runs)}: {name}", flush=True)
            _measure_all(name, digest, fuse, data_sets, measured, arguments.output)
            files = write_quality(arguments.output, methods, measured)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume")
        return 130
    for file in files:
        print(f"wrote {file}")
    return 0


def data_sets_of(arguments: argparse.Namespace) -> List[DataSet]:
    """Return the data sets to measure on. Raises IrvisError."""
    limit, side = (QUICK_PAIRS, QUICK_SIDE) if arguments.quick else (arguments.limit, None)
    found: Dict[str, DataSet] = {}
    for folder in arguments.folders:
        name, pairs = data_set_name(folder), pairs_of(folder)
        if name in found:
            raise IrvisError(f"two data sets are called {name}: {found[name].folder} and {folder}; rename a folder")
        chosen = spread_end_to_end(pairs, limit) if limit else pairs
        found[name] = DataSet(name, folder, {key_of(pair): pair for pair in chosen}, len(pairs), side)
    return list(found.values())


def cost_of(method: Method) -> int:
    """Count a method's multiply-adds for a frame of 64x64, to order methods by cost. Raises IrvisError."""
    network = load_student(method.file) if method.is_student else network_class(method.name)()
    return complexity.count(method.name, network, (64, 64)).macs


def _measure_all(
    name: str, digest: str, fuse: Fuse, data_sets: Sequence[DataSet], measured: Sequence[Measured], output: Path
) -> None:
    """Measure a method on each data set; where it cannot be run, record why and go on."""
    for data_set, found in zip(data_sets, measured):
        cut = f"-{data_set.side}" if data_set.side else ""
        kept = Kept(output / "pairs" / data_set.name.replace("/", "-") / f"{name}-{digest[:12]}{cut}.json")
        try:
            _measure(name, fuse, data_set, kept)
        except (RuntimeError, MemoryError) as error:  # out of memory, PyTorch raises RuntimeError
            found.left_out[name] = one_line(error, 150) or "out of memory"
            print(f"left out: {name} on {data_set.name}: {found.left_out[name]}", flush=True)
        else:
            found.figures[name] = [kept.metrics[key] for key in data_set.pairs]


def _measure(name: str, fuse: Fuse, data_set: DataSet, kept: Kept) -> None:
    """Measure the pairs without saved metrics, computing those of one while the next is fused."""
    missing = [key for key in data_set.pairs if key not in kept.metrics]
    behind: Deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as pool:  # leaving it waits, so that what was fused before Ctrl-C is saved too
        for key in tqdm(missing, desc=f"{name}, {data_set.name}", unit="pair", disable=None, leave=False):
            infrared, visible = (
                plane[: data_set.side, : data_set.side] for plane in read_luminance(data_set.pairs[key])
            )
            behind.append(pool.submit(kept.measure, key, infrared, visible, fuse(infrared, visible)))
            if len(behind) > AHEAD:
                behind.popleft().result()
    for measuring in behind:
        measuring.result()
