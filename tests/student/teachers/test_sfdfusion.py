"""SFDFusion beyond what test_published.py asks of every network."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from irvis.student.teachers.sfdfusion import InverseTransform, SFDFusion


def planes(height=24, width=40):
    return torch.rand(2, 1, 1, height, width, generator=torch.Generator().manual_seed(0))


def test_the_published_file_holds_the_state_dict_under_fuse_net(published):
    state = load_file(published / "SFDFusion.safetensors")
    network = SFDFusion()
    network.load_state_dict(SFDFusion.unwrap({"fuse_net": state, "epoch": 10}), strict=True)
    assert torch.equal(network.dmrm.grad_ir.convx.weight, state["dmrm.grad_ir.convx.weight"])
    network.load_state_dict(SFDFusion.unwrap(state), strict=True)


def test_cost_is_the_published_one(cost):
    macs, parameters = cost(SFDFusion)
    assert macs == pytest.approx(42.807e9, abs=1e6)
    assert parameters == 139_695


def test_the_feature_is_the_input_of_the_fusion_encoder():
    network, seen = SFDFusion().eval(), []
    network.fus_block.encoder.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*planes())
        wanted = network.fus_block(feature)
    assert feature.shape == (1, 24, 24, 40)
    assert seen[0] is feature
    assert torch.equal(fused, (wanted - wanted.min()) / (wanted.max() - wanted.min()))
    assert (fused.min(), fused.max()) == (0, 1)


def test_the_inverse_transform_gives_back_a_plane_from_its_spectrum():
    plane, module, seen = planes()[0].double(), InverseTransform().double(), []
    module.conv1.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    spectrum = np.fft.rfft2(plane.numpy())
    with torch.no_grad():
        module(torch.from_numpy(np.abs(spectrum)), torch.from_numpy(np.angle(spectrum)))
    assert seen[0].shape == (1, 2, 24, 40)
    assert (seen[0] - plane).abs().max() < 1e-7
