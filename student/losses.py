"""The losses of the student: task (eq. 17 to 20 of the paper), distillation (eq. 1 to 8 and 21), and three of our own.

Images are (B, 1, H, W) in [0, 1]. Features are (B, C, h, w); those of teacher and student may differ in C, h and w.
Every loss of the paper is a scalar, zero if its two sides are equal. ``weights``, (B,), weigh the images of a batch;
without them each counts 1.
"""

from functools import lru_cache
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITY_SIDE = 32  # of eq. 3: features are brought to 32 x 32, so that S is 1024 x 1024
# Length below which a feature vector counts as zero: the gradient of a normalised vector grows with 1 / length.
SHORTEST = 1e-6


def sobel_magnitude(image: Tensor) -> Tensor:
    """G of eq. 7, 18 and 19 as |gx| + |gy|: (B, 1, H, W) -> same.

    The border is replicated, so that the frame's edge does not count as an edge in the scene.
    """
    return _magnitude(_sobel(image))


def _sobel(image: Tensor) -> Tensor:
    """Return gx and gy: (B, 1, H, W) -> (B, 2, H, W)."""
    kernels = _sobel_kernels(image.device, image.dtype)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)


def _magnitude(gradient: Tensor) -> Tensor:
    return gradient.abs().sum(dim=1, keepdim=True)


