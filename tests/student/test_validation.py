import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.runtime.panels import side_by_side, stack_rows
from irvis.student.datasets import draw_crops
from irvis.student.network import Student
from irvis.student.validation import fuse_planes, validate, why_not_to_use


class Noticing(Student):
    """A student that notices whether it trains while it fuses."""

    noticed = True

    def forward(self, infrared, visible):
        self.noticed = self.training
        return super().forward(infrared, visible)


def test_metrics_are_means_over_all_pairs_and_the_picture_shows_the_first_three(samples, monkeypatch):
    def evaluate(*images):
        return {f"mean {index}": float(image.mean()) for index, image in enumerate(images)}

    monkeypatch.setattr("irvis.benchmarks.metrics.evaluate_fusion", evaluate)
    torch.manual_seed(0)
    student = Noticing().train()
    pairs = [*pairs_of(samples), pairs_of(samples)[0]]
    metrics, picture = validate(student, pairs)
    assert student.training
    assert not student.noticed
    shown = [[*planes, fuse_planes(student, *planes)] for planes in map(read_luminance, pairs)]
    wanted = np.mean([list(evaluate(*images).values()) for images in shown], axis=0)
    np.testing.assert_allclose(list(metrics.values()), wanted, rtol=1e-12)
    np.testing.assert_array_equal(picture, stack_rows([side_by_side(images) for images in shown[:3]]))


def test_a_student_that_makes_negatives_is_told_from_one_that_does_not(samples):
    crops = draw_crops(pairs_of(samples), 70, 32, seed=0).crops
    seen = []

    def brighter(infrared, visible):
        seen.append(len(infrared))
        return torch.maximum(infrared, visible)

    assert why_not_to_use(brighter, crops) == ""
    assert seen == [64]  # some crops are enough
    said = why_not_to_use(lambda *planes: 1 - brighter(*planes) / 2, crops)
    assert said.startswith("the student makes negatives: its images correlate by -0.")
    assert said.endswith("; train anew with another --seed, or with --warmup")
    assert why_not_to_use(lambda infrared, visible: 0 * visible, crops) == ""  # a flat image is another fault
