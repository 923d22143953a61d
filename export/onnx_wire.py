"""The little of an ONNX file's wire format (protobuf) that building an engine needs, for a device without ``onnx``.

Field numbers are those of ``onnx.proto``: ModelProto.graph = 7; GraphProto.node = 1, input = 11; NodeProto.output = 2,
name = 3, op_type = 4; ValueInfoProto.name = 1, type = 2; TypeProto.tensor_type = 1; TypeProto.Tensor.shape = 2;
TensorShapeProto.dim = 1; TensorShapeProto.Dimension.dim_value = 1.
"""

from typing import Iterator, List, Optional, Tuple, Union

GRAPH, NODE, INPUT = 7, 1, 11
INPUT_NAME, DIMENSION_VALUE = 1, 1
INPUT_SHAPE = (2, 1, 2)  # ValueInfoProto.type, .tensor_type, .shape
NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE = 2, 3, 4

Field = Tuple[int, Union[int, memoryview]]


def is_onnx(model: bytes) -> bool:
    """Tell whether these bytes are a whole protobuf message with a graph that has nodes where an ONNX has them."""
    try:
        graphs = [value for number, value in read_fields(memoryview(model)) if number == GRAPH]
        return len(graphs) == 1 and any(number == NODE for number, _ in read_fields(_message(graphs[0])))
    except ValueError:
        return False


def node_label(model: bytes, index: int) -> str:
    """Give node ``index`` of the graph as a person finds it: ``node 12 MatMul '/rstb/attn/MatMul' -> /rstb/q``."""
    graph = next((value for number, value in read_fields(memoryview(model)) if number == GRAPH), memoryview(b""))
    nodes = [value for number, value in read_fields(_message(graph)) if number == NODE]
    if not 0 <= index < len(nodes):
        return "the graph"  # the parser's -1: not one node's fault
    texts = {NODE_OUTPUT: "", NODE_NAME: "", NODE_OP_TYPE: ""}
    for number, value in read_fields(_message(nodes[index])):
        if number in texts and not texts[number]:
            texts[number] = bytes(_message(value)).decode("utf-8", "replace")
    return f"node {index} {texts[NODE_OP_TYPE]} {texts[NODE_NAME]!r} -> {texts[NODE_OUTPUT]}"


def input_shape(model: bytes, name: str) -> Optional[List[Optional[int]]]:
    """Give the shape of an input, None for what is dynamic; None where the ONNX has no such input or tells no shape.

    Raises ValueError where the message is cut off or is none.
    """
    for graph in _numbered(memoryview(model), GRAPH):
        for described in _numbered(graph, INPUT):
            if any(bytes(text) == name.encode() for text in _numbered(described, INPUT_NAME)):
                shapes = [described]
                for number in INPUT_SHAPE:
                    shapes = [inner for outer in shapes for inner in _numbered(outer, number)]
                return [_dimension(dimension) for shape in shapes for dimension in _numbered(shape, 1)] or None
    return None


def read_fields(message: memoryview) -> Iterator[Field]:
    """Give each field of a message as its number and value: a view for texts and messages, else an int.

    Raises ValueError where the message is cut off or is none.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            whole, at = _varint(message, at)
            yield number, whole
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no field of kind {kind}")
        if number == 0 or at + length > len(message):
            raise ValueError("the message is cut off")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at == len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("the message is cut off")


def _numbered(message: memoryview, wanted: int) -> List[memoryview]:
    return [_message(value) for number, value in read_fields(message) if number == wanted]


def _dimension(message: memoryview) -> Optional[int]:
    values = [value for number, value in read_fields(message) if number == DIMENSION_VALUE and isinstance(value, int)]
    return values[0] if values else None


def _message(value: Union[int, memoryview]) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message must be")
    return value
