"""A small detection head, trained from scratch: objects as points (Zhou, Wang, Krähenbühl 2019, arXiv 1904.07850)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.downstream import head_of

STRIDE = 4  # pixels per cell of the heat map, section 3
ALPHA, BETA = 2, 4  # eq. 1
SIZE_WEIGHT, OFFSET_WEIGHT = 0.1, 1.0  # eq. 4


def open_head(argument: str = "") -> nn.Module:
    """Return the head that ``--downstream boxes=ARGUMENT`` names. Raises IrvisError."""
    return head_of(BoxHead, argument)


class BoxHead(nn.Module):
    """A DownstreamTask: four convolutions, then a heat map per class, and an offset and a size per cell."""

    labels = "boxes"

    def __init__(self, classes: int, channels: int = 16) -> None:
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=4, dilation=4),
            nn.ReLU(),
        )
        self.heat = nn.Conv2d(channels, classes, 1)
        self.shape = nn.Conv2d(channels, 4, 1)  # offset x, y and width, height, in cells
        # Heat starts at 0.1 everywhere, or the background would dominate the first steps.
        self.heat.bias = nn.Parameter(torch.full((classes,), -2.19))

    def forward(self, fused: Tensor, targets: Tensor) -> Tensor:
        feature = self.body(fused)
        return box_loss(self.heat(feature), self.shape(feature), targets)


def box_loss(logits: Tensor, shapes: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of eq. 4, (), from a heat map (B, C, h, w), offset and size (B, 4, h, w) and boxes (B, K, 5).

    Each crop's terms are divided by its own number of boxes, then averaged over the crops.
    """
    height, width = logits.shape[2:]
    present = (targets[..., 0] >= 0).float()
    count = present.sum(dim=1).clamp(min=1)
    centres, sizes = targets[..., 1:3] / STRIDE, targets[..., 3:] / STRIDE
    cells = centres.floor().long()
    column, row = cells[..., 0].clamp(0, width - 1), cells[..., 1].clamp(0, height - 1)
    wanted = torch.cat([centres - torch.stack([column, row], dim=-1), sizes], dim=-1)
    index = (row * width + column).unsqueeze(1).expand(-1, 4, -1)
    found = shapes.flatten(2).gather(2, index).transpose(1, 2)
    offset, size = ((found - wanted).abs() * present.unsqueeze(-1)).sum(dim=1).split(2, dim=1)
    focal = focal_loss(logits, heat_map(targets, logits.shape[1], row, column, height, width))
    terms = focal.sum(dim=(1, 2, 3)) + OFFSET_WEIGHT * offset.sum(dim=1) + SIZE_WEIGHT * size.sum(dim=1)
    return (terms / count).mean()


def heat_map(targets: Tensor, classes: int, row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """Return Y of eq. 1, (B, C, h, w) in [0, 1]: for each class, the maximum of Gaussians around its boxes' cells.

    The standard deviation is a sixth of the box's (geometric) mean side, and at least two thirds of a cell; the paper
    derives it from the overlap of boxes.
    """
    deviation = ((targets[..., 3] * targets[..., 4]).sqrt() / (6 * STRIDE)).clamp(min=2 / 3)
    rows = torch.arange(height, device=targets.device) - row.unsqueeze(-1)  # (B, K, h)
    columns = torch.arange(width, device=targets.device) - column.unsqueeze(-1)
    distance = rows.square().unsqueeze(-1) + columns.square().unsqueeze(-2)  # (B, K, h, w)
    bumps = torch.exp(-distance / (2 * deviation.square())[..., None, None]) * (targets[..., :1, None] >= 0)
    index = targets[..., 0].long().clamp(min=0)[..., None, None].expand_as(bumps)
    return bumps.new_zeros(len(targets), classes, height, width).scatter_reduce(1, index, bumps, "amax")


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Return each cell's term of eq. 1 without the factor 1/N, in the shape of the logits."""
    found, missed = logits.sigmoid(), (-logits).sigmoid()
    at_centre = missed**ALPHA * F.logsigmoid(logits)
    elsewhere = (1 - heat) ** BETA * found**ALPHA * F.logsigmoid(-logits)
    return -torch.where(heat == 1, at_centre, elsewhere)
