import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.zheng_blocks import (
    ChannelBias,
    CrossDifference,
    HalfNormBlock,
    InvertibleBlock,
    InvertibleConvolution,
    variance_and_mean,
)


def perturbed(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def features(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_cross_difference_is_the_sum_over_differences_to_the_centre():
    block, x = perturbed(CrossDifference(2)), features(1, 2, 5, 6)
    plane = np.pad(x[0].double().numpy(), ((0, 0), (1, 1), (1, 1)))
    shifted = np.stack([plane[:, row : row + 5, column : column + 6] for row in range(3) for column in range(3)])
    share = 1 / (1 + np.exp(-block.HP_branch.item()))
    wanted = x[0].double().numpy()
    # Where the five weights of either cross lie in a 3x3 window, row by row.
    for weight, cross, places in (
        (share, block.h_conv, [1, 3, 4, 5, 7]),
        (1 - share, block.d_conv, [0, 2, 4, 6, 8]),
    ):
        kernel = cross["conv"].weight.detach().double().numpy()[:, :, 0]
        wanted = wanted + weight * np.einsum("oik,kihw->ohw", kernel, shifted[places] - 0.8 * shifted[4])
    assert np.abs(block(x)[0].detach().numpy() - wanted).max() < 1e-5


def test_half_of_the_channels_are_normalised():
    block, x = perturbed(HalfNormBlock(3, 6)), 5 + features(2, 6, 7, 9)
    found = block.normalise(x)
    assert (found[:, :3] - block.norm(x[:, :3])).abs().max() < 1e-5
    assert torch.equal(found[:, 3:], x[:, 3:])


def test_variance_and_mean_are_those_of_float64():
    x = (100 + features(2, 3, 16, 16)).contiguous(memory_format=torch.channels_last)
    variance, mean = variance_and_mean(x)
    exact = x.double().numpy()
    assert np.abs(variance[..., 0, 0].numpy() / exact.var(axis=(2, 3)) - 1).max() < 1e-5
    assert np.abs(mean[..., 0, 0].numpy() / exact.mean(axis=(2, 3)) - 1).max() < 1e-6


def test_a_decomposed_matrix_multiplies_the_channels():
    matrix = features(6, 6).double()
    p, lower, upper = torch.linalg.lu(matrix)
    diagonal = upper.diagonal()
    parts = {"p": p, "lower": lower, "upper": upper.triu(1), "sign_s": diagonal.sign(), "log_s": diagonal.abs().log()}
    convolution = InvertibleConvolution(6).double()
    convolution.load_state_dict(parts, strict=True)
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    assert (convolution(x) - torch.einsum("oi,bihw->bohw", matrix, x)).abs().max() < 1e-12


def test_an_invertible_block_can_be_inverted():
    block, x = perturbed(InvertibleBlock(4)).double(), features(1, 4, 6, 5).double()
    with torch.no_grad():
        y1, y2 = block(x).chunk(2, dim=1)
        growth = torch.exp(block.clamp * torch.tanh(block.H(y1) / 2))
        x2 = (y2 - block.G(y1)) / growth
        mixed = torch.cat([y1 - block.F(x2), x2], dim=1)
        matrix = block.invconv(torch.eye(4, dtype=torch.float64)[:, :, None, None])[..., 0, 0].T
        found = torch.einsum("oi,bihw->bohw", torch.linalg.inv(matrix), mixed)
    assert 1 / np.exp(0.8) < growth.min() < growth.max() < np.exp(0.8)
    assert (found - x).abs().max() < 1e-9


def test_a_channel_bias_is_one_number_for_each_channel():
    x = features(2, 8, 6, 7)
    added = perturbed(ChannelBias(8))(x) - x
    assert added.std(dim=(2, 3)).max() < 1e-6
    assert added.mean(dim=(2, 3)).std() > 1e-3