@lru_cache(maxsize=None)
def _sobel_kernels(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return (2, 1, 3, 3), along x and y, made on the device, since a CUDA graph cannot hold a copy from the host."""
    slope = torch.arange(-1, 2, dtype=dtype, device=device)
    gx = (2 - slope.abs())[:, None] * slope
    return torch.stack([gx, gx.t()]).unsqueeze(1)


def intensity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Eq. 17: mean |max(I_vis, I_ir) - I_f|."""
    return F.l1_loss(fused, torch.maximum(visible, infrared))


def gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Eq. 18 and 19: mean |max(G(I_vis), G(I_ir)) - G(I_f)|."""
    return F.l1_loss(sobel_magnitude(fused), torch.maximum(sobel_magnitude(visible), sobel_magnitude(infrared)))


def guarded_gradient_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Eq. 18 and 19, but an image whose edges run against the inputs' is compared with their directions.

    With g' the gradient of the input whose G is larger at a pixel, an image for which the sum of g g' is negative costs
    mean |gx - gx'| + |gy - gy'|: a negative twice what a flat image costs, where ``gradient_loss`` is 0 for it. So no
    training settles there. Not in the paper.
    """
    ours, theirs, others = (_sobel(image) for image in (fused, visible, infrared))
    return _guarded(ours, torch.where(_magnitude(theirs) >= _magnitude(others), theirs, others)).mean()


def _guarded(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return |G - G'| of two gradients, or |gx - gx'| + |gy - gy'| in an image where they run against each other."""
    against = (ours * theirs).sum(dim=(1, 2, 3), keepdim=True) < 0
    return torch.where(against, _magnitude(ours - theirs), (_magnitude(ours) - _magnitude(theirs)).abs())


def task_loss(fused: Tensor, infrared: Tensor, visible: Tensor, beta_grad: float = 10.0) -> Tensor:
    """Eq. 20: intensity_loss + beta_grad * gradient_loss."""
    return intensity_loss(fused, infrared, visible) + beta_grad * gradient_loss(fused, infrared, visible)


def attention_map(feature: Tensor) -> Tensor:
    """Mean over the channels, the A of eq. 1 before it is flattened and normalised: (B, C, h, w) -> (B, 1, h, w)."""
    return feature.mean(dim=1, keepdim=True)


def similarity_samples(feature: Tensor) -> Tensor:
    """Eq. 3: the feature brought to 32 x 32 by bilinear interpolation: (B, C, h, w) -> (B, C, 32, 32)."""
    size = (SIMILARITY_SIDE, SIMILARITY_SIDE)
    return F.interpolate(feature, size=size, mode="bilinear", align_corners=False)


def unit_rows(samples: Tensor) -> Tensor:
    """Eq. 3: each position's vector of (B, C, 32, 32) scaled to length 1; a zero vector stays zero."""
    return F.normalize(samples, dim=1, eps=SHORTEST)


def similarity_matrix(samples: Tensor) -> Tensor:
    """Eq. 3 and 4: cosine between every two positions of (B, C, 32, 32) -> S, (B, 1024, 1024)."""
    rows = unit_rows(samples).flatten(2)
    return rows.transpose(1, 2) @ rows


def attention_map_loss(teacher: Tensor, student: Tensor, weights: Optional[Tensor] = None) -> Tensor:
    """Eq. 1 and 2 on attention maps, (B, 1, h, w) each: 1 - cos(A_tea, A_stu), averaged over the batch.

    If the sizes differ, both are brought to the smaller by bilinear interpolation. A map that is zero everywhere
    has no direction: its cosine counts as 0.
    """
    size = tuple(min(one, other) for one, other in zip(teacher.shape[2:], student.shape[2:]))
    teacher, student = (
        one if one.shape[2:] == size else F.interpolate(one, size=size, mode="bilinear", align_corners=False)
        for one in (teacher, student)
    )
    cosine = F.cosine_similarity(teacher.flatten(1), student.flatten(1), dim=1, eps=SHORTEST)
    return _weighted_mean(1 - cosine, weights)


def similarity_samples_loss(teacher: Tensor, student: Tensor, weights: Optional[Tensor] = None) -> Tensor:
    """Eq. 5 on similarity_samples, (B, C, 32, 32) each: mean (S_tea - S_stu)^2."""
    difference = similarity_matrix(student) - similarity_matrix(teacher)
    return _weighted_mean(difference.square().mean(dim=(1, 2)), weights)


def attention_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Eq. 1 and 2 on two features, (B, C, h, w) each."""
    return attention_map_loss(attention_map(teacher), attention_map(student))


def similarity_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Eq. 3 to 5 on two features, (B, C, h, w) each."""
    return similarity_samples_loss(similarity_samples(teacher), similarity_samples(student))


def response_terms(
    teacher: Tensor, student: Tensor, weights: Optional[Tensor] = None, guarded: bool = False
) -> Tuple[Tensor, Tensor]:
    """Eq. 6 and 7 on two fused images: mean |I_tea - I_stu| and mean |G(I_tea) - G(I_stu)|.

    ``guarded``: compare edges that run against the teacher's as ``guarded_gradient_loss`` does.
    """
    ours, theirs = _sobel(student), _sobel(teacher)
    edges = _guarded(ours, theirs) if guarded else (_magnitude(ours) - _magnitude(theirs)).abs()
    differences = (student - teacher).abs(), edges
    intensity, gradient = (_weighted_mean(one.mean(dim=(1, 2, 3)), weights) for one in differences)
    return intensity, gradient


def response_loss(teacher: Tensor, student: Tensor, lambda_grad: float = 10.0) -> Tensor:
    """Eq. 6 to 8: mean |I_tea - I_stu| + lambda_grad mean |G(I_tea) - G(I_stu)|."""
    intensity, gradient = response_terms(teacher, student)
    return intensity + lambda_grad * gradient


def distillation_loss(
    attention: Tensor,
    similarity: Tensor,
    response: Tensor,
    lambda_att: float = 1.0,
    lambda_sim: float = 1.0,
    lambda_out: float = 1.0,
) -> Tensor:
    """Eq. 21: lambda_att L_att + lambda_sim L_sim + lambda_out L_out."""
    return lambda_att * attention + lambda_sim * similarity + lambda_out * response


def total_loss(task: Tensor, distillation: Tensor, alpha_kd: float = 1.0) -> Tensor:
    """Eq. 16: L_task + alpha_kd L_kd."""
    return task + alpha_kd * distillation


def correlation_loss(fused: Tensor, infrared: Tensor, visible: Tensor, floor: float = 1e-3) -> Tensor:
    """1 - SCD / 2, with SCD = corr(I_f - I_vis, I_ir) + corr(I_f - I_ir, I_vis) of each image; not in the paper.

    What each input adds to the fused image should look like that input (Aslantas and Bendes, 2015). The signed
    correlation also distinguishes an image from its negative, which eq. 7 and 19 cannot. ``floor`` is added to the
    variances, so that noise in a flat image, where there is nothing to correlate with, is not amplified.
    """
    return 1 - (correlation(fused - visible, infrared, floor) + correlation(fused - infrared, visible, floor)) / 2


def fidelity_loss(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """(mean (I_f - I_ir)^2 + mean (I_f - I_vis)^2) / 2, the error in the PSNR of a fused image; not in the paper.

    Its gradient grows with the distance, while that of eq. 17 is constant: it holds back values far from both inputs.
    """
    return (F.mse_loss(fused, infrared) + F.mse_loss(fused, visible)) / 2


def correlation(x: Tensor, y: Tensor, floor: float = 1e-3) -> Tensor:
    """Pearson's correlation of two images, averaged over the batch; ``floor`` as for ``correlation_loss``."""
    x, y = (one.flatten(1) - one.flatten(1).mean(dim=1, keepdim=True) for one in (x, y))
    variances = (x.square().mean(dim=1) + floor) * (y.square().mean(dim=1) + floor)
    return ((x * y).mean(dim=1) / variances.sqrt()).mean()


def _weighted_mean(per_image: Tensor, weights: Optional[Tensor]) -> Tensor:
    return per_image.mean() if weights is None else (weights * per_image).mean()
