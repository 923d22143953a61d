"""D-FINE, a detector of the DETR family under the Apache licence, as implemented in the library ``transformers``.

With a folder of ``config.json`` and ``model.safetensors``, such as ustc-community/dfine-nano-coco (4 million
parameters; YOLOv5s has 7) or dfine-small-coco (10), it is that network with these weights, except for the
classification layers, which start from random numbers, as YOLOv5's do. Without one, it is a network of half a million
random parameters, for a smoke run.

It is trained by AdamW, because a DETR does not learn by the paper's SGD. Images are stretched to a square and flipped
at random.
"""

import math
import pickle
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np
import torch
from tqdm import tqdm
from transformers import DFineConfig

from irvis.benchmarks.detection.batches import Batch, epoch_batches, to_planes
from irvis.benchmarks.detection.detector import Example, Settings
from irvis.benchmarks.detection.dfine_networks import published_network, random_network
from irvis.benchmarks.detection.objects import Detections
from irvis.benchmarks.detection.precision import MOST, average_precisions, mean_precision
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.images import read_image
from irvis.student.checkpoint import save_state

# Peak learning rates: for published weights the authors' own, scaled to a batch of 32; for random ones a higher rate.
FINE_TUNING, FROM_SCRATCH = 2e-4, 1e-3
WEIGHT_DECAY, GRADIENT_NORM = 1e-4, 1.0
WARM_UP = 0.05  # share of the training


class DFine:
    """A Detector. Raises FileError if the weights are missing, ModelError if they are of another network."""

    def __init__(self, classes: Sequence[str], weights: Optional[Path], device: str) -> None:
        self.classes, self.device = len(classes), torch.device(device)
        self.pretrained = weights is not None
        self.rate = FINE_TUNING if self.pretrained else FROM_SCRATCH
        self.weights = weights
        if weights is not None:
            published_network(weights, self.classes)  # to report what is wrong before hours of work
        start = "from published weights" if self.pretrained else "from random numbers"
        self.about = f"D-FINE {start}, by AdamW at a peak rate of {self.rate:g}"

    def fit(self, training: Sequence[Example], validation: Sequence[Example], settings: Settings, folder: Path) -> None:
        """Train, and save the state after each epoch; see Detector."""
        torch.manual_seed(settings.seed)
        self.side = settings.side
        start = random_network(self.classes) if self.weights is None else published_network(self.weights, self.classes)
        self.network = start.to(self.device)
        check_side(settings.side, start.config)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), self.rate, weight_decay=WEIGHT_DECAY)
        file, batches = folder / "state.pt", math.ceil(len(training) / settings.batch)
        state: Dict[str, Any] = self._resume(file) if file.exists() else {"epoch": 0, "best": -math.inf}
        for epoch in tqdm(
            range(state["epoch"], settings.epochs), folder.name, settings.epochs, initial=state["epoch"], disable=None
        ):
            torch.manual_seed(settings.seed + epoch)  # for the noise on boxes, so that a resumed training is the same
            for at, batch in enumerate(epoch_batches(training, settings, epoch, self.device.type == "cuda")):
                self._step(batch, self.rate * schedule((epoch + at / batches) / settings.epochs))
            precision = self._precision(validation)
            if not precision < state["best"]:  # on a tie, the later one, which has trained longer
                state["best"] = precision
                state["best_network"] = {name: value.clone() for name, value in self.network.state_dict().items()}
            state.update(epoch=epoch + 1, network=self.network.state_dict(), optimizer=self.optimizer.state_dict())
            save_state(file, state)
        self.network.load_state_dict(state["best_network"])

    def detect(self, image: np.ndarray) -> Detections:
        """Return the boxes with the highest scores, at most MOST; see Detector."""
        self.network.eval()
        with torch.no_grad():
            found = self.network(pixel_values=to_planes(image, self.side)[None].to(self.device))
        scores = found.logits[0].sigmoid().flatten()  # query by query, class by class
        scores, places = scores.topk(min(MOST, len(scores)))
        centre, size = found.pred_boxes[0][places // self.classes].split(2, dim=1)
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1).clamp(0, 1)
        return Detections(*(part.cpu().numpy() for part in (boxes, places % self.classes, scores)))

    def _step(self, batch: Batch, rate: float) -> None:
        planes, targets = batch
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        labels = [{name: value.to(self.device) for name, value in target.items()} for target in targets]
        self.optimizer.zero_grad()
        self.network(pixel_values=planes.to(self.device), labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.optimizer.step()

    def _precision(self, examples: Sequence[Example]) -> float:
        """Return the mean average precision, or 0 if no image has an object."""
        found = [self.detect(read_image(example.image)) for example in examples]
        precision = mean_precision(average_precisions(found, [example.objects for example in examples], self.classes))
        return 0.0 if math.isnan(precision) else precision

    def _resume(self, file: Path) -> Dict[str, Any]:
        try:
            state: Dict[str, Any] = torch.load(file, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (
            RuntimeError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            pickle.UnpicklingError,
        ) as error:
            raise FileError(f"not a training state of D-FINE: {file}; remove it") from error
        return state


def check_side(side: int, config: DFineConfig) -> None:
    """Raise IrvisError if images of this side have fewer places than the network has queries."""
    places = sum((side // stride) ** 2 for stride in config.feat_strides)
    if places < config.num_queries:
        raise IrvisError(
            f"D-FINE has {config.num_queries} queries, but only {places} places in an image of {side}x{side}; "
            "give a larger --side"
        )


def schedule(done: float) -> float:
    """Return the learning rate relative to its peak: linear warm-up, then half a cosine. ``done`` is in [0, 1]."""
    if done < WARM_UP:
        return (done + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
