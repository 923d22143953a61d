import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.ship import SHIP, PixelNorm, SpatialInteraction

PIXELS = 480 * 640


def planes(height=24, width=30):
    return torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_the_authors_own_file_loads():
    generator = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in SHIP().state_dict().items()}
    published = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    assert len(published) == 484
    assert shapes["interaction2.spatial.reflashInfrared3.2.weight"] == (16, 16, 3, 3)
    assert shapes["postprocess.0.H.conv1.norm.weight"] == (8,)
    network = SHIP()
    network.load_state_dict(SHIP.unwrap({"params": published}), strict=True)
    assert torch.equal(network.postprocess[0].invconv.p, published["postprocess.0.invconv.p"])


def test_cost_is_the_published_one(cost):
    macs, parameters = cost(SHIP)
    # What thop counts in the published code only: pooling by module, and the channel attention, which each of the
    # three interactions there works out once more and drops.
    pooling = (PIXELS + 1) * (3 * 2 * 32 + 2 * 16)
    repeated = 3 * 2 * 16 * 32
    # And the norms: there those over the plane, of 8 channels each; here those over the channels, of 16 each.
    norms = 4 * PIXELS * (24 * 8 - 12 * 16)
    assert macs + pooling + repeated + norms == 156_839_132_640
    assert parameters == 525_985


def test_the_feature_is_the_input_of_the_reconstruction():
    network, seen = SHIP().eval(), []
    network.reconstruction.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*planes())
        again = network.reconstruction(feature).clamp(0, 1)
    assert feature.shape == (1, 16, 24, 30)
    assert len(seen) == 2
    assert torch.equal(feature, seen[0])
    assert torch.equal(fused, again)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23)])
def test_the_first_product_is_the_circular_convolution(height, width):
    interaction = SpatialInteraction(2)
    visible, infrared = torch.randn(2, 1, 2, height, width, generator=torch.Generator().manual_seed(0))
    seen = []
    interaction.norm1.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        interaction(visible, infrared)
    a, b = visible[0].double().numpy(), infrared[0].double().numpy()
    wanted = sum(
        a[:, row, column, None, None] * np.roll(b, (row, column), axis=(1, 2))
        for row in range(height)
        for column in range(width)
    )
    assert np.abs(seen[0][0].numpy() - wanted).max() < 1e-4


def test_a_pixels_channels_are_normalised():
    found = PixelNorm(16)(3 + 2 * torch.randn(2, 16, 4, 5, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (2, 16, 4, 5)
    assert found.mean(dim=1).abs().max() < 1e-5
    assert (found.std(dim=1, unbiased=False) - 1).abs().max() < 1e-3


def test_gradients_reach_every_parameter():
    network = SHIP()
    feature, fused = network(*planes(16, 16))
    (feature.square().mean() + fused.sum()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
