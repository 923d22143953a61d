import numpy as np

from irvis.benchmarks.detection.objects import Detections, Objects
from irvis.benchmarks.detection.pictures import COLOURS, TILE_WIDTH, Tile, detected, draw, draw_grid

CLASSES = ("people", "car")
BOX = np.array([[0.25, 0.5, 0.75, 0.75]], np.float32)


def test_a_box_is_where_it_is_said_to_be_in_its_class_colour():
    image = np.zeros((30, 40, 3), np.uint8)
    canvas = draw(Tile("", image, Objects(BOX, np.array([1]))), CLASSES)
    assert canvas.shape == (600, TILE_WIDTH, 3)
    for y, x in ((300, 400), (450, 400), (400, 200), (400, 600)):  # the middle of each side
        assert canvas[y, x].tolist() == list(COLOURS[1])
    assert not canvas[320:440, 220:580].any()
    assert not canvas[470:, :].any()


def test_the_highest_score_is_on_top_and_a_seventh_class_has_the_first_colour():
    image, classes = np.zeros((30, 40), np.uint8), [*CLASSES, *"abcdef"]
    for scores, colour in (([0.9, 0.5], COLOURS[0]), ([0.5, 0.9], COLOURS[1])):
        found = Objects(np.repeat(BOX, 2, axis=0), np.array([6, 1]))
        assert draw(Tile("", image, found, np.array(scores)), classes)[450, 400].tolist() == list(colour)


def test_a_caption_stays_inside():
    edge = np.array([[0.97, 0, 1, 0.1]], np.float32)
    canvas = draw(Tile("", np.zeros((30, 40), np.uint8), Objects(edge, np.array([0])), np.array([0.5])), CLASSES)
    below = canvas[62:, :].any(axis=(0, 2)).nonzero()[0]
    assert below.max() == TILE_WIDTH - 1
    assert below.min() < 0.97 * TILE_WIDTH  # moved to the left of its box


def test_only_what_is_likely_is_drawn():
    found = Detections(np.repeat(BOX, 2, axis=0), np.array([0, 1]), np.array([0.24, 0.25], np.float32))
    tile = detected("SHIP", np.zeros((30, 40), np.uint8), found)
    assert tile.objects.classes.tolist() == [1]
    assert tile.scores.tolist() == [0.25]


def test_tiles_stand_in_rows_of_three():
    tile = Tile("visible", np.zeros((30, 40), np.uint8), Objects(BOX, np.array([0])))
    one, two = draw_grid([tile] * 3, CLASSES), draw_grid([tile] * 4, CLASSES)
    assert two.shape == (2 * one.shape[0], one.shape[1], 3)
    assert one.shape[1] > 3 * TILE_WIDTH
