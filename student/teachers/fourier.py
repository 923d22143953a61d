"""Fourier transforms as products of real matrices, for exported graphs.

ONNX had no complex numbers before opset 17, and TensorRT has no such transform at all. In PyTorch the networks call
``torch.fft``; if ``torch.onnx.is_in_onnx_export()``, they call this module.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1e-30  # replaces a divisor of 0


class Spectrum(NamedTuple):
    """The result of ``torch.fft.rfft2``, as two real tensors of (..., H, W // 2 + 1)."""

    real: Tensor
    imaginary: Tensor

    @property
    def amplitude(self) -> Tensor:
        """|z|."""
        return torch.sqrt(self.real * self.real + self.imaginary * self.imaginary)

    @property
    def phase(self) -> Tensor:
        """The angle in (-pi, pi], 0 for a coefficient of 0. ONNX has only the plain arc tangent."""
        angle = torch.atan(self.imaginary / torch.where(self.real == 0, SMALLEST, self.real))
        half_turn = torch.where(self.imaginary < 0, -np.pi, np.pi)
        return torch.where(self.real < 0, angle + half_turn, angle)

    @property
    def direction(self) -> "Spectrum":
        """e^(i phase), without the angle: 1 for a coefficient of 0."""
        amplitude = self.amplitude
        zero, divisor = amplitude == 0, amplitude.clamp_min(SMALLEST)
        return Spectrum(torch.where(zero, 1.0, self.real / divisor), self.imaginary / divisor)


def transform(x: Tensor) -> Spectrum:
    """``torch.fft.rfft2``: (..., H, W) -> (..., H, W // 2 + 1)."""
    height, width = (int(side) for side in x.shape[-2:])
    rows = _turns(width)[:, : width // 2 + 1]
    along = x @ _constant(np.concatenate([rows.real, rows.imag], axis=1))
    real, imaginary = torch.split(along, [rows.shape[1]] * 2, dim=-1)
    return _along_columns(Spectrum(real, imaginary), _turns(height))


def invert(spectrum: Spectrum, width: int) -> Tensor:
    """``torch.fft.irfft2``: (..., H, W // 2 + 1) -> (..., H, W)."""
    height, width = int(spectrum.real.shape[-2]), int(width)  # tensors while tracing
    real, imaginary = _along_columns(spectrum, _turns(height).conj() / height)
    rows = _turns(width)[: width // 2 + 1] / width
    rows[1 : (width + 1) // 2] *= 2  # each also stands for its mirrored frequency
    return torch.cat([real, imaginary], dim=-1) @ _constant(np.concatenate([rows.real, rows.imag]))


def _turns(count: int) -> np.ndarray:
    """Return e^(-2 pi i n k / N), complex (N, N), exact at quarter turns, so that real values stay real."""
    steps = np.outer(np.arange(count), np.arange(count)) % count
    turns = np.exp(-2j * np.pi * np.arange(count) / count)
    quarters = [(4 * step % count == 0, 4 * step // count) for step in range(count)]
    for step, (exact, quarter) in enumerate(quarters):
        if exact:
            turns[step] = (-1j) ** quarter
    return turns[steps]


def _along_columns(x: Spectrum, matrix: np.ndarray) -> Spectrum:
    """Return ``matrix @ x`` for a complex matrix (H, H)."""
    size = len(matrix)
    both = _constant(np.concatenate([matrix.real, matrix.imag]))
    real_real, imaginary_real = torch.split(both @ x.real, [size] * 2, dim=-2)
    real_imaginary, imaginary_imaginary = torch.split(both @ x.imaginary, [size] * 2, dim=-2)
    return Spectrum(real_real - imaginary_imaginary, real_imaginary + imaginary_real)


def _constant(matrix: np.ndarray) -> Tensor:
    return torch.from_numpy(matrix.astype(np.float32))
