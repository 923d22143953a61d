import numpy as np
import pytest

from irvis.runtime.backend_onnxruntime import OnnxRuntimeBackend
from irvis.runtime.errors import ModelError
from irvis.runtime.onnx_checks import refuse_external_data
from irvis.runtime.shipped import SHIPPED_MODEL


def field(number, content):
    """Return a protobuf field: a text, a message, or a whole number below 128."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    content = content.encode() if isinstance(content, str) else content
    length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7])  # a longer form than is needed, which is taken too
    return bytes([number << 3 | 2]) + length + content


def model(location, offset="0"):
    """Return an ONNX, fused = visible + w, whose w is 4 bytes of external data."""
    entries = (("location", location), ("offset", offset), ("length", "4"))
    data = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries)
    weight = field(1, 1) + field(2, 1) + field(8, "w") + data + field(14, 1)
    sides = b"".join(field(1, field(1, side)) for side in (1, 1, 16, 16))
    kind = field(2, field(1, field(1, 1) + field(2, sides)))
    nodes = field(1, field(1, "visible") + field(1, "w") + field(2, "sum") + field(4, "Add"))
    nodes += field(1, field(1, "infrared") + field(1, "sum") + field(2, "fused") + field(4, "Max"))
    graph = nodes + field(2, "g") + field(5, weight)
    graph += field(11, field(1, "infrared") + kind) + field(11, field(1, "visible") + kind)
    graph += field(12, field(1, "fused") + kind)
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


@pytest.mark.parametrize(
    "location",
    ["weights.bin", "../secret.bin", "/etc/passwd", "link.bin", "*/_ORT_MEM_ADDR_/*"],
    ids=["beside", "outside", "absolute", "link", "in memory"],
)
def test_weights_that_lie_elsewhere_are_not_read(tmp_path, location):
    """The last one ends the process where ONNX Runtime 1.19 is let read it."""
    (tmp_path / "m").mkdir()
    np.ones(1, np.float32).tofile(tmp_path / "secret.bin")
    np.ones(1, np.float32).tofile(tmp_path / "m" / "weights.bin")
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = tmp_path / "m" / "x.onnx"
    path.write_bytes(model(location, "140000000000000" if "MEM" in location else "0"))
    with pytest.raises(ModelError, match=r"x\.onnx keeps its weights in another file, which is not read"):
        OnnxRuntimeBackend(path, ("CPUExecutionProvider",))


def test_an_onnx_that_keeps_its_weights_passes():
    refuse_external_data(SHIPPED_MODEL.read_bytes(), SHIPPED_MODEL)
    refuse_external_data(b"/relocation/Conv and a location", "x.onnx")
