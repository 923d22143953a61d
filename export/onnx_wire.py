"""The parts of an ONNX file's wire format (protobuf) that building an engine needs, for a device without ``onnx``.

Field numbers are those of ``onnx.proto``: ModelProto.graph = 7; GraphProto.node = 1, input = 11, output = 12;
NodeProto.output = 2, name = 3, op_type = 4; ValueInfoProto.name = 1, type = 2; TypeProto.tensor_type = 1;
TypeProto.Tensor.shape = 2; TensorShapeProto.dim = 1; TensorShapeProto.Dimension.dim_value = 1.
"""

from typing import Callable, Iterator, List, Optional, Sequence, Tuple, Union

GRAPH, NODE, INPUT, OUTPUT = 7, 1, 11, 12
VALUE_NAME, DIMENSION, LENGTH = 1, 1, 1
SHAPE = (2, 1, 2)  # ValueInfoProto.type, .tensor_type, .shape
NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE = 2, 3, 4
LARGEST_LENGTH = (1 << 63) - 1  # of an int64; anything above is a negative number

Field = Tuple[int, Union[int, memoryview]]
Change = Callable[[memoryview], bytes]


def is_onnx(model: bytes) -> bool:
    """Return whether these bytes hold one graph with nodes, in which all that this module reads is complete."""
    try:
        graphs = _numbered(memoryview(model), GRAPH)
        if len(graphs) != 1:
            return False
        for described in (*_numbered(graphs[0], INPUT), *_numbered(graphs[0], OUTPUT)):
            _is_called(described, "")
            _shape(described)
        nodes = _numbered(graphs[0], NODE)
        for node in nodes:
            for number in (NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE):
                _numbered(node, number)
        return bool(nodes)
    except ValueError:
        return False


def node_label(model: bytes, index: int) -> str:
    """Return a readable label of node ``index``: ``node 12 MatMul '/rstb/attn/MatMul' -> /rstb/q``."""
    nodes = [node for graph in _numbered(memoryview(model), GRAPH) for node in _numbered(graph, NODE)]
    if not 0 <= index < len(nodes):
        return "the graph"  # the parser's -1: not one node's fault
    op_type, name, output = (
        next((bytes(text).decode("utf-8", "replace") for text in _numbered(nodes[index], number) if len(text)), "")
        for number in (NODE_OP_TYPE, NODE_NAME, NODE_OUTPUT)
    )
    return f"node {index} {op_type} {name!r} -> {output}"


def input_shape(model: bytes, name: str) -> Optional[List[Optional[int]]]:
    """Return the shape of an input, dynamic lengths as None; None if the ONNX has no such input or gives no shape.

    Raises ValueError if the message is cut off or invalid.
    """
    for graph in _numbered(memoryview(model), GRAPH):
        for described in _numbered(graph, INPUT):
            if _is_called(described, name):
                return _shape(described) or None
    return None


def own_size(model: bytes, name: str) -> Optional[Tuple[int, int]]:
    """Return (H, W), the last two lengths of an input's shape; None if one is dynamic. Raises as ``input_shape``."""
    shape = input_shape(model, name) or []
    height, width = shape[-2:] if len(shape) > 1 else (None, None)
    return (height, width) if height and width else None


def fix_shape(model: bytes, name: str, shape: Sequence[int]) -> bytes:
    """Return the ONNX with an input's or output's dynamic lengths set to those of ``shape``; all else stays as it is.

    A tensor of another rank is left alone. Raises ValueError as ``input_shape`` does.
    """

    def fixed(described: memoryview) -> bytes:
        if not _is_called(described, name) or len(_shape(described)) != len(shape):
            return bytes(described)
        lengths = iter(shape)
        return _changed(described, (*SHAPE, DIMENSION), lambda one: _fixed(one, next(lengths)))

    for field in (INPUT, OUTPUT):
        model = _changed(memoryview(model), (GRAPH, field), fixed)
    return model


def _is_called(described: memoryview, name: str) -> bool:
    return any(bytes(text) == name.encode() for text in _numbered(described, VALUE_NAME))


def _shape(described: memoryview) -> List[Optional[int]]:
    shapes = [described]
    for number in SHAPE:
        shapes = [inner for outer in shapes for inner in _numbered(outer, number)]
    return [_length(dimension) for shape in shapes for dimension in _numbered(shape, DIMENSION)]


def _changed(message: memoryview, path: Sequence[int], change: Change) -> bytes:
    """Return a message in which ``change`` was applied to each message at the end of ``path``, of field numbers."""
    if not path:
        return change(message)
    parts: List[bytes] = []
    begin = 0
    for number, value, end in _walk(message):
        if number == path[0]:
            inner = _changed(_message(value), path[1:], change)
            parts += [_as_varint(number << 3 | 2), _as_varint(len(inner)), inner]
        else:
            parts.append(bytes(message[begin:end]))
        begin = end
    return b"".join(parts)


def _fixed(dimension: memoryview, length: int) -> bytes:
    return bytes(dimension) if _length(dimension) is not None else _as_varint(LENGTH << 3) + _as_varint(length)


def read_fields(message: memoryview) -> Iterator[Field]:
    """Iterate over a message's fields as number and value: a view for texts and messages, else an int.

    Raises ValueError if the message is cut off or invalid.
    """
    return ((number, value) for number, value, _ in _walk(message))


def _walk(message: memoryview) -> Iterator[Tuple[int, Union[int, memoryview], int]]:
    """Yield each field's number, its value and where it ends."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            whole, at = _varint(message, at)
            yield number, whole, at
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no field of kind {kind}")
        if number == 0 or at + length > len(message):
            raise ValueError("the message is cut off")
        yield number, message[at : at + length], at + length
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


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _numbered(message: memoryview, wanted: int) -> List[memoryview]:
    return [_message(value) for number, value in read_fields(message) if number == wanted]


def _length(message: memoryview) -> Optional[int]:
    """Return dim_value; None if it is missing, or 0 or -1, which some exporters write for a dynamic length."""
    values = [value for number, value in read_fields(message) if number == LENGTH and isinstance(value, int)]
    return values[0] if values and 0 < values[0] <= LARGEST_LENGTH else None


def _message(value: Union[int, memoryview]) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message must be")
    return value
