"""How good a detector is: the average precision of each class at an overlap of one half, as COCO computes it.

Precision is averaged over 101 recalls, as in the paper's YOLOv5. YOLOv5, however, interpolates it linearly between the
points found and down to 0 at a recall of 1, which gives some tenths of a percent more if nearly all objects are found,
and several percent more if the detections end early. It counts 300 detections per image, COCO 100.
"""

import contextlib
import io
import math
from typing import Any, Dict, List, Sequence

import numpy as np

from irvis.benchmarks.detection.objects import Detections, Objects

OVERLAP = 0.5  # intersection over union at which a box counts as found
MOST = 100  # detections counted per image, those with the highest scores


def average_precisions(found: Sequence[Detections], wanted: Sequence[Objects], classes: int) -> List[float]:
    """Return each class's average precision in [0, 1] over the images; NaN for a class without objects."""
    # Imported here, since all of `irvis experiment` imports this module, even without the extra installed.
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
    if not detections:  # an empty list, which COCO rejects
        present = {entry["category_id"] for entry in objects}
        return [0.0 if kind in present else math.nan for kind in range(classes)]
    with contextlib.redirect_stdout(io.StringIO()):  # COCOeval prints its timings
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
        evaluation.params.areaRng = [[0, 1]]  # as shares of the image: boxes of every size
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 0]  # recall x class, -1 for a class without objects
    return [float(np.mean(column)) if column[0] >= 0 else math.nan for column in precision.T]


def mean_precision(precisions: Sequence[float]) -> float:
    """Return the mean over the classes that have objects; NaN if none has."""
    there = [value for value in precisions if not math.isnan(value)]
    return float(np.mean(there)) if there else math.nan


def _entry(image: int, box: np.ndarray, kind: int) -> Dict[str, Any]:
    left, top, right, bottom = map(float, box)
    width, height = right - left, bottom - top
    return {"image_id": image, "category_id": int(kind), "bbox": [left, top, width, height], "area": width * height}
