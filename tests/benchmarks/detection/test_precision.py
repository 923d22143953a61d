import math

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from irvis.benchmarks.detection.objects import Detections, Objects
from irvis.benchmarks.detection.precision import average_precisions, mean_precision

LEFT, RIGHT, BELOW = [0.1, 0.1, 0.3, 0.4], [0.6, 0.1, 0.9, 0.4], [0.1, 0.6, 0.4, 0.9]
ALL = [0.0, 0.0, 1.0, 1.0]


def objects(*rows):
    return Objects(
        np.array([box for box, _ in rows], np.float32).reshape(-1, 4), np.array([kind for _, kind in rows], np.int64)
    )


def detections(*rows):
    return Detections(*objects(*(row[:2] for row in rows)), np.array([row[2] for row in rows], np.float32))


def test_a_perfect_detector_has_one_in_each_class_that_is_there():
    wanted = [objects((LEFT, 0), (ALL, 2)), objects((BELOW, 0)), objects()]
    found = [detections((LEFT, 0, 0.9), (ALL, 2, 0.2)), detections((BELOW, 0, 0.8)), detections()]
    assert average_precisions(found, wanted, 3) == pytest.approx([1, math.nan, 1], nan_ok=True)


def test_as_many_as_100_objects_in_an_image_are_found():
    boxes = [[0.01 * number, 0.0, 0.01 * number + 0.005, 0.5] for number in range(100)]
    wanted, found = objects(*((box, 0) for box in boxes)), detections(*((box, 0, 0.9) for box in boxes))
    assert average_precisions([found], [wanted], 1) == pytest.approx([1])


def test_one_of_two_missed_is_half():
    """Precision is 1 at the 51 recalls from 0 to 0.5, and 0 beyond."""
    (value,) = average_precisions([detections((LEFT, 0, 0.9))], [objects((LEFT, 0), (RIGHT, 0))], 1)
    assert value == pytest.approx(51 / 101)


def test_a_false_positive_costs_as_much_as_it_stands_before_the_true_ones():
    wanted = [objects((LEFT, 0), (RIGHT, 0))]
    before = [detections((BELOW, 0, 0.9), (LEFT, 0, 0.8), (RIGHT, 0, 0.7))]  # precisions 0, 1/2, 2/3
    between = [detections((LEFT, 0, 0.9), (BELOW, 0, 0.8), (RIGHT, 0, 0.7))]  # 1, 1/2, 2/3
    behind = [detections((LEFT, 0, 0.9), (RIGHT, 0, 0.8), (BELOW, 0, 0.7))]
    assert average_precisions(before, wanted, 1) == pytest.approx([2 / 3])
    assert average_precisions(between, wanted, 1) == pytest.approx([(51 + 50 * 2 / 3) / 101])
    assert average_precisions(behind, wanted, 1) == pytest.approx([1])


def test_a_second_box_on_the_same_object_is_a_false_positive():
    wanted = [objects((LEFT, 0), (RIGHT, 0))]
    found = [detections((LEFT, 0, 0.9), (LEFT, 0, 0.8), (RIGHT, 0, 0.7))]
    assert average_precisions(found, wanted, 1) == pytest.approx([(51 + 50 * 2 / 3) / 101])


@pytest.mark.parametrize(("width", "found"), [(0.101, 1), (0.099, 0)])
def test_from_an_overlap_of_one_half_a_box_counts(width, found):
    wanted = [objects(([0.1, 0.1, 0.3, 0.4], 0))]
    assert average_precisions([detections(([0.1, 0.1, 0.1 + width, 0.4], 0, 0.9))], wanted, 1) == pytest.approx([found])


def test_the_right_box_of_the_wrong_class_or_image_is_nothing():
    assert average_precisions([detections((LEFT, 1, 0.9))], [objects((LEFT, 0))], 2)[0] == 0
    wanted = [objects((LEFT, 0)), objects()]
    assert average_precisions([detections(), detections((LEFT, 0, 0.9))], wanted, 1) == [0]


def test_without_detections_or_objects():
    values = average_precisions([detections()], [objects((LEFT, 1))], 2)
    assert values == pytest.approx([math.nan, 0], nan_ok=True)
    assert all(map(math.isnan, average_precisions([detections((LEFT, 0, 0.9))], [objects()], 2)))


def test_the_mean_is_over_the_classes_that_are_there():
    assert mean_precision([0.5, math.nan, 1]) == 0.75
    assert math.isnan(mean_precision([math.nan]))
