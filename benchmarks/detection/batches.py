"""Batches of images and boxes in the form that a network takes."""

from typing import Any, Dict, List, Sequence, Tuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from irvis.benchmarks.detection.detector import Example, Settings
from irvis.runtime.images import read_image

WORKERS = 8  # processes that read images when training on a GPU

# "class_labels": int64 (N,); "boxes": float32 (N, 4), centre x, centre y, width, height, relative to the image's size
Target = Dict[str, Tensor]
Batch = Tuple[Tensor, List[Target]]  # float32 (B, 3, side, side) in [0, 1], and each image's objects


class Examples(Dataset[Tuple[Tensor, Target]]):
    """Examples, mirrored left to right where ``flipped`` is true."""

    def __init__(self, examples: Sequence[Example], flipped: Sequence[bool], side: int) -> None:
        self.examples, self.flipped, self.side = examples, flipped, side

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Tuple[Tensor, Target]:
        path, (corners, classes) = self.examples[index]
        planes, boxes = to_planes(read_image(path), self.side), torch.from_numpy(corners)
        first, last = boxes.split(2, dim=1)
        target = torch.cat([(first + last) / 2, last - first], dim=1)
        if self.flipped[index]:
            planes = planes.flip(2)
            target[:, 0] = 1 - target[:, 0]
        return planes, {"class_labels": torch.from_numpy(classes), "boxes": target}


def epoch_batches(examples: Sequence[Example], settings: Settings, epoch: int, cuda: bool) -> "DataLoader[Any]":
    """Return an epoch's batches, each a Batch.

    Order and flips depend only on the seed and the epoch, so that a run can resume.
    """
    drawn = np.random.default_rng([settings.seed, epoch])
    order, flips = drawn.permutation(len(examples)), (drawn.random(len(examples)) < 0.5).tolist()
    seen = Examples([examples[index] for index in order], flips, settings.side)
    return DataLoader(seen, settings.batch, collate_fn=_stacked, num_workers=WORKERS if cuda else 0)


def to_planes(image: np.ndarray, side: int) -> Tensor:
    """uint8 BGR (H, W, 3) or grey (H, W) -> RGB, stretched to a square, float32 (3, side, side) in [0, 1]."""
    colours = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
    mode = cv2.INTER_AREA if min(image.shape[:2]) > side else cv2.INTER_LINEAR
    return torch.from_numpy(cv2.resize(colours, (side, side), interpolation=mode)).permute(2, 0, 1).float() / 255


def _stacked(items: Sequence[Tuple[Tensor, Target]]) -> Batch:
    planes, targets = zip(*items)
    return torch.stack(planes), list(targets)
