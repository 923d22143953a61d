import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper

from irvis.export.check_onnx import find_obstacles

AXES = helper.make_tensor("axes", TensorProto.INT64, [1], [1])


def value(name, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, ["n", "c"])


def model_of(*nodes, opset=13, ir_version=8, domains=()):
    graph = helper.make_graph(list(nodes), "graph", [value("x")], [value("y")], [AXES])
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def node(kind, name="culprit", inputs=("x",), output="y", **attributes):
    return helper.make_node(kind, list(inputs), [output], name=name, **attributes)


RELU = node("Relu", "innocent", output="z")


@pytest.mark.parametrize("kind", ["LayerNormalization", "Gelu", "GroupNormalization", "Hardmax", "ReduceRoot"])
def test_operators_without_an_importer_are_named(kind):
    obstacles = find_obstacles(model_of(RELU, node(kind)))
    assert obstacles == [f"node culprit ({kind}): the parser has no importer for it"]


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceSumSquare"])
def test_a_reduction_with_its_axes_as_an_input_is_named(kind):
    (obstacle,) = find_obstacles(model_of(RELU, node(kind, inputs=["x", "axes"])))
    assert obstacle.startswith(f"node culprit ({kind}): its axes are an input")


def test_reductions_that_the_parser_reads_rightly_are_taken():
    whole = node("ReduceMax", "whole", output="v")
    by_attribute = node("ReduceMean", "by_attribute", output="w", axes=[1])
    by_input = node("ReduceSum", "by_input", ["x", "axes"])
    assert find_obstacles(model_of(whole, by_attribute, by_input)) == []


def test_an_ellipsis_in_an_einsum_is_named():
    assert find_obstacles(model_of(node("Einsum", equation="bij,bjk->bik", inputs=["x", "x"]))) == []
    (obstacle,) = find_obstacles(model_of(RELU, node("Einsum", equation="...ij,...jk->...ik", inputs=["x", "x"])))
    assert obstacle == "node culprit (Einsum): its equation ...ij,...jk->...ik has an ellipsis"


def test_a_foreign_domain_is_named_even_where_the_operator_sounds_known():
    model = model_of(RELU, node("Relu", domain="com.microsoft"), domains=["com.microsoft"])
    assert find_obstacles(model) == ["node culprit (Relu): its domain com.microsoft is unknown to the parser"]


def test_the_default_domain_may_be_spelt_out():
    assert find_obstacles(model_of(node("Relu", domain="ai.onnx"))) == []


def test_nodes_inside_branches_and_loops_are_named():
    def branch(*nodes):
        return helper.make_graph(list(nodes), "branch", [], [value("b")])

    inner = node("If", "inner", then_branch=branch(node("Gelu", output="b")), else_branch=branch(RELU), output="b")
    outer = node("If", "outer", then_branch=branch(RELU), else_branch=branch(inner))
    assert find_obstacles(model_of(outer)) == ["node culprit (Gelu): the parser has no importer for it"]


def test_a_node_without_a_name_is_named_by_its_output():
    (obstacle,) = find_obstacles(model_of(node("Gelu", name="")))
    assert obstacle.startswith("node y (Gelu)")


def test_every_obstacle_is_given():
    model = model_of(node("Gelu", "first", output="z"), node("LayerNormalization", "second", ["z"]))
    assert [obstacle.split()[1] for obstacle in find_obstacles(model)] == ["first", "second"]


@pytest.mark.parametrize(("opset", "fit"), [(13, True), (17, True), (18, False)])
def test_the_opset_is_bounded(opset, fit):
    obstacles = find_obstacles(model_of(RELU, opset=opset))
    assert obstacles == ([] if fit else ["opset 18 of ai.onnx: the parser knows 17 at most"])


@pytest.mark.parametrize(("ir_version", "fit"), [(7, True), (8, True), (9, False)])
def test_the_ir_version_is_bounded(ir_version, fit):
    obstacles = find_obstacles(model_of(RELU, ir_version=ir_version))
    assert obstacles == ([] if fit else ["IR version 9: the parser knows 8 at most"])


def test_the_newer_exporters_graph_is_refused():
    """What torch's other exporter gives for a mean over channels: opset 18, where axes are an input."""
    model = model_of(node("ReduceMean", inputs=["x", "axes"]), opset=18, ir_version=10)
    onnx.checker.check_model(model)
    assert len(find_obstacles(model)) == 3
