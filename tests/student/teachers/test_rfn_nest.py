"""The figures here were made with the authors' code, filled with the same formula as here."""

import hashlib

import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.rfn_nest import RFNNest

# height, width -> fused at the first pixel, the middle, the last and the lower left; mean of fused, mean of feature
PUBLISHED = {
    (24, 32): (0.58600438, 0.33371343, 0.73109735, 0.53773185, 0.48189587, 102.522241),
    (21, 19): (0.51738028, 0.24422200, 0.57892626, 0.50489744, 0.46014728, 104.333873),
}


def formula_weights():
    """Weights that every machine makes alike, about as large as a training begins with; float64."""
    weights = {}
    shapes = {name: value.shape for name, value in RFNNest().state_dict().items()}
    for index, (name, shape) in enumerate(sorted(shapes.items())):
        wave = torch.cos(torch.arange(shape.numel(), dtype=torch.float64) ** 2 + index)
        if shape[0] == 1:
            wave = wave.abs()  # of the last convolution, whose ReLU would else give zeros only
        fan_in = shape.numel() // shape[0]
        weights[name] = (wave if len(shape) == 1 else 2 * wave / fan_in**0.5).reshape(shape)
    return weights


@pytest.fixture(scope="module")
def network():
    network = RFNNest().double().eval()
    network.load_state_dict(formula_weights(), strict=True)
    return network


def pair(height, width):
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    infrared, visible = 0.5 + 0.5 * torch.sin(0.9 * x + 0.3 * y), 0.5 + 0.5 * torch.cos(0.2 * x - 0.8 * y)
    return infrared[None, None], visible[None, None]


@pytest.mark.parametrize("size", PUBLISHED)
def test_it_gives_what_the_published_code_gives(network, size):
    height, width = size
    with torch.no_grad():
        feature, fused = network(*pair(height, width))
    assert feature.shape == (1, 64, height, width)
    places = ((0, 0), (height // 2, width // 2), (height - 1, width - 1), (height - 1, 0))
    found = [fused[0, 0][place].item() for place in places] + [fused.mean().item(), feature.mean().item()]
    assert found == pytest.approx(PUBLISHED[size], abs=1e-6)
    assert (fused.min(), fused.max()) == (0, 1)


def test_keys_and_shapes_are_the_published_ones(network):
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert sum(name.startswith("nest.") for name in shapes) == 44
    assert sum(name.startswith("rfn.") for name in shapes) == 48
    assert shapes["nest.DB1_3.denseblock.0.conv2d.weight"] == (152, 304, 3, 3)
    assert shapes["nest.conv_out.conv2d.weight"] == (1, 64, 1, 1)
    assert shapes["rfn.fusion_block4.bottelblock.0.conv2d.weight"] == (208, 416, 1, 1)
    lines = "\n".join(sorted(f"{name} {shape}" for name, shape in shapes.items()))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert digest == "abcd97b87394c5749102d128dc27c86cd0ca4539808dba9cd98de8fbe6fdaac0"


def test_cost_is_the_published_one(cost):
    macs, parameters = cost(RFNNest)
    assert (round(macs / 1e9, 4), parameters) == (520.8088, 2_732_761 + 4_791_488)


@pytest.mark.parametrize("form", ["two files", "two files, of DataParallel", "their keys together", "flat"])
def test_the_authors_own_files_load(network, form):
    flat = network.state_dict()
    nest = {name[5:]: value for name, value in flat.items() if name.startswith("nest.")}
    rfn = {name[4:]: value for name, value in flat.items() if name.startswith("rfn.")}
    contents = {
        "two files": {"nest": nest, "rfn": rfn},
        "two files, of DataParallel": {"a": {f"module.{k}": v for k, v in rfn.items()}, "b": nest},
        "their keys together": {**nest, **rfn},
        "flat": dict(flat),
    }[form]
    unwrapped = RFNNest.unwrap(contents)
    assert unwrapped.keys() == flat.keys()
    RFNNest().double().load_state_dict(unwrapped, strict=True)
    assert torch.equal(unwrapped["rfn.fusion_block1.conv_ir.conv2d.bias"], rfn["fusion_block1.conv_ir.conv2d.bias"])


def test_the_feature_is_the_full_size_scale_into_the_decoder(network):
    seen = []
    handles = [
        network.nest.DB1_1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])),
        network.rfn.fusion_block1.register_forward_hook(lambda module, inputs, output: seen.append(output)),
    ]
    with torch.no_grad():
        feature, _ = network(*pair(16, 16))
    for handle in handles:
        handle.remove()
    assert len(seen) == 2
    assert all(torch.equal(feature, one) for one in seen)


def test_a_batch_gives_what_its_pairs_give(network):
    infrared, visible = pair(16, 24)
    batch = [torch.cat([plane, plane.flip(3) / 2]) for plane in (infrared, visible)]
    with torch.no_grad():
        together = network(*batch)
        apart = [network(*(plane[i : i + 1] for plane in batch)) for i in range(2)]
    for index, tensor in enumerate(together):
        assert (tensor - torch.cat([one[index] for one in apart])).abs().max() < 1e-9
