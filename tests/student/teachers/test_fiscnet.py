import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.fiscnet import FISCNet, join_phases

PIXELS = 480 * 640


def planes(height=24, width=30):
    return torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_the_authors_own_file_loads():
    generator = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in FISCNet().state_dict().items()}
    published = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    assert len(published) == 434
    assert shapes["correction1.vis.process.weight"] == (16, 1, 3, 3)
    assert shapes["correction3.interaction.cha_att_inf.0.weight"] == (8, 32, 1, 1)
    network = FISCNet()
    network.load_state_dict(FISCNet.unwrap({"params": published}), strict=True)
    assert torch.equal(network.correction2.inf.CDC.HP_branch, published["correction2.inf.CDC.HP_branch"])


def test_cost_is_the_published_one(cost):
    macs, parameters = cost(FISCNet)
    # What thop counts in the published code only: pooling by module, and the norms, 18 of 8 channels at three sizes.
    pooling = (PIXELS + 1) * (3 * 2 * 32 + 2 * 16)
    norms = 4 * 8 * 18 * PIXELS * 21 // 16
    assert macs + pooling + norms == 100_541_657_712
    assert parameters + 18 * 2 * 8 == 285_401


def test_the_feature_is_the_input_of_the_reconstruction():
    network, seen = FISCNet().eval(), []
    network.reconstruction.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*planes())
        again = network.reconstruction(feature).clamp(0, 1)
    assert feature.shape == (1, 16, 24, 30)
    assert len(seen) == 2
    assert torch.equal(feature, seen[0])
    assert torch.equal(fused, again)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23)])
def test_phases_join_as_in_float64(height, width):
    base, visible, infrared = torch.rand(3, 2, 3, height, width, generator=torch.Generator().manual_seed(0))
    magnitude, a, b = (np.fft.fft2(x.double().numpy()) for x in (base, visible, infrared))
    wanted = np.abs(np.fft.ifft2(np.abs(magnitude) * (a / np.abs(a) + b / np.abs(b))))
    assert np.abs(join_phases(base, visible, infrared).numpy() - wanted).max() < 1e-5


def test_one_plane_twice_joins_to_its_double():
    visible = planes()[1]
    assert (join_phases(visible, visible, visible) - 2 * visible).abs().max() < 1e-5


def test_a_black_plane_has_the_phase_0():
    visible = planes()[1]
    found = join_phases(visible, visible, torch.zeros_like(visible))[0, 0].numpy()
    exact = visible[0, 0].double().numpy()
    wanted = np.abs(exact + np.fft.ifft2(np.abs(np.fft.fft2(exact))).real)
    assert np.abs(found - wanted).max() < 1e-5


def test_only_two_edge_blocks_of_the_first_calibration_stay_unused():
    network = FISCNet()
    feature, fused = network(*planes(16, 16))
    (feature.square().mean() + fused.sum()).backward()
    unused = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    parts = [getattr(network.correction1, plane).named_parameters(f"correction1.{plane}") for plane in ("vis", "inf")]
    assert unused == {name for part in parts for name, _ in part}
