import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper

from irvis.benchmarks.roofline import cpu
from irvis.benchmarks.roofline.cpu import measure_cpu, run_here
from irvis.benchmarks.roofline.work import MATRIX
from irvis.export.fixed_shapes import fix_shapes
from irvis.export.fused_groups import fused_kernels

SIZE = (32, 48)
TENSOR = 4 * 32 * 32 * 48  # bytes, FP32


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def weight(name, *shape, kind=TensorProto.FLOAT, values=None):
    count = 1
    for length in shape:
        count *= length
    return helper.make_tensor(name, kind, shape, values or [0.1] * count)


def ran(nodes, weights=()):
    """Return {group's operators: its kernels} and the run."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, *SIZE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        initializer=list(weights),
    )
    model, shapes = fix_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    kernels = fused_kernels(model, shapes)
    found = run_here(model, kernels, threads=1, rounds=2)
    groups = {
        " ".join(each.name for each in kernel.nodes): [work for work in found.works if work.group == index]
        for index, kernel in enumerate(kernels)
    }
    return groups, found


W1, W3 = weight("w1", 32, 32, 1, 1), weight("w3", 32, 1, 3, 3)
GELU = [
    node("Div", "b root", "g1"),
    node("Erf", "g1", "g2"),
    node("Add", "g2 one", "g3"),
    node("Mul", "b g3", "g4"),
    node("Mul", "g4 half", "g5"),
]
SCALARS = [weight("root", values=[2**0.5]), weight("one", values=[1.0]), weight("half", values=[0.5])]


def test_kernels_come_to_the_groups_of_their_operators():
    """Reorders, a convolution's activation and gelu, which ONNX Runtime fuses, among them."""
    nodes = [
        node("Mul", "x x", "square"),
        node("Conv", "square w1", "a", kernel_shape=[1, 1]),
        node("LeakyRelu", "a", "leaky"),
        node("Conv", "leaky w3", "b", kernel_shape=[3, 3], pads=[1] * 4, group=32),
        *GELU,
        node("ReduceMean", "g5", "out", axes=[2, 3]),
    ]
    groups, found = ran(nodes, [W1, W3, *SCALARS])
    assert all(work.group is not None for work in found.works)
    assert [work.kind for work in groups["square"]] == ["pointwise"]
    dense = next(work for work in groups["a leaky"] if work.kind == "1x1 convolution")
    assert (dense.operations, dense.unit) == (2 * 32 * 32 * 32 * 48, MATRIX)
    assert sum(dense.written_bytes) == TENSOR
    assert {work.kind for work in groups["a leaky"]} <= {"1x1 convolution", "reorder", "pointwise"}
    deep = next(work for work in groups["b"] if work.kind == "depthwise convolution")
    assert deep.operations == 2 * 9 * 32 * 32 * 48
    (reduction,) = [works for name, works in groups.items() if name.endswith("out")]
    assert any(work.kind == "transcendental" and work.bytes == 2 * TENSOR for work in reduction)
    assert len(found.latencies_ms) == len(found.works)
    assert 0.02 * found.whole_ms < sum(found.latencies_ms) <= found.whole_ms  # each the best of the runs


def test_a_transposed_product_sums_over_the_same_length():
    """G_y = x_y x_y^T over each row y, as the deploy form has it; ONNX Runtime fuses the transpositions away."""
    axes = weight("axes", 1, kind=TensorProto.INT64, values=[0])
    nodes = [
        node("Squeeze", "x axes", "s"),
        node("Transpose", "s", "t1", perm=[1, 0, 2]),
        node("Transpose", "s", "t2", perm=[1, 2, 0]),
        node("MatMul", "t1 t2", "out"),
    ]
    groups, found = ran(nodes, [axes])
    (product,) = [work for work in groups["out"] if work.kind == "matmul"]
    assert product.operations == 2 * 32 * (32 * 32 * 48)
    assert [work.group for work in found.works if work.kind == "view"] == [None]


def test_a_product_whose_first_factor_is_transposed_sums_over_its_rows():
    groups, _ = ran([node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "t x", "out")])
    (product,) = [work for work in groups["out"] if work.kind == "matmul"]
    assert product.operations == 2 * 32 * (32 * 48 * 48)


def test_copies_and_reductions_over_channels():
    halves = weight("halves", 2, kind=TensorProto.INT64, values=[16, 16])
    split = helper.make_node("Split", ["x", "halves"], ["p", "q"], name="p", axis=1)
    groups, _ = ran([split, node("Concat", "q p", "c", axis=1), node("ReduceMean", "c", "out", axes=[1])], [halves])
    assert [(work.kind, work.bytes) for work in groups["c"]] == [("copy", 2 * TENSOR)]
    assert [work.kind for work in groups["out"]] == ["reduction over channels"]


def test_rows_of_few_elements_are_a_kind_of_their_own():
    """ONNX Runtime's loops over rows are a hundred times slower there."""
    shape = weight("shape", 2, kind=TensorProto.INT64, values=[-1, 2])
    two = weight("two", 2)
    nodes = [node("Reshape", "x shape", "r"), node("Mul", "r two", "m"), node("Softmax", "m", "out", axis=1)]
    _, found = ran(nodes, [shape, two])
    kinds = [work.kind for work in found.works]
    assert kinds == ["view", "pointwise, short rows", "softmax, short rows"]


def test_the_peaks_are_of_what_is_moved_and_computed_in_the_best_time(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "_times_s", lambda *_: iter([2.0, 1e-3, 3.0]))
    monkeypatch.setattr(cpu, "CACHE", tmp_path / "size")
    cpu.CACHE.write_text("32768K\n")
    found = measure_cpu(threads=1, rounds=1)
    assert found.dram_gb_per_s == pytest.approx(3 * 4 * 64 * 480 * 640 / 1e6)  # of a sum: two tensors in, one out
    assert found.tflops["fp32"]["matrix"] == pytest.approx(2 * 9 * 64 * 64 * 120 * 160 / 1e9)
    assert found.overhead_us[1] == pytest.approx(1e3 / 300)
    assert found.cache_mb == pytest.approx(33.554432)


def test_the_peaks_of_this_machine():
    found = measure_cpu(threads=1, rounds=1)
    assert found.runtime == "onnxruntime"
    assert 0.5 < found.dram_gb_per_s < 1000
    assert found.cache_gb_per_s >= found.dram_gb_per_s
    assert 1e-3 < found.tflops["fp32"]["matrix"] < 20
    assert 0.01 < found.overhead_us[1] < 1000
