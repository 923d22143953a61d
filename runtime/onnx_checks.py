"""What irvis rejects in an ONNX that its readers accept: weights in other files, and names that are not text."""

import re
from typing import Any

from irvis.runtime.errors import ModelError
from irvis.runtime.files import PathLike

# A tensor with an entry of this key (ONNX's StringStringEntryProto) keeps its data elsewhere. The byte before the key
# is the last of its length, 8, in protobuf's shortest form or a longer one.
ENTRY = re.compile(rb"[\x08\x00]location")


def refuse_external_data(model: bytes, path: PathLike) -> None:
    """Raise ModelError if an ONNX refers to another file, or to an address in memory, for the data of a tensor.

    ONNX Runtime, at least up to 1.19, reads such data wherever they are: outside the model's folder, through links, and
    at any address of the process, which crashes it. ONNX files exported by irvis contain their weights.
    """
    if ENTRY.search(model):
        raise ModelError(
            f"{path} keeps its weights in another file, which is not read; put them into the ONNX: "
            "onnx.save(onnx.load(path), path)"
        )


def check_names(graph: Any) -> None:
    """Raise TypeError if a name in an onnx.GraphProto is not text: protobuf returns bytes, and onnx accepts them."""
    values = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    nodes = [name for node in graph.node for name in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    if not all(isinstance(name, str) for name in (*values, *nodes)):
        raise TypeError("it has names that are not text")
