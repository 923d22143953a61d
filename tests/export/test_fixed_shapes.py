import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper

from irvis.export import fixed_shapes
from irvis.export.fixed_shapes import drop_unused, fix_shapes, load_planes_onnx
from irvis.runtime.errors import FileError, ModelError


def model(nodes, shape, outputs=("out",), kind=TensorProto.FLOAT, weights=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
        initializer=list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def flattened_back():
    """x (1, 4, H, W) -> (1, 4, H W) -> back, its sizes read from x as an exporter traces them."""
    integers = {"one": [1], "two": [2], "four": [4], "rest": [-1]}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "two"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["flat_shape"], axis=0),
        helper.make_node("Reshape", ["x", "flat_shape"], ["flat"]),
        helper.make_node("Relu", ["flat"], ["relu"]),
        helper.make_node("Shape", ["relu"], ["flat_again"]),
        helper.make_node("Gather", ["flat_again", "two"], ["area"], axis=0),
        helper.make_node("Reshape", ["relu", "shape"], ["out"]),
    ]
    weights = [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in integers.items()]
    weights.append(helper.make_tensor("zero", TensorProto.INT64, [1], [0]))
    return model(nodes, ["n", 4, "h", "w"], ("out", "area_out"), weights=weights), nodes


def test_chains_of_shapes_are_computed():
    dynamic, _ = flattened_back()
    dynamic.graph.node.append(helper.make_node("Cast", ["area"], ["area_out"], to=TensorProto.FLOAT))
    before = dynamic.SerializeToString()
    fixed, shapes = fix_shapes(dynamic, (30, 50))
    assert [node.op_type for node in fixed.graph.node] == ["Reshape", "Relu", "Reshape"]
    assert (shapes["flat"], shapes["out"]) == ((1, 4, 1500), (1, 4, 30, 50))
    constants = {weight.name: onnx.numpy_helper.to_array(weight).tolist() for weight in fixed.graph.initializer}
    assert constants["area"] == [1500]
    assert constants["area_out"] == [1500.0]
    assert dynamic.SerializeToString() == before


def test_constants_that_no_operator_reads_are_dropped():
    dynamic, _ = flattened_back()
    fixed, _ = fix_shapes(dynamic, (30, 50))
    kept = fix_shapes(dynamic, (30, 50))[0]
    drop_unused(kept.graph)
    read = {name for node in kept.graph.node for name in node.input}
    assert {weight.name for weight in kept.graph.initializer} == read - {"x"} - {
        name for node in kept.graph.node for name in node.output
    }
    assert len(kept.graph.initializer) < len(fixed.graph.initializer)
    kept.graph.output[1].name = "unread"  # but is a result
    kept.graph.initializer.append(helper.make_tensor("unread", TensorProto.FLOAT, [1], [1.0]))
    drop_unused(kept.graph)
    assert kept.graph.initializer[-1].name == "unread"


def test_a_part_of_a_shape_is_computed():
    nodes = [helper.make_node("Shape", ["x"], ["sides"], start=-2), helper.make_node("Relu", ["x"], ["out"])]
    newer = model(nodes, [1, 1, "h", "w"])
    newer.opset_import[0].version = 15
    fixed, _ = fix_shapes(newer, (30, 50))
    assert [onnx.numpy_helper.to_array(weight).tolist() for weight in fixed.graph.initializer] == [[30, 50]]


def test_the_size_is_the_models_own_or_the_default():
    relu = [helper.make_node("Relu", ["x"], ["out"])]
    assert fix_shapes(model(relu, [1, 2, 20, 24]))[1]["out"] == (1, 2, 20, 24)
    assert fix_shapes(model(relu, [1, 2, 20, 24]), (20, 24))[1]["out"] == (1, 2, 20, 24)
    assert fix_shapes(model(relu, [1, 2, "h", "w"]))[1]["out"] == (1, 2, 480, 640)


def test_another_size_than_the_models_is_refused():
    fixed = model([helper.make_node("Relu", ["x"], ["out"])], [1, 2, 20, 24])
    with pytest.raises(ModelError, match=r"fixed to 20x24, not 16x24; irvis export --size 16x24"):
        fix_shapes(fixed, (16, 24))


