"""The detector that is trained on each method's images: D-FINE, or one of your own.

Your own detector comes from a function ``package.module:function`` that returns a Detector, found in the folder that
the command is called from or on Python's path. It is called as ``function(classes, weights, device)`` with the names of
the classes, the path of ``--detector-weights`` or None, and ``"cpu"`` or ``"cuda"``. Such a function can wrap what
irvis cannot ship, such as the paper's YOLOv5, whose licence is the AGPL: ``fit`` writes ``labels/NAME.txt`` beside
copies of the images and calls its trainer with the settings; ``detect`` calls the model.
"""

from pathlib import Path
from typing import NamedTuple, Optional, Protocol, Sequence

import numpy as np

from irvis.benchmarks.detection.objects import Detections, Objects
from irvis.runtime.errors import IrvisError, ModelError, one_line
from irvis.student.plugins import FORM, call_function

DEFAULT = "dfine"


class Example(NamedTuple):
    """An image file and its objects."""

    image: Path
    objects: Objects


class Settings(NamedTuple):
    """How to train; the defaults are the paper's for YOLOv5s."""

    epochs: int = 100
    batch: int = 32
    side: int = 640  # pixels; the detector sees images as squares of this side
    seed: int = 0
    # For stochastic gradient descent; a detector with another optimiser has its own.
    learning_rate: float = 0.01
    momentum: float = 0.937
    weight_decay: float = 5e-4


class Detector(Protocol):
    """What the experiment trains and tests."""

    about: str  # what it is and how it is trained, in a few words for the table
    pretrained: bool  # on other images; training from random weights is only a smoke run

    def fit(self, training: Sequence[Example], validation: Sequence[Example], settings: Settings, folder: Path) -> None:
        """Train, and end with the weights that did best on the validation images.

        ``folder`` is for its state alone: if an earlier call with the same arguments left one, training resumes from
        it. Raises IrvisError.
        """

    def detect(self, image: np.ndarray) -> Detections:
        """Return the objects found in an image, uint8 BGR (H, W, 3); called after ``fit``."""


def open_detector(name: str, classes: Sequence[str], weights: Optional[Path], device: str) -> Detector:
    """Return the detector with this name, ``dfine`` or ``package.module:function``. Raises IrvisError, ModelError."""
    if name == DEFAULT:
        try:
            from irvis.benchmarks.detection.dfine import DFine
        except ImportError as error:
            raise IrvisError(f"{one_line(error)}: pip install 'irvis[detection]', on Python 3.11 or newer") from error
        return DFine(classes, weights, device)
    if not FORM.fullmatch(name):
        raise IrvisError(f"--detector must be {DEFAULT} or package.module:function. Got {name!r}")
    detector: Detector = call_function(name, classes, weights, device)
    missing = [part for part in ("about", "pretrained", "fit", "detect") if not hasattr(detector, part)]
    if missing:
        raise ModelError(f"{name} must return a Detector. Missing: {', '.join(missing)}")
    return detector
