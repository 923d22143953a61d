"""Every network whose weights are at hand gives what its authors' code gives, to 1e-4."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from irvis.runtime.errors import FileError
from irvis.student.teachers.published import MODULES, find_weights, network_class

FILES = {"MMDRFuseTeacher": "MMDRFuse_teacher", "MMDRFuseStudent": "MMDRFuse_student"}
WITH_WEIGHTS = [name for name in MODULES if name not in ("CDDFuse", "EMMA", "RFNNest", "SwinFusion")]


def load(folder, name):
    stem = FILES.get(name, name)
    network = network_class(name)().eval()
    network.load_state_dict(load_file(folder / f"{stem}.safetensors"), strict=True)
    return network, np.load(folder / f"{stem}.check.npz")


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_it_gives_what_the_published_code_gives(published, name):
    network, check = load(published, name)
    infrared, visible = (torch.from_numpy(check[key] / np.float32(255))[None, None] for key in ("ir", "vi"))
    with torch.no_grad():
        feature, fused = network(infrared, visible)
    assert tuple(feature.shape) == tuple(check["feature_shape"])
    wanted = check["fused"].squeeze()
    found = fused[0, 0].numpy()
    assert np.abs(found - wanted).max() < 1e-4
    wanted = check["feature"].squeeze()
    assert np.abs(feature[0, : len(wanted)].numpy() - wanted).max() < 1e-4


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_it_has_the_published_number_of_parameters(published, name):
    totals = json.loads((published / "summary.json").read_text())
    network = network_class(name)()
    assert sum(p.numel() for p in network.parameters()) == totals[FILES.get(name, name)]["params"]


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_a_batch_gives_what_its_pairs_give(published, name):
    network, check = load(published, name)
    infrared, visible = (torch.from_numpy(check[key] / np.float32(255))[None, None] for key in ("ir", "vi"))
    infrared = torch.cat([infrared, infrared.flip(3)])[..., :64, :64]
    visible = torch.cat([visible, visible.flip(3)])[..., :64, :64]
    with torch.no_grad():
        together = network(infrared, visible)
        apart = [network(infrared[i : i + 1], visible[i : i + 1]) for i in range(2)]
    for index, tensor in enumerate(together):
        wanted = torch.cat([one[index] for one in apart])
        assert (tensor - wanted).abs().max() < 1e-4


def test_weights_go_by_their_names(tmp_path):
    for name in ("MMDRFuse_student.pth", "datfuse.safetensors", "SHIP.txt", "other.pt"):
        (tmp_path / name).touch()
    assert find_weights(tmp_path) == {
        "DATFuse": tmp_path / "datfuse.safetensors",
        "MMDRFuseStudent": tmp_path / "MMDRFuse_student.pth",
    }
    with pytest.raises(FileError, match="no folder of weights"):
        find_weights(tmp_path / "none")


def test_a_folder_without_weights_is_told(tmp_path):
    (tmp_path / "model_best.pth").touch()
    with pytest.raises(FileError, match=r"no weights of a published network in .*; name a file after its network"):
        find_weights(tmp_path)


def test_all_that_is_published_here_is_found(published):
    assert list(find_weights(published)) == WITH_WEIGHTS
