import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.student.teachers.mmdrfuse import MMDRFuseStudent, MMDRFuseTeacher

# class -> (its number of keys, one of them, the shape of that)
KEYS = {
    MMDRFuseTeacher: (26, "conv22.1.weight", (32, 96, 3, 3)),
    MMDRFuseStudent: (4, "conv2.1.weight", (1, 4, 3, 3)),
}
# class -> (multiply-adds at 640x480 in G, parameters), those of the authors' code by thop
COST = {MMDRFuseTeacher: (56.9487, 556_489), MMDRFuseStudent: (0.0332, 113)}


def pair(height=24, width=32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 1, height, width, generator=generator)


@pytest.mark.parametrize("kind", KEYS)
def test_the_authors_own_file_loads(kind):
    count, name, shape = KEYS[kind]
    generator = torch.Generator().manual_seed(0)
    published = {key: torch.rand(value.shape, generator=generator) for key, value in kind().state_dict().items()}
    assert len(published) == count
    assert published[name].shape == shape
    network = kind()
    network.load_state_dict(kind.unwrap(published), strict=True)
    assert torch.equal(network.state_dict()[name], published[name])


@pytest.mark.parametrize("kind", COST)
def test_cost_is_the_published_one(cost, kind):
    macs, parameters = cost(kind)
    assert (round(macs / 1e9, 4), parameters) == COST[kind]


@pytest.mark.parametrize(
    ("kind", "module", "shape"),
    [(MMDRFuseTeacher, "conv66", (1, 64, 12, 16)), (MMDRFuseStudent, "conv2", (1, 4, 24, 32))],
)
def test_the_feature_is_the_input_of_the_module_it_names(kind, module, shape):
    network, seen = kind().eval(), []
    network.get_submodule(module).register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*pair())
    assert kind.feature.startswith(f"input of {module}:")
    assert feature.shape == shape
    assert len(seen) == 1
    assert torch.equal(feature, seen[0])
    assert fused.shape == (1, 1, 24, 32)


def test_the_student_equals_a_numpy_one_at_an_odd_size():
    network = MMDRFuseStudent().double().eval()
    infrared, visible = pair(9, 7).double()
    with torch.no_grad():
        feature, fused = network(infrared, visible)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}

    def convolve(planes, layer):
        padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        summed = np.einsum("ihwyx,oiyx->ohw", windows, weights[f"{layer}.1.weight"])
        return summed + weights[f"{layer}.1.bias"][:, None, None]

    wanted = np.maximum(convolve(np.stack([infrared[0, 0].numpy(), visible[0, 0].numpy()]), "conv1"), 0)
    assert np.abs(feature[0].numpy() - wanted).max() < 1e-12
    assert np.abs(fused[0].numpy() - np.tanh(convolve(wanted, "conv2"))).max() < 1e-12
