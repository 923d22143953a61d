"""A small segmentation head, trained from scratch: cross entropy of each pixel's class."""

import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.downstream import head_of
from irvis.student.downstream_targets import IGNORE


def open_head(argument: str = "") -> nn.Module:
    """Return the head that ``--downstream masks=ARGUMENT`` names. Raises IrvisError."""
    return head_of(MaskHead, argument)


class MaskHead(nn.Module):
    """A DownstreamTask: four convolutions of growing reach at full size, then a score per class."""

    labels = "masks"

    def __init__(self, classes: int, channels: int = 16) -> None:
        super().__init__()
        self.classes = classes
        layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()]
        for reach in (2, 4, 8):
            layers += [nn.Conv2d(channels, channels, 3, padding=reach, dilation=reach), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(channels, classes, 1))

    def forward(self, fused: Tensor, targets: Tensor) -> Tensor:
        return mask_loss(self.body(fused), targets)


def mask_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of scores (B, C, H, W): mean over a crop's labelled pixels, averaged over the crops."""
    losses = F.cross_entropy(scores, targets.long(), ignore_index=IGNORE, reduction="none").sum(dim=(1, 2))
    return (losses / (targets != IGNORE).sum(dim=(1, 2)).clamp(min=1)).mean()
