import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.benchmarks.detection.batches import epoch_batches, to_planes
from irvis.benchmarks.detection.detector import Example, Settings
from irvis.benchmarks.detection.objects import Objects
from irvis.runtime.images import write_image

SETTINGS = Settings(batch=2, side=32)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Images that are black but for a bright box on the left, which is their object; the last has none."""
    folder, found = tmp_path_factory.mktemp("examples"), []
    for number in range(5):
        image = np.zeros((48, 64, 3), np.uint8)
        boxes = np.zeros((0, 4), np.float32)
        if number < 4:
            image[12:24, 8:24, 2] = 50 * (number + 1)
            boxes = np.array([[8 / 64, 12 / 48, 24 / 64, 24 / 48]], np.float32)
        write_image(folder / f"{number}.png", image)
        found.append(Example(folder / f"{number}.png", Objects(boxes, np.full(len(boxes), number))))
    return found


def rows(examples, settings, epoch):
    return [
        (image, target["boxes"], target["class_labels"])
        for images, targets in epoch_batches(examples, settings, epoch, False)
        for image, target in zip(images, targets)
    ]


def test_an_image_is_red_first_square_and_in_0_to_1():
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :, 2] = 255
    planes = to_planes(image, 32)
    assert planes.shape == (3, 32, 32)
    assert [plane.unique().tolist() for plane in planes] == [[1], [0], [0]]
    assert torch.equal(*to_planes(image[:, :, 2], 16)[:2])


def test_an_epoch_sees_every_image_and_flips_boxes_with_it(examples):
    settings, seen, flipped = SETTINGS, [], 0
    for epoch in range(3):
        assert [len(targets) for _, targets in epoch_batches(examples, settings, epoch, False)] == [2, 2, 1]
        for image, boxes, classes in rows(examples, settings, epoch):
            seen += classes.tolist()
            if len(boxes):
                x, y, width, height = boxes[0].tolist()
                assert (y, width, height) == pytest.approx((0.375, 0.25, 0.25))
                bright = (image[0] > 0).nonzero()
                assert bright[:, 1].float().mean() + 0.5 == pytest.approx(32 * x, abs=0.1)
                flipped += x > 0.5
    assert sorted(seen) == sorted([0, 1, 2, 3] * 3)
    assert 0 < flipped < 12


def test_an_epoch_is_the_same_again_and_another_one_or_another_seed_has_another_order(examples):
    one, again = rows(examples, SETTINGS, 0), rows(examples, SETTINGS, 0)
    assert all(torch.equal(*both) for pair in zip(one, again) for both in zip(*pair))
    orders = [
        [classes.tolist() for _, _, classes in rows(examples, SETTINGS._replace(seed=seed), epoch)]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(one != other for index, one in enumerate(orders) for other in orders[:index])
