from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from irvis.export.onnx_wire import fix_shape, input_shape, is_onnx, own_size, read_fields
from irvis.runtime.shipped import SHIPPED_MODEL

SHIPPED = SHIPPED_MODEL.read_bytes()


@pytest.mark.parametrize("name", ["infrared", "visible"])
def test_what_is_dynamic_is_none(name: str) -> None:
    assert input_shape(SHIPPED, name) == [1, 1, None, None]


def test_an_input_that_is_not_there() -> None:
    assert input_shape(SHIPPED, "depth") is None


@pytest.mark.parametrize("size", [(48, 64), (480, 640)])
def test_shapes_are_those_that_onnx_reads(tmp_path: Path, size: "tuple[int, int]") -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(SHIPPED)
    for tensor in model.graph.input:
        for dimension, value in zip(tensor.type.tensor_type.shape.dim[2:], size):
            dimension.dim_value = value
    assert input_shape(model.SerializeToString(), "infrared") == [1, 1, *size]


def broken(where: str) -> bytes:
    """The shipped ONNX with a field of no kind at the end of one part."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(SHIPPED)
    graph = model.graph
    mark = b"irvis was here, at the end of it"
    if where == "length":
        graph.input[0].type.tensor_type.shape.dim[-1].denotation = mark.decode()
    else:
        parts = {"graph": graph, "input": graph.input[0], "output": graph.output[0], "node": graph.node[-1]}
        parts[where].doc_string = mark.decode()
    whole = model.SerializeToString()
    assert whole.count(mark) == 1
    # A text becomes one of the same length whose last bytes are read as a field: its length is cut by one.
    at = whole.index(mark)
    return whole[: at - 1] + bytes([len(mark) - 1]) + mark[:-1] + b"\x5b" + whole[at + len(mark) :]


@pytest.mark.parametrize("where", ["graph", "input", "length", "output", "node"])
def test_what_is_broken_anywhere_is_no_onnx(where: str) -> None:
    assert is_onnx(SHIPPED)
    assert not is_onnx(broken(where))


@pytest.mark.parametrize(
    ("part", "field", "number"),
    [("input", "name", 1), ("node", "output", 2), ("node", "name", 3), ("node", "op_type", 4)],
)
def test_a_number_where_a_text_must_be_is_no_onnx(part: str, field: str, number: int) -> None:
    onnx = pytest.importorskip("onnx")
    model, text = onnx.load_from_string(SHIPPED), "eighteen long text"
    first = getattr(model.graph, part)[0]
    if field == "output":
        first.output[0] = text
    else:
        setattr(first, field, text)
    whole = model.SerializeToString()
    written = bytes([number << 3 | 2, len(text)]) + text.encode()
    assert whole.count(written) == 1
    assert not is_onnx(whole.replace(written, bytes([number << 3, 1]) * 10))


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_that_is_none_is_dynamic(length: int) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(SHIPPED)
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = length
    content = model.SerializeToString()
    assert input_shape(content, "infrared") == [1, 1, None, None]
    assert own_size(content, "infrared") is None
    assert own_size(fix_shape(content, "infrared", (1, 1, 24, 32)), "infrared") == (24, 32)


def test_fields_of_each_kind_are_read_and_none_of_them_cut_off() -> None:
    fields = [b"\x08\xac\x02", b"\x11" + b"8 bytes.", b"\x1a\x02ab", b"\x25" + b"4bys"]
    message = b"".join(fields)
    whole = [
        (number, value if isinstance(value, int) else bytes(value))
        for number, value in read_fields(memoryview(message))
    ]
    assert whole == [(1, 300), (2, b"8 bytes."), (3, b"ab"), (4, b"4bys")]
    ends = [sum(map(len, fields[:count])) for count in range(5)]
    for cut in range(len(message)):
        if cut in ends:
            assert len(list(read_fields(memoryview(message[:cut])))) == ends.index(cut)
        else:
            with pytest.raises(ValueError, match="cut off"):
                list(read_fields(memoryview(message[:cut])))


@pytest.mark.parametrize(
    "message",
    [*(bytes([8 | kind, 0, 0, 0, 0]) for kind in (3, 4, 6, 7)), b"\x02\x00", b"\x08" + 10 * b"\x80" + b"\x01"],
    ids=["kind 3", "kind 4", "kind 6", "kind 7", "number 0", "eleven bytes"],
)
def test_what_is_no_field_is_refused_as_onnx_refuses_it(message: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    with pytest.raises(Exception, match="Error parsing message"):
        onnx.load_from_string(message)
    with pytest.raises(ValueError, match=r"no field of kind|cut off"):
        list(read_fields(memoryview(message)))


def test_what_is_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="cut off"):
        input_shape(SHIPPED[:-100], "infrared")


LENGTHS = st.integers(1, 1 << 20)


@example(127, 128)  # the longest of one byte, and the shortest of two
@given(LENGTHS, LENGTHS)
def test_fixed_shapes_are_those_that_onnx_would_write(height: int, width: int) -> None:
    onnx = pytest.importorskip("onnx")
    wanted, fixed = onnx.load_from_string(SHIPPED), SHIPPED
    for tensor in (*wanted.graph.input, *wanted.graph.output):
        fixed = fix_shape(fixed, tensor.name, (1, 1, height, width))
        for dimension, length in zip(tensor.type.tensor_type.shape.dim[2:], (height, width)):
            dimension.dim_value = length
    assert onnx.load_from_string(fixed) == wanted
    assert own_size(fixed, "visible") == (height, width)


def test_a_fixed_onnx_runs_and_gives_what_the_dynamic_gives() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    fixed = SHIPPED
    for name in ("infrared", "visible", "fused"):
        fixed = fix_shape(fixed, name, (1, 1, 24, 32))
    planes = np.random.default_rng(0).random((2, 1, 1, 24, 32), np.float32)
    given = dict(zip(("infrared", "visible"), planes))
    sessions = [onnxruntime.InferenceSession(one, providers=["CPUExecutionProvider"]) for one in (SHIPPED, fixed)]
    assert [tensor.shape for tensor in sessions[1].get_inputs()] == [[1, 1, 24, 32]] * 2
    wanted, found = (session.run(None, given)[0] for session in sessions)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_what_is_fixed_or_of_another_rank_or_not_there_stays() -> None:
    fixed = fix_shape(SHIPPED, "infrared", (1, 1, 24, 32))
    assert fix_shape(fixed, "infrared", (1, 1, 48, 64)) == fixed
    assert fix_shape(SHIPPED, "infrared", (24, 32)) == SHIPPED
    assert fix_shape(SHIPPED, "depth", (1, 1, 24, 32)) == SHIPPED
    assert own_size(SHIPPED, "infrared") is None
    assert own_size(SHIPPED, "depth") is None


def test_no_graph_or_two_are_no_onnx() -> None:
    assert not is_onnx(b"")
    assert not is_onnx(SHIPPED + SHIPPED)
    assert not is_onnx(b"\x3a\x00")  # a graph without nodes


@pytest.mark.parametrize("fixed", [2, 3])
def test_an_input_of_one_fixed_side_has_no_size(fixed: int) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(SHIPPED)
    model.graph.input[0].type.tensor_type.shape.dim[fixed].dim_value = 24
    assert own_size(model.SerializeToString(), "infrared") is None


def test_the_size_of_an_input_of_rank_2_and_of_rank_1() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(SHIPPED)
    lengths = model.graph.input[0].type.tensor_type.shape.dim
    del lengths[2:]
    lengths[1].dim_value = 7
    assert own_size(model.SerializeToString(), "infrared") == (1, 7)
    del lengths[1:]
    assert own_size(model.SerializeToString(), "infrared") is None


def test_a_length_that_is_a_text_is_dynamic() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(SHIPPED)
    model.graph.input[0].type.tensor_type.shape.dim[2].denotation = "a denotation"
    content = model.SerializeToString()
    assert content.count(b"\x1a\x0ca denotation") == 1
    as_value = content.replace(b"\x1a\x0ca denotation", b"\x0a\x0ca denotation")
    assert is_onnx(as_value)
    assert input_shape(as_value, "infrared") == [1, 1, None, None]
