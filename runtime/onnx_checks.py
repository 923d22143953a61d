"""What is refused of an ONNX beside what its readers refuse: weights in other files, names that are no text."""

import re
from typing import Any

from irvis.runtime.errors import ModelError
from irvis.runtime.files import PathLike

# A tensor's data lie elsewhere where it has an entry of this key (ONNX's StringStringEntryProto). The byte before is
# the last of its length, 8, in protobuf's shortest form or a longer one.
ENTRY = re.compile(rb"[\x08\x00]location")


def refuse_external_data(model: bytes, path: PathLike) -> None:
    """Raise ModelError where an ONNX names another file, or a place in memory, for the data of a tensor.

    Up to ONNX Runtime 1.19 at the least, that is read wherever it is: out of the model's folder, through links, and at
    any address of the process, which ends it. What irvis exports keeps its weights in the file.
    """
    if ENTRY.search(model):
        raise ModelError(
            f"{path} keeps its weights in another file, which is not read; put them into the ONNX: "
            "onnx.save(onnx.load(path), path)"
        )


def check_names(graph: Any) -> None:
    """Raise TypeError where a name in an onnx.GraphProto is no text: protobuf gives bytes, and onnx lets it pass."""
    values = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    nodes = [name for node in graph.node for name in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    if not all(isinstance(name, str) for name in (*values, *nodes)):
        raise TypeError("it has names that are no text")
