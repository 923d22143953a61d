"""How well a detector does: the average precision of each class at an overlap of one half, as COCO counts it.

Precision is averaged over 101 recalls, as the paper's YOLOv5 does, but there it goes in straight lines between what was
found and down to 0 at a recall of 1: some tenths of a percent more where nearly all is found, and several percent more
where the detections end early. It counts 300 detections of an image, COCO 100.
"""

import contextlib
import io
import math
from typing import Any, Dict, List, Sequence

import numpy as np

from irvis.benchmarks.detection.objects import Detections, Objects

OVERLAP = 0.5  # intersection over union from which a box counts as found
MOST = 100  # detections of an image that are counted, those of the highest scores


def average_precisions(found: Sequence[Detections], wanted: Sequence[Objects], classes: int) -> List[float]:
    """Give each class's average precision in [0, 1] over the images; NaN for a class without objects."""
    # Here, since all of `irvis experiment` imports this module, also where the extra is not installed.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    objects = [
        {**_entry(image, box, kind), "id": number, "iscrowd": 0}
        for number, (image, box, kind) in enumerate(
            ((image, box, kind) for image, truth in enumerate(wanted) for box, kind in zip(*truth)), 1
        )
    ]
    detections = [
        {**_entry(image, box, kind), "score": float(score)}
        for image, these in enumerate(found)
        for box, kind, score in zip(*these)
    ]
    if not detections:  # which COCO does not take
        present = {entry["category_id"] for entry in objects}
        return [0.0 if kind in present else math.nan for kind in range(classes)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its timings
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(wanted))],
            "categories": [{"id": kind} for kind in range(classes)],
            "annotations": objects,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.params.iouThrs = np.array([OVERLAP])
        evaluation.params.maxDets = [MOST]
        evaluation.params.areaRng = [[0, 1]]  # of the whole image
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 0]  # recall x class, -1 for a class without objects
    return [float(np.mean(column)) if column[0] >= 0 else math.nan for column in precision.T]


def mean_precision(precisions: Sequence[float]) -> float:
    """Give the mean over the classes that have objects; NaN where none has."""
    there = [value for value in precisions if not math.isnan(value)]
    return float(np.mean(there)) if there else math.nan


def _entry(image: int, box: np.ndarray, kind: int) -> Dict[str, Any]:
    left, top, right, bottom = map(float, box)
    width, height = right - left, bottom - top
    return {"image_id": image, "category_id": int(kind), "bbox": [left, top, width, height], "area": width * height}