def test_shapes_that_depend_on_pixels_are_refused():
    nodes = [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Cast", ["where"], ["out"], to=1)]
    with pytest.raises(ModelError, match=r"the shape of where \(NonZero\)"):
        fix_shapes(model(nodes, [1, 1, 16, 16]))


def test_shapes_that_do_not_fit_are_refused():
    six = helper.make_tensor("six", TensorProto.FLOAT, [6], [0.0] * 6)
    with pytest.raises(ModelError, match="cannot infer the shapes"):
        fix_shapes(model([helper.make_node("Add", ["x", "six"], ["out"])], [1, 1, 16, 16], weights=[six]))


def test_a_loop_over_constants_is_not_run():
    """It would never end."""
    kinds = ("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("v", TensorProto.FLOAT, [1])
    outputs = ("on", TensorProto.BOOL, []), ("w", TensorProto.FLOAT, [1])
    inside = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["w"])]
    body = helper.make_graph(
        inside, "body", *([helper.make_tensor_value_info(*v) for v in vs] for vs in (kinds, outputs))
    )
    nodes = [
        helper.make_node("Loop", ["most", "yes", "one"], ["last"], body=body),
        helper.make_node("Mul", ["x", "last"], ["out"]),
    ]
    weights = [
        helper.make_tensor("most", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    with pytest.raises(ModelError, match=r"the shape of last \(Loop\) depends on more"):
        fix_shapes(model(nodes, [1, 1, 16, 16], weights=weights))


def test_a_constant_of_any_size_is_not_made():
    sides = helper.make_tensor("sides", TensorProto.INT64, [2], [10**6, 10**6])
    nodes = [
        helper.make_node("ConstantOfShape", ["sides"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["out"]),
    ]
    with pytest.raises(ModelError, match=r"the constants up to huge \(ConstantOfShape\) have 1000000000000 elements"):
        fix_shapes(model(nodes, [1, 1, 16, 16], weights=[sides]))


def integers(name, *values):
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("Mul", ["side", "side"], ["area"]),
            helper.make_node("Range", ["zero", "area", "one"], ["huge"]),
        ],
        [
            helper.make_node("Compress", ["most", "yes"], ["some"]),
            helper.make_node("ConstantOfShape", ["some"], ["huge"]),
        ],
        [
            helper.make_node("NonZero", ["pair"], ["places"]),
            helper.make_node("Squeeze", ["places", "first"], ["place"]),
            helper.make_node("Mul", ["place", "most"], ["length"]),
            helper.make_node("ConstantOfShape", ["length"], ["huge"]),
        ],
        [helper.make_node("ConstantOfShape", ["much"], [f"c{index}"]) for index in range(4)],
    ],
    ids=["range", "selected", "places", "many"],
)
def test_nor_one_whose_size_is_computed_nor_many_together(nodes):
    """Files of some hundred bytes, each of which asks for 2^28 elements."""
    scalars = (("side", 1 << 14), ("zero", 0), ("one", 1))
    weights = [helper.make_tensor(name, TensorProto.INT64, [], [value]) for name, value in scalars]
    weights += [integers("most", 1 << 28), integers("much", 1 << 26), integers("pair", 0, 1), integers("first", 0)]
    weights.append(helper.make_tensor("yes", TensorProto.BOOL, [1], [True]))
    with pytest.raises(ModelError, match=r"the constants up to \w+ \(\w+\) have \d+ elements"):
        fix_shapes(model([*nodes, helper.make_node("Relu", ["x"], ["out"])], [1, 1, 16, 16], weights=weights))


def test_nor_many_one_after_the_other(monkeypatch):
    monkeypatch.setattr(fixed_shapes, "LARGEST_CONSTANT", 8)
    nodes = [helper.make_node("ConstantOfShape", ["six"], ["zeros"]), helper.make_node("Neg", ["zeros"], ["more"])]
    nodes.append(helper.make_node("Relu", ["x"], ["out"]))
    with pytest.raises(ModelError, match=r"the constants up to more \(Neg\) have 6 elements"):
        fix_shapes(model(nodes, [1, 1, 16, 16], weights=[integers("six", 6)]))


@pytest.mark.parametrize("shape", [[1, "c", 16, 16], [1, 0, 16, 16], [1, 1, -16, 16]])
def test_an_input_must_have_channels_and_sides(shape):
    with pytest.raises(ModelError, match="input x must have a number of channels, and sides of 1 or more"):
        fix_shapes(model([helper.make_node("Relu", ["x"], ["out"])], shape))


def test_what_is_no_onnx_of_planes_is_refused(tmp_path):
    path = tmp_path / "x.onnx"
    with pytest.raises(FileError, match="ONNX not found"):
        load_planes_onnx(path)
    no_text = model([helper.make_node("Relu", ["x"], ["out"])], [1, 1, 16, 16]).SerializeToString()
    for content in (b"", b"no protobuf", no_text.replace(b"out", b"o\x90t"), no_text.replace(b"Relu", b"Rel\x90")):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not an ONNX"):
            load_planes_onnx(path)
    cast = [helper.make_node("Cast", ["x"], ["out"], to=TensorProto.FLOAT)]
    plane, frame = [1, 1, 16, 16], [16, 16]
    for shape, kind in ((frame, TensorProto.UINT8), (frame, TensorProto.FLOAT), (plane, TensorProto.UINT8)):
        path.write_bytes(model(cast, shape, kind=kind).SerializeToString())
        with pytest.raises(ModelError, match="input x is not float32"):
            load_planes_onnx(path)
