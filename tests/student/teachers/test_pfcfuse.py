import hashlib
import json
from math import erf

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from irvis.student.teachers.cddfuse import PARTS, CDDFuse
from irvis.student.teachers.pfcfuse import PFCFuse, PoolFormer


def test_keys_and_shapes_are_those_of_the_published_class():
    state = PFCFuse().state_dict()
    assert len(state) == 152
    lines = "\n".join(sorted(f"{key} {tuple(value.shape)}" for key, value in state.items()))
    digest = "792403d18dd3b86eda298bf55ba9702d372cbcb16ccbe654df2326cf7830d77a"
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


def test_authors_file_holds_four_state_dicts_of_data_parallel_modules(published):
    flat = load_file(published / "PFCFuse.safetensors")
    contents = {
        name: {f"module.{key[2:]}": value for key, value in flat.items() if key[0] == part}
        for part, name in PARTS.items()
    }
    assert [len(contents[name]) for name in PARTS.values()] == [86, 47, 8, 11]
    found = PFCFuse.unwrap(contents)
    PFCFuse().load_state_dict(found, strict=True)
    assert found.keys() == flat.keys()
    assert all(found[key] is flat[key] for key in flat)


def test_it_shares_all_but_the_base_branch_with_cddfuse():
    own = PFCFuse().state_dict().keys() - CDDFuse().state_dict().keys()
    assert own == {
        f"{block}.{name}"
        for block in ("B", "E.baseFeature")
        for name in ("layer_scale_1", "layer_scale_2", "poolmlp.fc1.weight", "poolmlp.fc2.weight")
    }


def test_poolformer_is_that_of_the_equation_in_float64():
    random = np.random.RandomState(0)
    block = PoolFormer(3).double()
    for parameter in block.parameters():
        parameter.data = torch.from_numpy(random.uniform(-1, 1, parameter.shape))
    x = random.standard_normal((3, 4, 5))
    p = {name: parameter.detach().numpy() for name, parameter in block.named_parameters()}

    def normalise(x, name):
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
        return x * p[f"{name}.body.weight"][:, None, None] + p[f"{name}.body.bias"][:, None, None]

    normalised = normalise(x, "norm1")
    padded = np.pad(normalised, ((0, 0), (1, 1), (1, 1)))
    pooled = sum(padded[:, row : row + 4, column : column + 5] for row in range(3) for column in range(3)) / 9
    wanted = x + p["layer_scale_1"][:, None, None] * (pooled - normalised)
    hidden = np.einsum("oi,ihw->ohw", p["poolmlp.fc1.weight"][:, :, 0, 0], normalise(wanted, "norm2"))
    hidden = hidden * (1 + np.vectorize(erf)(hidden / np.sqrt(2))) / 2
    mixed = np.einsum("oi,ihw->ohw", p["poolmlp.fc2.weight"][:, :, 0, 0], hidden)
    wanted = wanted + p["layer_scale_2"][:, None, None] * mixed
    with torch.no_grad():
        found = block(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13)


def test_feature_is_the_input_of_encoder_level2():
    network, seen = PFCFuse().eval(), []
    network.D.encoder_level2.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    with torch.no_grad():
        feature, fused = network(*torch.rand(2, 1, 1, 17, 23))  # no size is too odd for it
    assert feature is seen[0]
    assert feature.shape == (1, 64, 17, 23)
    assert fused.shape == (1, 1, 17, 23)


def test_thop_counts_what_it_counts_on_the_published_class(published):
    thop = pytest.importorskip("thop")
    with torch.device("meta"):
        network, plane = PFCFuse().eval(), torch.zeros(1, 1, 480, 640)
    with torch.inference_mode():
        assert thop.profile(network, inputs=(plane, plane), verbose=False) == (243_685_785_600, 525_664)
    parameters = json.loads((published / "summary.json").read_text())["PFCFuse"]["params"]
    assert sum(parameter.numel() for parameter in PFCFuse().parameters()) == parameters == 528_544
