"""SwinFusion, whose weights cannot be had here: its state dict and its figures are those of the published code."""

import hashlib

import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.swinfusion import SwinFusion, WindowAttention, shift_mask

# Of the published class: one line "key shape" for each key, sorted.
SHA256 = "be6fe2714124ebe6264e1da39431505739508f8710d8c3ac60f71e0b59819126"

# What the published class gives for the weights of ``fill`` and the planes of ``planes(height, width)``: the feature at
# [0, :4, 9, 17] and the fused plane at [0, 0, ::5, 13]. The second size is not of whole windows.
FIGURES = {
    (24, 32): ([0.84524, -0.05405, 1.5661, -0.1996], [-0.02611, -0.17352, -0.23219, -0.15848, -0.04141]),
    (21, 30): ([0.66803, -0.07933, 1.5499, -0.16617], [-0.02315, -0.23944, -0.19971, -0.14436, 0.04542]),
}


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
                parameter.copy_(0.1 * values + (name.endswith("weight") and "norm" in name))
    return network.eval()


def planes(height, width):
    return [wave(index, (1, 1, height, width)).float() / 2 + 0.5 for index in (0, 1)]


@pytest.fixture(scope="module")
def network():
    return fill(SwinFusion())


def test_state_dict_is_that_of_the_published_class(network):
    state = network.state_dict()
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert len(lines) == 448
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == SHA256
    assert sum(parameter.numel() for parameter in network.parameters()) == 973_681
    assert state["conv_first2_B.weight"].shape == (30, 30, 3, 3)
    assert state["layers_Ex_A.0.residual_group.blocks.1.attn_mask"].shape == (256, 64, 64)
    assert state["layers_Fusion.1.residual_group.blocks.0.attn_B.kv.weight"].shape == (120, 60)
    assert state["layers_Re.0.residual_group.blocks.3.attn.relative_position_bias_table"].shape == (225, 6)


def test_a_file_of_the_authors_form_loads(network):
    state = network.state_dict()
    for contents in (state, {"params": state}):
        SwinFusion().load_state_dict(SwinFusion.unwrap(contents), strict=True)


def test_cost_is_that_of_the_published_code(cost):
    macs, parameters = cost(SwinFusion)
    assert (macs, parameters) == (298_737_561_600, 927_451)


@pytest.mark.parametrize("size", [(24, 32), (21, 30)])
def test_it_gives_what_the_published_code_gives(network, size):
    height, width = size
    with torch.no_grad():
        feature, fused = network(*planes(*size))
    assert (feature.shape, fused.shape) == ((1, 60, height, width), (1, 1, height, width))
    wanted_feature, wanted_fused = FIGURES[size]
    assert feature[0, :4, 9, 17].tolist() == pytest.approx(wanted_feature, abs=1e-4)
    assert fused[0, 0, ::5, 13].tolist() == pytest.approx(wanted_fused, abs=1e-4)


def test_the_feature_is_the_input_of_the_reconstruction(network):
    seen = []
    with torch.no_grad():
        hook = network.layers_Re.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
        feature, _ = network(*planes(16, 24))
        hook.remove()
    assert torch.equal(seen[0], network.embed(feature))


def test_the_unused_convolutions_have_no_effect(network):
    with torch.no_grad():
        before = network(*planes(16, 16))[1]
        for convolution in (network.conv_first1_B, network.conv_first2_B):
            convolution.weight.mul_(-1)
        after = network(*planes(16, 16))[1]
    assert torch.equal(before, after)


def test_a_batch_gives_what_its_pairs_give(network):
    infrared, visible = planes(16, 24)
    pairs = [(infrared, visible), (visible.square(), infrared)]
    with torch.no_grad():
        apart = [network(*pair) for pair in pairs]
        together = network(*(torch.cat(side) for side in zip(*pairs)))
    for index, tensor in enumerate(together):
        assert (tensor - torch.cat([one[index] for one in apart])).abs().max() < 1e-4


def test_the_mask_parts_what_only_the_shift_put_together():
    height, width = 24, 16
    mask = shift_mask(height, width)
    assert mask.shape == (6, 64, 64)
    for window, (top, left) in enumerate((y, x) for y in range(0, height, 8) for x in range(0, width, 8)):
        # Where each token of the shifted window stands in the image, and whether it came round the edge.
        wrapped = [(top + i + 4 >= height, left + j + 4 >= width) for i in range(8) for j in range(8)]
        wanted = [[0.0 if a == b else -100.0 for b in wrapped] for a in wrapped]
        assert mask[window].tolist() == wanted


def test_each_offset_between_tokens_has_its_own_bias():
    index = WindowAttention().relative_position_index
    assert len(index.unique()) == 225
    for first, second in ((0, 63), (9, 0), (20, 43)):
        dy, dx = first // 8 - second // 8, first % 8 - second % 8
        assert index[first, second] == (dy + 7) * 15 + dx + 7
