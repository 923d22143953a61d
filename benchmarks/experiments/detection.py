"""Table 6 and figure 10: ``irvis experiment detection M3FD/test --weights FOLDER --detector-weights FOLDER``.

The data set is fused with each method, in colour; a detector is trained and tested on each method's images, and on the
plain visible and infrared ones. Existing results are kept, so a stopped command resumes. The output folder has the
images in ``images/METHOD``, the training state and the detections in ``detectors/METHOD``, the tables, and the test
images with their boxes in ``pictures``.
"""

import argparse
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from tqdm import tqdm

from irvis.benchmarks.data_sets import data_set_name
from irvis.benchmarks.detection.detector import DEFAULT, Detector, Example, Settings, open_detector
from irvis.benchmarks.detection.objects import CLASSES, Detections, Labelled, labelled_pairs, split_of
from irvis.benchmarks.detection.pictures import Tile, detected, draw_grid
from irvis.benchmarks.detection.precision import average_precisions, mean_precision
from irvis.benchmarks.experiments.detection_images import Source, claim, sources_of, write_images
from irvis.benchmarks.experiments.detection_tables import Row, Setting, write_detection
from irvis.benchmarks.experiments.methods import add_method_arguments, methods_of
from irvis.benchmarks.experiments.pair_keys import digest_pairs
from irvis.benchmarks.tables import MODEL
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_writable, parse_json, read_bytes, sha256, write_json
from irvis.runtime.images import read_image, read_visible, write_image
from irvis.runtime.spread import spread_end_to_end
from irvis.student.distributed import processes

QUICK: Dict[str, Any] = {"epochs": 2, "batch": 2, "side": 128}
QUICK_PAIRS, QUICK_WIDTH = 4, 256
PICTURES = 4
LEAST_SIDE, STRIDE = 96, 32  # pixels, of images; STRIDE is that of the coarsest features of most detectors
DECIMALS = 6  # of saved detections


class Task(NamedTuple):
    """What all methods share."""

    pairs: List[Labelled]
    classes: Sequence[str]
    settings: Settings
    detector: str
    weights: Optional[Path]
    device: str
    width: Optional[int]  # pixels, to which pairs are shrunk; None: not shrunk
    output: Path

    def open_detector(self) -> Detector:
        """Return a new, untrained detector."""
        return open_detector(self.detector, self.classes, self.weights, self.device)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis experiment detection``."""
    default = Settings()
    parser.add_argument("folder", type=Path, help="data set with labels/ in YOLO's form, such as M3FD/test")
    add_method_arguments(parser)
    parser.add_argument(
        "--classes",
        type=_names,
        default=CLASSES,
        metavar="LIST",
        help="names of the labels' classes, separated by commas (default: those of M3FD)",
    )
    parser.add_argument(
        "--detector",
        default=DEFAULT,
        metavar="NAME",
        help="dfine, or package.module:function of your own (default: %(default)s)",
    )
    parser.add_argument(
        "--detector-weights",
        type=Path,
        metavar="PATH",
        help="your copy of published weights; for dfine, a folder with config.json and model.safetensors. Without "
        "them, the detector starts from random weights, as a smoke run",
    )
    parser.add_argument("--epochs", type=int, metavar="INT", help=f"(default: {default.epochs})")
    parser.add_argument("--batch", type=int, metavar="INT", help=f"images a step (default: {default.batch})")
    parser.add_argument(
        "--side", type=int, metavar="INT", help=f"side of the detector's images (default: {default.side})"
    )
    parser.add_argument("--seed", type=int, metavar="INT", help=f"for split and training (default: {default.seed})")
    parser.add_argument(
        "--quick", action="store_true", help="few small images and epochs: writes all files, but means nothing"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("-o", "--output", type=Path, default=Path("detection"), help="folder (default: %(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis experiment detection``; return the exit code: 0 when done, 130 when stopped and resumable."""
    if find_spec("pycocotools") is None:
        raise IrvisError("pycocotools is not installed: pip install 'irvis[detection]'")
    check_writable(arguments.output / "detection.md")
    with processes(arguments.device) as among:
        task = task_of(arguments, among.device.type)
    sources = sources_of(methods_of(arguments))
    split = split_of(task.pairs, task.settings.seed)
    detector = task.open_detector()  # first, to report what is wrong with it before hours of work
    claim_all(task, sources)
    try:
        found = {source.name: found_by(task, source) for source in sources}
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume")
        return 130
    truth = [labelled.objects for labelled in split.test]
    rows = []
    for name, detections in found.items():
        values = [100 * value for value in average_precisions(detections, truth, len(task.classes))]
        rows.append(Row(name, MODEL, values, mean_precision(values)))
    setting = Setting(
        data_set_name(arguments.folder),
        task.classes,
        [len(part) for part in split],
        sum(len(objects.classes) for objects in truth),
        detector.about,
        task.settings,
        arguments.quick or not detector.pretrained,
    )
    for file in [*write_detection(arguments.output, rows, setting), *write_pictures(task, split.test, found)]:
        print(f"wrote {file}")
    return 0


