import math

import pytest

torch = pytest.importorskip("torch")

from irvis.student.downstream_boxes import STRIDE, BoxHead, box_loss, focal_loss, heat_map

BOXES = torch.tensor([[[1, 10.0, 14.0, 8.0, 16.0], [0, 25.0, 5.0, 4.0, 4.0], [-1, 0, 0, 0, 0]]])
CELLS = torch.tensor([[3, 1, 0]]), torch.tensor([[2, 6, 0]])  # row, column


def perfect():
    """Return logits and shapes that say where BOXES are, on a grid of 8 x 8 cells."""
    logits, shapes = torch.full((1, 2, 8, 8), -30.0), torch.zeros(1, 4, 8, 8)
    for (label, *box), row, column in zip(BOXES[0, :2].tolist(), *(cells[0] for cells in CELLS)):
        logits[0, int(label), row, column] = 30
        x, y, width, height = (value / STRIDE for value in box)
        shapes[0, :, row, column] = torch.tensor([x - column, y - row, width, height])
    return logits, shapes


def test_the_heat_map_is_one_at_each_box_of_its_class_and_falls_off_as_a_gaussian():
    heat = heat_map(BOXES, 2, *CELLS, 8, 8)[0]
    assert (heat == 1).nonzero().tolist() == [[0, 1, 6], [1, 3, 2]]
    deviation = math.sqrt(8 * 16) / 6 / STRIDE
    assert deviation < 2 / 3  # so the least is taken
    assert heat[1, 4, 4].item() == pytest.approx(math.exp(-(1 + 4) / (2 * (2 / 3) ** 2)))
    large = torch.tensor([[[0, 16.0, 16.0, 36.0, 64.0]]])
    heat = heat_map(large, 2, torch.tensor([[4]]), torch.tensor([[4]]), 8, 8)[0]
    assert heat[0, 4, 2].item() == pytest.approx(math.exp(-4 / (2 * 2.0**2)))
    assert heat[1].max() == 0


def test_boxes_of_one_class_share_a_map_by_the_greater():
    boxes = torch.tensor([[[0, 10.0, 10.0, 4.0, 4.0], [0, 18.0, 10.0, 4.0, 4.0]]])
    cells = torch.tensor([[2, 2]]), torch.tensor([[2, 4]])
    both = heat_map(boxes, 1, *cells, 8, 8)
    one, other = (heat_map(boxes[:, [i]], 1, *(some[:, [i]] for some in cells), 8, 8) for i in range(2))
    assert torch.equal(both, torch.maximum(one, other))


def test_the_focal_loss_is_equation_one():
    logits, heat = torch.tensor([0.4, -1.2, 2.0]), torch.tensor([1.0, 0.6, 0.0])
    p, q, r = (1 / (1 + math.exp(-value)) for value in (0.4, -1.2, 2.0))
    wanted = [-((1 - p) ** 2) * math.log(p), -(0.4**4) * q**2 * math.log(1 - q), -(r**2) * math.log(1 - r)]
    assert focal_loss(logits, heat).tolist() == pytest.approx(wanted)


def test_saying_where_all_is_costs_nothing_and_each_miss_its_weight():
    logits, shapes = perfect()
    assert box_loss(logits, shapes, BOXES).item() == pytest.approx(0, abs=1e-6)
    shapes[0, 0, 3, 2] += 0.5  # an offset: weight 1, of two boxes
    assert box_loss(logits, shapes, BOXES).item() == pytest.approx(0.25, abs=1e-6)
    shapes[0, 3, 1, 6] -= 3  # a height: weight 0.1
    assert box_loss(logits, shapes, BOXES).item() == pytest.approx(0.25 + 0.15, abs=1e-6)


def test_a_batch_costs_the_mean_of_its_crops_and_rows_that_fill_up_cost_nothing():
    torch.manual_seed(0)
    boxes = torch.cat([BOXES, torch.full_like(BOXES, -1), BOXES.flip(1)])
    logits, shapes = torch.randn(3, 2, 8, 8), torch.randn(3, 4, 8, 8)
    alone = [box_loss(logits[i : i + 1], shapes[i : i + 1], boxes[i : i + 1]).item() for i in range(3)]
    assert box_loss(logits, shapes, boxes).item() == pytest.approx(sum(alone) / 3, rel=1e-5)
    assert box_loss(logits[:1], shapes[:1], BOXES[:, :2]).item() == pytest.approx(alone[0], rel=1e-5)


def test_a_box_at_the_very_edge_has_a_cell():
    boxes = torch.tensor([[[0, 32.0, 32.0, 4.0, 4.0]]])
    assert box_loss(*perfect(), boxes).isfinite()


def test_the_head_learns_to_find_bright_squares():
    torch.manual_seed(0)
    head, generator = BoxHead(1), torch.Generator().manual_seed(1)
    assert head.heat.bias.sigmoid().item() == pytest.approx(0.1, abs=1e-3)
    assert sum(parameter.numel() for parameter in head.parameters()) < 8000
    corners = torch.randint(0, 24, (16, 2), generator=generator)
    fused, boxes = torch.zeros(16, 1, 32, 32), torch.zeros(16, 1, 5)
    for image, box, (x, y) in zip(fused, boxes, corners.tolist()):
        image[0, y : y + 8, x : x + 8] = 1
        box[0] = torch.tensor([0, x + 4, y + 4, 8, 8])
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    losses = []
    for _ in range(80):
        losses.append(head(fused, boxes))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    heat = head.heat(head.body(fused)).flatten(1).argmax(dim=1)
    places = ((corners[:, 1] + 4) // STRIDE) * 8 + (corners[:, 0] + 4) // STRIDE
    assert (heat == places).float().mean() >= 0.75
