import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.densefuse import DenseFuse


def pair(height=24, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 1, height, width, generator=generator)


def test_the_authors_own_file_loads():
    generator = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in DenseFuse().state_dict().items()}
    published = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    assert len(published) == 16
    assert shapes["DB1.denseblock.2.dense_conv.conv2d.weight"] == (16, 48, 3, 3)
    assert shapes["conv2.conv2d.weight"] == (64, 64, 3, 3)
    network = DenseFuse()
    network.load_state_dict(DenseFuse.unwrap(published), strict=True)
    assert torch.equal(network.conv2.conv2d.weight, published["conv2.conv2d.weight"])


def test_cost_is_the_published_one(cost):
    macs, parameters = cost(DenseFuse)
    assert round(macs / 1e9, 2) == 27.03
    assert round(parameters / 1e6, 4) == 0.0742


def test_the_feature_is_the_input_of_conv2():
    network, seen = DenseFuse().eval(), []
    network.conv2.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*pair())
    assert feature.shape == (1, 64, 24, 32)
    assert len(seen) == 1
    assert torch.equal(feature, seen[0])
    assert fused.min() >= 0
    assert fused.max() <= 1


def test_the_two_images_have_equal_parts():
    network = DenseFuse().eval()
    infrared, visible = pair()
    with torch.no_grad():
        for found, wanted in zip(network(visible, infrared), network(infrared, visible)):
            assert torch.equal(found, wanted)


def test_planes_are_in_0_to_255_inside():
    network = DenseFuse().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # Only the path of the first channel is open, so that the network gives the mean of its inputs.
        network.conv1.conv2d.weight[0, 0, 1, 1] = 1
        for conv in (network.conv2, network.conv3, network.conv4, network.conv5):
            conv.conv2d.weight[0, 0, 1, 1] = 1
        infrared, visible = pair()
        feature, fused = network(infrared, visible)
        assert (feature[:, :1] - 255 * (infrared + visible) / 2).abs().max() < 1e-4
        assert (fused - (infrared + visible) / 2).abs().max() < 1e-6
        network.conv5.conv2d.bias[0] = 300
        assert torch.all(network(infrared, visible)[1] == 1)