def task_of(arguments: argparse.Namespace, device: str) -> Task:
    """Return the task that the options describe. Raises IrvisError."""
    given = {name: getattr(arguments, name) for name in ("epochs", "batch", "side", "seed")}
    settings = Settings(**(QUICK if arguments.quick else {}))
    settings = settings._replace(**{name: value for name, value in given.items() if value is not None})
    for name, least in (("epochs", 1), ("batch", 1), ("side", LEAST_SIDE), ("seed", 0)):
        if getattr(settings, name) < least:
            raise IrvisError(f"--{name} must be {least} or more. Got {getattr(settings, name)}")
    if settings.side % STRIDE:
        raise IrvisError(f"--side must be a multiple of {STRIDE}. Got {settings.side}")
    pairs = labelled_pairs(arguments.folder, len(arguments.classes))
    return Task(
        spread_end_to_end(pairs, QUICK_PAIRS) if arguments.quick else pairs,
        arguments.classes,
        settings,
        arguments.detector,
        arguments.detector_weights,
        device,
        QUICK_WIDTH if arguments.quick else None,
        arguments.output,
    )


def claim_all(task: Task, sources: Sequence[Source]) -> None:
    """Refuse, before any work, an output folder that was made from other inputs. Raises FileError."""
    labels = hashlib.sha256(b"".join(part.tobytes() for one in task.pairs for part in one.objects)).hexdigest()
    images = {"pairs": digest_pairs([labelled.pair for labelled in task.pairs]), "width": task.width}
    training = {
        "detector": task.detector,
        "detector-weights": _digests_of(task.weights),
        "classes": list(task.classes),
        "labels": labels,
        **task.settings._asdict(),
    }
    for source in sources:
        claim(task.output / "images" / source.name, {"method": source.digest, **images})
        claim(task.output / "detectors" / source.name, {"method": source.digest, **images, **training})


def found_by(task: Task, source: Source) -> List[Detections]:
    """Return what a detector trained on a method's images finds in its test images. Raises IrvisError."""
    split = split_of(task.pairs, task.settings.seed)
    folder = task.output / "detectors" / source.name
    kept = folder / "found.json"
    if kept.exists():
        return read_detections(kept, [labelled.pair.name for labelled in split.test])
    images = task.output / "images" / source.name
    write_images(images, source, [labelled.pair for labelled in task.pairs], task.width)
    training, validation, test = (
        [Example(images / f"{labelled.pair.name}.png", labelled.objects) for labelled in part] for part in split
    )
    detector = task.open_detector()
    detector.fit(training, validation, task.settings, folder)
    found = [detector.detect(read_image(example.image)) for example in tqdm(test, disable=None, leave=False)]
    rows = {
        example.image.stem: {name: np.round(part, DECIMALS).tolist() for name, part in one._asdict().items()}
        for example, one in zip(test, found)
    }
    write_json(kept, rows)
    return read_detections(kept, list(rows))


def read_detections(file: Path, names: Sequence[str]) -> List[Detections]:
    """Return the saved detections in the images with these names. Raises FileError."""
    try:
        rows = parse_json(read_bytes(file, "detections"))
        return [
            Detections(
                np.array(rows[name]["boxes"], np.float32).reshape(-1, 4),
                np.array(rows[name]["classes"], np.int64),
                np.array(rows[name]["scores"], np.float32),
            )
            for name in names
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"not the detections of an experiment: {file}; remove it") from error


def write_pictures(task: Task, test: Sequence[Labelled], found: Dict[str, List[Detections]]) -> List[Path]:
    """Draw labels and detections on each method's images of some test pairs; return the paths. Raises FileError."""
    files = []
    shown = [labelled.pair for labelled in spread_end_to_end(test, PICTURES)]
    for index, (pair, objects) in enumerate(test):
        if pair in shown:
            tiles = [Tile("labels", read_visible(pair.visible), objects)]
            for method, detections in found.items():
                image = read_image(task.output / "images" / method / f"{pair.name}.png")
                tiles.append(detected(method, image, detections[index]))
            files.append(task.output / "pictures" / f"{pair.name}.png")
            write_image(files[-1], draw_grid(tiles, task.classes))
    return files


def _digests_of(weights: Optional[Path]) -> Optional[Dict[str, str]]:
    if weights is None:
        return None
    files = sorted(weights.iterdir()) if weights.is_dir() else [weights]
    return {file.name: sha256(file) for file in files if file.is_file()}


def _names(text: str) -> List[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"the classes must be different names, separated by commas. Got {text!r}")
    return names
