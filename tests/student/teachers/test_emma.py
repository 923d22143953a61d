"""EMMA, whose weights cannot be had here: its state dict and its figures are those of the published code."""

import hashlib

import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.emma import EMMA

# Of the published class: one line "key shape" for each key, sorted.
SHA256 = "07cc5fc9cfa9ee2b6a18f0a39b1f632ab9e9f291cca934abb0c9e7bbad7a60f1"

# What the published class gives for the weights of ``fill`` and the planes of ``planes(40, 32)``.
FEATURE = [3.98115, 3.20388, 3.02334, 0.45021]  # [0, :4, 2, 1]
FUSED = [0.27151, 0.10081, 0.86788, 0.02757]  # [0, 0, ::10, 13], after the min-max


def wave(index, shape):
    """Numbers in (-1, 1) that look random and are the same everywhere."""
    place = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(0.7 * place * place + index).reshape(shape)


def fill(network):
    """Set every parameter to a value that depends on nothing but its place among the sorted names."""
    with torch.no_grad():
        for index, (name, parameter) in enumerate(sorted(network.named_parameters())):
            values = wave(index, parameter.shape)
            if parameter.ndim > 1:
                parameter.copy_(values * (2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.copy_(0.1 * values + name.endswith("weight"))
    return network.eval()


def planes(height, width):
    return [wave(index, (1, 1, height, width)).float() / 2 + 0.5 for index in (0, 1)]


@pytest.fixture(scope="module")
def network():
    return fill(EMMA())


def test_state_dict_is_that_of_the_published_class():
    state = EMMA().state_dict()
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert len(lines) == 347
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == SHA256
    assert state["I_en_2.GlobalFeature.attn.qkv2.weight"].shape == (48, 48, 3, 3)
    assert state["V_en_1.GlobalFeature.norm1.body.bias"].shape == (8,)
    assert state["de_4.embed.weight"].shape == (32, 32, 3, 3)
    assert state["up2.0.weight"].shape == (16, 8, 4, 4)


def test_a_file_of_the_authors_form_loads(network):
    state = network.state_dict()
    EMMA().load_state_dict(EMMA.unwrap(state), strict=True)
    EMMA().load_state_dict(EMMA.unwrap({f"module.{key}": value for key, value in state.items()}), strict=True)


def test_cost_is_the_published_one(cost):
    macs, parameters = cost(EMMA)
    assert (round(macs / 1e9, 4), round(parameters / 1e6, 4)) == (41.5384, 1.5161)
    assert sum(parameter.numel() for parameter in EMMA().parameters()) == 1_517_657


def test_it_gives_what_the_published_code_gives(network):
    with torch.no_grad():
        feature, fused = network(*planes(40, 32))
    assert (feature.shape, fused.shape) == ((1, 32, 5, 4), (1, 1, 40, 32))
    assert feature[0, :4, 2, 1].tolist() == pytest.approx(FEATURE, abs=1e-4)
    assert fused[0, 0, ::10, 13].tolist() == pytest.approx(FUSED, abs=1e-4)
    assert (fused.min(), fused.max()) == (0, 1)


def test_the_feature_is_the_input_of_de_4(network):
    seen = []
    with torch.no_grad():
        hook = network.de_4.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
        feature, _ = network(*planes(16, 24))
        hook.remove()
    assert feature.shape == (1, 32, 2, 3)
    assert seen[0] is feature


def test_a_batch_gives_what_its_pairs_give(network):
    infrared, visible = planes(24, 16)
    pairs = [(infrared, visible), (visible.square(), infrared)]
    with torch.no_grad():
        apart = [network(*pair) for pair in pairs]
        together = network(*(torch.cat(side) for side in zip(*pairs)))
    for index, tensor in enumerate(together):
        assert (tensor - torch.cat([one[index] for one in apart])).abs().max() < 1e-4
