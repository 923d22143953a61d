import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.student.network import (
    DACB,
    RSTB,
    ChannelAttention,
    ChannelLayerNorm,
    Decoder,
    Encoder,
    Fusion,
    GatedFeedForward,
    Student,
    StudentConfig,
    TransposedAttention,
    at_stride,
    grow,
    shrink,
)

PUBLISHED = Path(__file__).parents[3] / "shared" / "paper" / "published.json"
torch.manual_seed(0)
STUDENT = Student().eval()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def perturbed(module, seed=0):
    """Return the module with every parameter moved off its initial value, so that none is 0 or 1 by chance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def uniform(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_cost_is_the_published_one():
    thop = pytest.importorskip("thop")
    with torch.device("meta"):  # shapes are all that is counted
        student, plane = Student().eval(), torch.zeros(1, 1, 480, 640)
    with torch.inference_mode():
        macs, parameters = thop.profile(student, inputs=(plane, plane), verbose=False)
    assert (macs, parameters) == (22_614_838_272, 77_185)
    assert sum(parameter.numel() for parameter in Student().parameters()) == 77_713
    if PUBLISHED.is_file():
        published = json.loads(PUBLISHED.read_text())["complexity"]["student"]
        assert round(macs / 1e9, 4) == published["gmacs_640x480"]
        assert round(parameters / 1e6, 4) == published["mparams"]


def test_modules_bear_the_names_of_the_paper():
    kinds = {name: type(module) for name, module in STUDENT.named_children()}
    assert list(kinds) == ["encoder_ir", "encoder_vis", "global_branch", "local_branch", "fusion", "decoder"]
    assert kinds["encoder_ir"] is kinds["encoder_vis"] is Encoder
    assert [type(block) for block in STUDENT.global_branch] == [RSTB] * 3
    assert [type(block) for block in STUDENT.local_branch] == [DACB] * 3
    assert isinstance(STUDENT.fusion, Fusion)
    assert isinstance(STUDENT.fusion.rstb, RSTB)
    assert isinstance(STUDENT.decoder, Decoder)


def test_encoders_share_no_weights():
    addresses = {parameter.data_ptr() for parameter in STUDENT.parameters()}
    assert len(addresses) == len(list(STUDENT.parameters()))


@settings(max_examples=12)
@given(height=st.integers(16, 40), width=st.integers(16, 40), batch=st.integers(1, 2))
def test_any_size_gives_a_fused_plane_and_its_feature(height, width, batch):
    infrared, visible = uniform(2, batch, 1, height, width, seed=height * 41 + width)
    with torch.inference_mode():
        fused, feature = STUDENT(infrared, visible, return_feature=True)
        alone = STUDENT(infrared, visible)
    assert fused.shape == (batch, 1, height, width)
    assert feature.shape == (batch, 32, height, width)
    assert fused.min() > 0
    assert fused.max() < 1
    assert torch.equal(fused, alone)


@pytest.mark.parametrize("size", [(16, 16), (17, 31)])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_flat_frames_give_finite_planes(size, level):
    plane = torch.full((1, 1, *size), level)
    with torch.inference_mode():
        assert torch.isfinite(STUDENT(plane, plane)).all()


def test_each_pair_of_a_batch_is_fused_for_itself():
    infrared, visible = uniform(2, 3, 1, 18, 21)
    with torch.inference_mode():
        batch = STUDENT(infrared, visible)
        alone = torch.cat([STUDENT(infrared[i : i + 1], visible[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(batch, alone, rtol=0, atol=1e-6)


def test_the_fused_plane_depends_on_both_inputs_and_on_which_is_which():
    infrared, visible = uniform(2, 1, 1, 16, 16)
    with torch.inference_mode():
        fused = STUDENT(infrared, visible)
        for others in ((visible, infrared), (infrared, infrared), (visible, visible)):
            assert (STUDENT(*others) - fused).abs().max() > 1e-4


def test_gradients_reach_every_parameter():
    student = perturbed(Student())
    student(*uniform(2, 1, 1, 16, 16)).sum().backward()
    dead = [name for name, parameter in student.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not dead


@pytest.mark.parametrize(
    ("infrared", "visible", "said"),
    [
        ((1, 1, 16, 16), (1, 1, 16, 17), r"Got \(1, 1, 16, 16\) and \(1, 1, 16, 17\)"),
        ((1, 3, 16, 16), (1, 3, 16, 16), r"Got \(1, 3, 16, 16\)"),
        ((1, 16, 16), (1, 16, 16), r"Got \(1, 16, 16\)"),
        ((2, 1, 16, 16), (1, 1, 16, 16), r"Got \(2, 1, 16, 16\) and \(1, 1, 16, 16\)"),
        ((1, 1, 15, 40), (1, 1, 15, 40), r"16x16. Got \(15, 40\)"),
    ],
)
def test_wrong_planes_are_refused_with_what_came(infrared, visible, said):
    with pytest.raises(ValueError, match=said):
        STUDENT(torch.zeros(infrared), torch.zeros(visible))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"channels": 0}, "channels must be an integer from 1 to 1024. Got 0"),
        ({"channels": 10**9}, "Got 1000000000"),
        ({"heads": 4.0}, "heads must be an integer from 1 to 1024. Got 4.0"),
        ({"local_blocks": True}, "local_blocks must .* Got True"),
        ({"global_blocks": -1}, "global_blocks must be an integer from 0 to 1024. Got -1"),
        ({"channels": 30}, "channels must be divisible by heads. Got 30 and 4"),
        ({"channels": 33, "heads": 1, "reduction": 1}, "must be divisible by 2 encoders. Got 33 and 2"),
        ({"reduction": 5}, "channels must be divisible by reduction. Got 32 and 5"),
        ({"global_stride": 0}, "global_stride must be an integer from 1 to 1024. Got 0"),
        ({"fusion_stride": 3}, "fusion_stride must be one of 1, 2, 4, 8. Got 3"),
        ({"global_stride": 16}, "global_stride must be one of 1, 2, 4, 8. Got 16"),
    ],
)
def test_wrong_shapes_of_the_student_are_refused_with_what_came(values, said):
    with pytest.raises(ValueError, match=said):
        StudentConfig(**values)


def test_another_shape_runs():
    student = Student(StudentConfig(channels=8, heads=2, global_blocks=1, local_blocks=2, expansion=3, reduction=4))
    fused, feature = student(*uniform(2, 1, 1, 17, 16), return_feature=True)
    assert fused.shape == (1, 1, 17, 16)
    assert feature.shape == (1, 8, 17, 16)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(16, 16), (17, 24), (35, 41)])
def test_blocks_that_change_nothing_change_nothing_at_a_stride(stride, size):
    x = uniform(2, 3, *size)
    assert torch.equal(at_stride(lambda small: small, x, stride), x)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_blocks_see_one_pixel_in_stride_by_stride(stride):
    """Of sides that it divides, the mean of each square; and a constant that they add is added everywhere."""
    x, seen = uniform(1, 3, 16, 24), []
    changed = at_stride(lambda small: seen.append(small) or small + 1, x, stride)
    assert torch.allclose(changed, x + 1)
    assert torch.allclose(seen[0], torch.nn.functional.avg_pool2d(x, stride), atol=1e-6)
    at_stride(lambda small: seen.append(small) or small, uniform(1, 3, 17, 31), stride)
    assert seen[1].shape == (1, 3, -(-17 // stride), -(-31 // stride))


def test_an_odd_side_is_halved_between_pixel_centres():
    row = torch.tensor([0.0, 1, 2]).expand(1, 1, 3, 3)
    assert torch.equal(shrink(row, 2), torch.tensor([0.25, 1.75]).expand(1, 1, 2, 2))


@given(height=st.integers(16, 40), width=st.integers(16, 40), stride=st.sampled_from([2, 4, 8]))
def test_a_1x1_convolution_may_change_places_with_both_ways(height, width, stride):
    layer = torch.nn.Conv2d(3, 5, 1).double()
    x = uniform(1, 3, height, width).double()
    with torch.no_grad():
        small = shrink(x, stride)
        assert torch.allclose(layer(small), shrink(layer(x), stride), atol=1e-12)
        assert torch.allclose(grow(layer(small), x), layer(grow(small, x)), atol=1e-12)


def test_at_strides_the_student_has_the_same_parameters_and_another_result():
    student, planes = perturbed(Student()), uniform(2, 1, 1, 33, 18)
    fast = Student(StudentConfig(global_stride=2, fusion_stride=4))
    fast.load_state_dict(student.state_dict())
    with torch.no_grad():
        fused, feature = fast(*planes, return_feature=True)
        feature_0 = torch.cat([fast.encoder_ir(planes[0]), fast.encoder_vis(planes[1])], dim=1)
        small = shrink(feature_0, 2)
        of_global = feature_0 + grow(fast.global_branch(small) - small, feature_0)
        joined = fast.fusion.conv(torch.cat([of_global, fast.local_branch(feature_0)], dim=1))
        small = shrink(joined, 4)
        assert torch.equal(feature, joined + grow(fast.fusion.rstb(small) - small, joined))
        assert fused.shape == planes[0].shape
        assert not torch.allclose(feature, student(*planes, return_feature=True)[1], atol=0.1)


def without(*branches):
    student = perturbed(Student(StudentConfig(**{f"{branch}_blocks": 0 for branch in branches})))
    return student, uniform(2, 1, 1, 16, 18)


@pytest.mark.parametrize(("gone", "left"), [("global", "local"), ("local", "global")])
def test_without_a_branch_the_other_alone_is_fused(gone, left):
    student, planes = without(gone)
    with torch.no_grad():
        fused, feature = student(*planes, return_feature=True)
        feature_0 = torch.cat([student.encoder_ir(planes[0]), student.encoder_vis(planes[1])], dim=1)
        branch = getattr(student, f"{left}_branch")
        assert torch.equal(feature, student.fusion.rstb(student.fusion.conv(branch(feature_0))))
        assert torch.equal(fused, student.decoder(feature))
    assert not list(getattr(student, f"{gone}_branch").parameters())
    assert student.fusion.conv.weight.shape == (32, 32, 1, 1)


def test_without_both_branches_the_encoders_feature_is_fused():
    student, planes = without("global", "local")
    with torch.no_grad():
        _, feature = student(*planes, return_feature=True)
        feature_0 = torch.cat([student.encoder_ir(planes[0]), student.encoder_vis(planes[1])], dim=1)
        assert torch.equal(feature, student.fusion.rstb(student.fusion.conv(feature_0)))
    assert {name.split(".")[0] for name in student.state_dict()} == {"encoder_ir", "encoder_vis", "fusion", "decoder"}


def test_channel_layer_norm_is_layer_norm_over_channels():
    norm = perturbed(ChannelLayerNorm(8)).double()
    x = 5 * uniform(2, 8, 3, 5, dtype=torch.float64) - 1
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (8,), norm.weight, norm.bias, 1e-5).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)


def test_transposed_attention_is_attention_between_the_channels_of_each_head():
    channels, heads, height, width = 8, 2, 3, 5
    attention = perturbed(TransposedAttention(channels, heads)).double()
    x = uniform(2, channels, height, width, dtype=torch.float64) - 0.5
    with torch.no_grad():
        found = attention(x).numpy()
        qkv = attention.qkv_depthwise(attention.qkv(x)).numpy()
    temperature, project_out = attention.temperature.detach().numpy(), attention.project_out.weight.detach().numpy()
    for image, planes in zip(found, qkv):
        heard = []
        for head in range(heads):
            channels_of_head = [part * channels + head * 4 + np.arange(4) for part in range(3)]
            q, k, v = (planes[chosen].reshape(4, height * width) for chosen in channels_of_head)
            for i in range(4):
                cosines = np.array([q[i] @ k[j] / np.sqrt((q[i] @ q[i]) * (k[j] @ k[j])) for j in range(4)])
                weights = np.exp(temperature[head, 0, 0] * cosines)
                heard.append(weights / weights.sum() @ v)
        expected = project_out[:, :, 0, 0] @ np.array(heard)
        np.testing.assert_allclose(image, expected.reshape(channels, height, width), rtol=1e-10, atol=1e-12)


def test_feed_forward_gates_one_half_by_the_other():
    feed_forward = perturbed(GatedFeedForward(4, 6)).double()
    x = uniform(1, 4, 5, 3, dtype=torch.float64) - 0.5
    with torch.no_grad():
        found = feed_forward(x)
        hidden = feed_forward.depthwise(feed_forward.project_in(x))
        gate, value = hidden[:, :6], hidden[:, 6:]
        gelu = gate * (1 + torch.erf(gate / 2**0.5)) / 2
        expected = torch.einsum("oc,bchw->bohw", feed_forward.project_out.weight[:, :, 0, 0], gelu * value)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_channel_attention_scales_each_channel_by_its_own_factor():
    attention = perturbed(ChannelAttention(6, 2)).double()
    x = uniform(2, 6, 3, 4, dtype=torch.float64) - 0.5
    with torch.no_grad():
        found = attention(x).numpy()
    squeeze, excite = (layer.weight.detach().numpy() for layer in (attention.squeeze, attention.excite))
    for image, given_image in zip(found, x.numpy()):
        hidden = np.maximum(squeeze @ given_image.mean(axis=(1, 2)), 0)
        factors = 1 / (1 + np.exp(-(excite @ hidden)))
        np.testing.assert_allclose(image, given_image * factors[:, None, None], rtol=1e-12)


def test_encoders_and_decoder_bend_by_leaky_relu():
    def bent(x):
        return x.clamp(min=0) + 0.01 * x.clamp(max=0)

    student, plane = perturbed(Student()), uniform(1, 1, 16, 16)
    encoder, decoder = student.encoder_ir, student.decoder
    with torch.no_grad():
        feature = bent(encoder.conv2(bent(encoder.conv1(plane))))
        torch.testing.assert_close(encoder(plane), feature)
        assert (feature < 0).any()
        both = torch.cat([feature, -feature], dim=1)
        torch.testing.assert_close(decoder(both), torch.sigmoid(decoder.conv2(bent(decoder.conv1(both)))))


def test_blocks_add_their_input():
    x = uniform(1, 8, 4, 4)
    rstb, dacb = perturbed(RSTB(8, 2, 2)), perturbed(DACB(8, 2, 2))
    with torch.no_grad():
        rstb.attention.project_out.weight.zero_()
        rstb.feed_forward.project_out.weight.zero_()
        dacb.pointwise2.weight.zero_()
        dacb.pointwise2.bias.zero_()
        assert torch.equal(rstb(x), x)
        assert torch.equal(dacb(x), x)
