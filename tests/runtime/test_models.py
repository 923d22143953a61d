"""The shipped students: each ONNX was made from the checkpoint beside it, and its card stands with them."""

import onnxruntime
import pytest

from irvis.runtime.files import sha256
from irvis.runtime.fuser import Fuser
from irvis.runtime.shipped import NAMES, find_model


@pytest.mark.parametrize("name", NAMES)
def test_the_onnx_names_the_checkpoint_beside_it(name):
    session = onnxruntime.InferenceSession(str(find_model(name)), providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["checkpoint_sha256"] == sha256(find_model(name, ".safetensors"))
    assert properties["size"] == "any"


@pytest.mark.parametrize("name", NAMES)
def test_any_size_is_taken(name):
    with Fuser(name) as fuser:
        assert fuser.size is None


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_under_a_megabyte_and_has_its_card(name):
    assert find_model(name).stat().st_size < 1e6
    assert find_model(name, ".safetensors").stat().st_size < 1e6
    assert "MSRS" in find_model(name, ".md").read_text(encoding="utf-8")
