"""DATFuse beyond what test_published.py asks of every network."""

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from irvis.student.teachers.datfuse import DATFuse


def planes(height=24, width=40):
    return torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_the_published_file_is_a_flat_state_dict(published):
    state = load_file(published / "DATFuse.safetensors")
    network = DATFuse()
    network.load_state_dict(DATFuse.unwrap(state), strict=True)
    assert set(network.state_dict()) == set(state)


def test_cost_is_the_published_one(cost):
    macs, parameters = cost(DATFuse)
    assert (round(macs / 1e9, 3), parameters) == (5.554, 10_552)
    assert sum(parameter.numel() for parameter in DATFuse().parameters()) == 10_760


def test_the_feature_is_the_input_of_the_last_convolution():
    network, seen = DATFuse().eval(), []
    network.convolutional_out.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*planes())
    assert feature.shape == (1, 16, 24, 40)
    assert seen[0] is feature
    assert torch.equal(fused, torch.tanh(network.convolutional_out.conv(feature)))


def test_queries_keys_and_position_bias_have_no_effect(published):
    network = DATFuse().eval()
    network.load_state_dict(load_file(published / "DATFuse.safetensors"), strict=True)
    with torch.no_grad():
        before = network(*planes())[1]
        for block in network.basicLayer.blocks:
            block.attn.qkv.weight[:32].normal_()
            block.attn.relative_position_bias_table.fill_(3)
        unused = network(*planes())[1]
        block.attn.qkv.weight[32:].normal_()
        values = network(*planes())[1]
    assert torch.equal(before, unused)
    assert (before - values).abs().max() > 1e-2


def test_tokens_are_runs_of_one_row_and_not_pixels():
    network, seen = DATFuse().eval(), []
    network.basicLayer.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    network.basicLayer.register_forward_hook(lambda module, inputs, tokens: torch.zeros_like(tokens))
    with torch.no_grad():
        network(*planes(2, 32))
        shallow = network.convolutional(torch.cat(tuple(planes(2, 32)), dim=1))
        encoded = torch.relu(network.attend(shallow)[1] + shallow)
    assert seen[0].shape == (1, 2, 32, 16)
    assert torch.equal(seen[0].flatten(), encoded.flatten())
    assert torch.equal(seen[0][0, 0, 1], encoded[0, 0, 0, 16:])
