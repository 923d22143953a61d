import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.cddfuse import PARTS, AffineCoupling, CDDFuse


def set_weights(network):
    """Draw all weights from a generator whose numbers never change, key by key in order of their names."""
    random = np.random.RandomState(0)
    for key, tensor in sorted(network.state_dict().items()):
        values = random.standard_normal(tuple(tensor.shape))
        if tensor.ndim == 4:
            values /= np.sqrt(4 * values[0].size)
        else:
            values = values / 4 + (not key.endswith("bias"))
        tensor.copy_(torch.from_numpy(values))


def draw_pair():
    random = np.random.RandomState(1)
    return [torch.from_numpy(random.uniform(size=(1, 1, 24, 20))) for _ in range(2)]


@pytest.fixture(scope="module")
def network():
    network = CDDFuse().double().eval()
    set_weights(network)
    return network.requires_grad_(False)


def test_keys_and_shapes_are_those_of_the_published_class():
    state = CDDFuse().state_dict()
    assert len(state) == 158
    assert state["B.mlp.dwconv.weight"].shape == (128, 2, 3, 3)
    assert state["E.baseFeature.attn.qkv2.weight"].shape == (192, 192, 3, 3)
    assert state["T.net.0.theta_phi.bottleneckBlock.3.weight"].shape == (64, 1, 3, 3)
    lines = "\n".join(sorted(f"{key} {tuple(value.shape)}" for key, value in state.items()))
    digest = "da889756b328904f8ac19807f90aa9780c7dc0ede1b362e666a8542703c53295"
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


def test_it_gives_what_the_published_class_gives_with_the_same_weights(network):
    feature, fused = (tensor.numpy() for tensor in network(*draw_pair()))
    assert feature.shape == (1, 64, 24, 20)
    assert fused.shape == (1, 1, 24, 20)
    wanted = [0.329020587946, 0.276201945388, -0.230025633662, 0.362276814392]
    np.testing.assert_allclose(feature[0, ::16, 0, 0], wanted, atol=1e-11)
    wanted = [0.126626871812, -0.058989956329, -0.192425445063, -0.076812839032]
    np.testing.assert_allclose(feature[0, 5, 10, ::5], wanted, atol=1e-11)
    wanted = [0.408081460294, 0.114261490032, 0.878096358647]
    np.testing.assert_allclose(fused[0, 0, ::8, 0], wanted, atol=1e-11)
    wanted = [0.460815720101, 0.487203690059, 0.513840404046, 0.544362057786]
    np.testing.assert_allclose(fused[0, 0, 12, ::5], wanted, atol=1e-11)
    assert (fused.min(), fused.max()) == (0, 1)


def test_authors_file_holds_four_state_dicts_of_data_parallel_modules(network):
    flat = network.state_dict()
    contents = {
        name: {f"module.{key[2:]}": value for key, value in flat.items() if key[0] == part}
        for part, name in PARTS.items()
    }
    found = CDDFuse.unwrap(contents)
    CDDFuse().load_state_dict(found, strict=True)
    assert found.keys() == flat.keys()
    assert all(found[key] is flat[key] for key in ("E.patch_embed.proj.weight", "T.net.0.shffleconv.bias"))
    assert CDDFuse.unwrap(flat) == flat


def test_feature_is_the_input_of_encoder_level2(network):
    seen = []
    hook = network.D.encoder_level2.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    feature, _ = network(*draw_pair())
    hook.remove()
    assert len(seen) == 1
    assert feature is seen[0]


def test_encoder_is_shared_and_only_the_visible_is_added_to_the_output(network):
    # Both planes enter the feature alike, so exchanging them moves the output before its sigmoid by their difference.
    infrared, visible = draw_pair()
    outputs = []
    hook = network.D.register_forward_hook(lambda _, __, output: outputs.append(output))
    network(infrared, visible)
    network(visible, infrared)
    hook.remove()
    (feature, fused), (exchanged_feature, exchanged_fused) = outputs
    torch.testing.assert_close(exchanged_feature, feature)
    torch.testing.assert_close(torch.logit(fused) - torch.logit(exchanged_fused), visible - infrared)


def test_each_image_of_a_batch_is_stretched_by_itself(network):
    infrared, visible = draw_pair()
    _, fused = network(torch.cat([infrared, infrared / 9]), torch.cat([visible, visible / 9]))
    assert fused.amin(dim=(1, 2, 3)).tolist() == [0, 0]
    assert fused.amax(dim=(1, 2, 3)).tolist() == [1, 1]
    torch.testing.assert_close(fused[1:], network(infrared / 9, visible / 9)[1])


def test_coupling_is_invertible():
    coupling = AffineCoupling(64).double()
    set_weights(coupling)
    x = torch.from_numpy(np.random.RandomState(2).standard_normal((1, 64, 4, 6)))
    with torch.no_grad():
        first, second = coupling(x).chunk(2, dim=1)
        first = (first - coupling.theta_eta(second)) / torch.exp(coupling.theta_rho(second))
        second = second - coupling.theta_phi(first)
        mixed = torch.cat([first, second], dim=1) - coupling.shffleconv.bias[:, None, None]
        found = torch.einsum("oi,bihw->bohw", torch.inverse(coupling.shffleconv.weight[:, :, 0, 0]), mixed)
    torch.testing.assert_close(found, x)


def test_published_totals_count_the_shared_encoder_twice_and_a_padded_frame():
    counter = pytest.importorskip("torch.utils.flop_counter")
    network = CDDFuse()
    parameters, encoder = (sum(p.numel() for p in module.parameters()) for module in (network, network.E))
    assert parameters == 1_188_272
    assert round((parameters + encoder) / 1e6, 4) == 1.7874
    # The printed 568.6871 G is met by counting the products of attention, which thop leaves out, at 648x488: what
    # SwinIR's way of padding to multiples of eight, (size // 8 + 1) * 8, makes of 640x480.
    with torch.device("meta"):
        network, plane = CDDFuse().eval(), torch.zeros(1, 1, 488, 648)
    with torch.no_grad(), counter.FlopCounterMode(display=False) as flops:
        network(plane, plane)
    assert round(flops.get_total_flops() / 2 / 1e9, 4) == 568.6871


def test_thop_counts_what_it_counts_on_the_published_class():
    thop = pytest.importorskip("thop")
    with torch.device("meta"):
        network, plane = CDDFuse().eval(), torch.zeros(1, 1, 480, 640)
    with torch.inference_mode():
        assert thop.profile(network, inputs=(plane, plane), verbose=False) == (547_740_057_600, 1_185_632)
