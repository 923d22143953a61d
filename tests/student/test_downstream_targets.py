import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.images import write_image
from irvis.runtime.pairs import pairs_of
from irvis.student.augment import SYMMETRIES, dihedral
from irvis.student.datasets import draw_crops
from irvis.student.downstream_targets import cut_boxes, read_mask, targets_of, turn_targets

SIDE = 24
SPANS = st.tuples(st.integers(0, SIDE - 2), st.integers(2, SIDE)).map(lambda span: (span[0], min(SIDE, sum(span))))
BOXES = st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=4)  # whole pixels: (left, right), (top, bottom)


def rows_of(boxes):
    """Return the boxes as rows of class, centre and size; the class of each is its number."""
    rows = [
        [number, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        for number, ((left, right), (top, bottom)) in enumerate(boxes)
    ]
    return np.array(rows, np.float32)


def painted(box):
    (left, right), (top, bottom) = box
    plane = torch.zeros(SIDE, SIDE)
    plane[top:bottom, left:right] = 1
    return plane


def found_in(plane):
    """Return centre and size of what is painted."""
    rows, columns = np.nonzero(np.asarray(plane))
    sides = np.ptp(columns) + 1, np.ptp(rows) + 1
    return [columns.min() + sides[0] / 2, rows.min() + sides[1] / 2, *sides]


@given(BOXES, st.integers(0, SYMMETRIES - 1))
@settings(max_examples=30)
def test_boxes_are_turned_as_the_pixels_are(boxes, code):
    turned = turn_targets(torch.from_numpy(rows_of(boxes))[None], torch.tensor([code]), SIDE)[0]
    for number, (box, row) in enumerate(zip(boxes, turned.tolist())):
        assert row == pytest.approx([number, *found_in(dihedral(painted(box), code))])


@given(BOXES, st.integers(0, 8), st.integers(0, 8))
@settings(max_examples=30)
def test_boxes_are_cut_as_the_pixels_are_and_dropped_where_too_little_is_left(boxes, top, left):
    cut = {int(row[0]): row[1:].tolist() for row in cut_boxes(rows_of(boxes), top, left, 16)}
    for number, box in enumerate(boxes):
        whole, part = painted(box), painted(box)[top : top + 16, left : left + 16]
        _, _, width, height = found_in(part) if part.any() else (0, 0, 0, 0)
        if part.sum() >= 0.25 * whole.sum() and min(width, height) >= 2:
            assert cut[number] == pytest.approx(found_in(part))
        else:
            assert number not in cut


def test_masks_are_turned_as_the_images_are():
    masks = torch.randint(0, 256, (SYMMETRIES, 5, 5)).to(torch.uint8)
    turned = turn_targets(masks, torch.arange(SYMMETRIES), 5)
    assert all(torch.equal(turned[code], dihedral(masks[code], code)) for code in range(SYMMETRIES))


@pytest.fixture
def pairs(tmp_path):
    """Two pairs whose infrared is their mask: 3 * row + column, two sizes."""
    for name, (height, width) in {"a": (40, 50), "b": (33, 37)}.items():
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        for folder in ("ir", "vi", "labels"):
            write_image(tmp_path / folder / f"{name}.png", 3 * rows + columns)
    return pairs_of(tmp_path)


def write_labels(pairs, *texts):
    for pair, text in zip(pairs, texts):
        (pair.infrared.parents[1] / "labels" / f"{pair.name}.txt").write_text(text)


def test_a_mask_is_cut_where_its_crop_is(pairs):
    drawn = draw_crops(pairs, 12, 20, seed=0)
    assert torch.equal(targets_of("masks", 255, pairs, drawn), drawn.crops[:, 0])


def test_boxes_become_rows_of_pixels_filled_up_with_class_minus_one(pairs):
    write_labels(pairs, "2 0.5 0.5 0.2 0.1\n\n0 0.1 0.1 0.2 0.2\n", "")
    drawn = draw_crops(pairs, 40, 33, seed=0)
    targets = targets_of("boxes", 3, pairs, drawn)
    assert targets.shape == (40, 2, 5)
    seen = set()
    for (index, top, left), rows in zip(drawn.places, targets.tolist()):
        if index == 1:
            assert [row[0] for row in rows] == [-1, -1]
        else:
            assert rows[0] == pytest.approx([2, 25 - left, 20 - top, 10, 4])
            seen.add(rows[1][0])
    assert seen == {0, -1}  # the one in the corner is not in every crop


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_labels_that_leave_every_crop_empty_are_told(pairs, kind):
    write_labels(pairs, "", "")
    for pair, size in zip(pairs, ((40, 50), (33, 37))):
        write_image(pair.infrared.parents[1] / "labels" / f"{pair.name}.png", np.full(size, 255, np.uint8))
    with pytest.raises(IrvisError, match="none of the 5 crops has anything labelled"):
        targets_of(kind, 3, pairs, draw_crops(pairs, 5, 16, seed=0))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((4, 6), np.uint8), "must be grey, 8 bits, 4x5 as its pair. Got uint8 (4, 6)"),
        (np.zeros((4, 5), np.uint16), "must be grey, 8 bits, 4x5 as its pair. Got uint16 (4, 5)"),
        (np.zeros((4, 5, 3), np.uint8), "must be grey, 8 bits, 4x5 as its pair. Got uint8 (4, 5, 3)"),
        (np.full((4, 5), 3, np.uint8), "has pixels of class 3, but the classes of the task are 0 to 2"),
    ],
)
def test_a_wrong_mask_is_named(tmp_path, mask, said):
    path = tmp_path / "a.png"
    write_image(path, mask)
    with pytest.raises(FileError) as caught:
        read_mask(path, (4, 5), 3)
    assert str(caught.value) == f"{path} {said}"


def test_a_mask_may_leave_pixels_out(tmp_path):
    mask = np.array([[0, 2, 255], [255, 1, 0]], np.uint8)
    write_image(tmp_path / "a.png", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", (2, 3), 3), mask)
