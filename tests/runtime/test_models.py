"""The shipped student: its ONNX was made from the checkpoint beside it, and its card stands with them."""

import onnxruntime

from irvis.runtime.files import sha256
from irvis.runtime.fuser import SHIPPED_MODEL, Fuser


def test_the_onnx_names_the_checkpoint_beside_it():
    session = onnxruntime.InferenceSession(str(SHIPPED_MODEL), providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["checkpoint_sha256"] == sha256(SHIPPED_MODEL.with_suffix(".safetensors"))
    assert properties["size"] == "any"


def test_any_size_is_taken():
    with Fuser() as fuser:
        assert fuser.size is None


def test_each_file_is_under_a_megabyte_and_has_its_card():
    assert SHIPPED_MODEL.stat().st_size < 1e6
    assert SHIPPED_MODEL.with_suffix(".safetensors").stat().st_size < 1e6
    assert "MSRS" in SHIPPED_MODEL.with_suffix(".md").read_text(encoding="utf-8")
