import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.seafusion import SeAFusion, _Gradient


def pair(height=24, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 1, height, width, generator=generator)


def test_the_authors_own_file_loads():
    generator = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in SeAFusion().state_dict().items()}
    published = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    assert len(published) == 72
    assert shapes["vis_rgbd1.sobelconv.convx.weight"] == (16, 1, 3, 3)
    assert shapes["inf_rgbd2.dense.conv2.conv.weight"] == (32, 64, 3, 3)
    assert shapes["decode4.bn.running_var"] == (64,)
    network = SeAFusion()
    network.load_state_dict(SeAFusion.unwrap(published), strict=True)
    assert torch.equal(network.decode4.conv.weight, published["decode4.conv.weight"])


def test_cost_is_the_published_one(cost):
    total = sum(parameter.numel() for parameter in SeAFusion().parameters())
    macs, called = cost(SeAFusion)
    assert round(macs / 1e9, 3) == 50.995
    assert round(total / 1e6, 4) == 0.1669
    assert total - called == 2 * (64 + 32 + 16 + 1)  # the norms, which are in the file and never called


def test_the_feature_is_the_input_of_decode4():
    network, seen = SeAFusion().eval(), []
    network.decode4.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*pair())
    assert feature.shape == (1, 96, 24, 32)
    assert len(seen) == 1
    assert torch.equal(feature, seen[0])
    assert 0 < fused.min() < fused.max() < 1


def test_the_visible_half_of_the_feature_comes_first():
    network = SeAFusion().eval()
    infrared, visible = pair()
    with torch.no_grad():
        whole, blind = network(infrared, visible)[0], network(infrared, torch.zeros_like(visible))[0]
    assert torch.equal(whole[:, 48:], blind[:, 48:])
    assert not torch.equal(whole[:, :48], blind[:, :48])


def test_an_untrained_gradient_is_sobels():
    ramp = torch.arange(6.0).expand(1, 1, 5, 6)
    with torch.no_grad():
        assert torch.all(_Gradient(1)(ramp)[..., 1:-1, 1:-1] == 8)
        assert torch.all(_Gradient(1)(ramp.mT)[..., 1:-1, 1:-1] == 8)
