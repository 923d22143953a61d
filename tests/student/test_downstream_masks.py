import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F

from irvis.student.downstream_masks import MaskHead, mask_loss


def test_the_loss_is_the_cross_entropy_of_the_labelled_pixels():
    torch.manual_seed(0)
    scores, masks = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)).to(torch.uint8)
    masks[1, :2] = 255
    wanted = [
        F.cross_entropy(scores[0].flatten(1).T, masks[0].flatten().long()).item(),
        F.cross_entropy(scores[1, :, 2:].flatten(1).T, masks[1, 2:].flatten().long()).item(),
    ]
    assert mask_loss(scores, masks).item() == pytest.approx(sum(wanted) / 2, rel=1e-6)


def test_a_crop_without_labels_costs_nothing_and_has_a_gradient():
    scores = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = mask_loss(scores, torch.full((1, 4, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert scores.grad.abs().max() == 0


def test_the_head_learns_to_tell_bright_from_dark():
    torch.manual_seed(0)
    head = MaskHead(2)
    assert sum(parameter.numel() for parameter in head.parameters()) < 8000
    fused = torch.rand(4, 1, 16, 16)
    masks = (fused[:, 0] > 0.5).to(torch.uint8)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(40):
        loss = head(fused, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (head.body(fused).argmax(dim=1) == masks).float().mean() > 0.9
