"""The CPU of this machine under ONNX Runtime: its peaks, the kernels that a graph becomes, and the time of each.

ONNX Runtime itself reports what runs: its profile names each kernel and the shapes it ran on, and its optimised graph
shows which of the model's operators a kernel stands for. Reorders to and from the blocked layout of convolutions are
separate kernels, attributed to the group of the convolution that they serve. Times, like peaks, are the best of the
rounds.
"""

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from irvis.benchmarks.machine.board import read_board
from irvis.benchmarks.roofline.devices import CPU, Device
from irvis.benchmarks.roofline.work import (
    MATRIX,
    TRANSCENDENTAL,
    TRANSCENDENTALS,
    VECTOR,
    Work,
    convolution_kind,
    reduction_kind,
)
from irvis.export.fused_groups import COPIES, FREE, POINTWISE, Kernel
from irvis.runtime.errors import ModelError
from irvis.runtime.providers import CPU_ONLY, FATAL

LARGE, SMALL = (1, 64, 480, 640), (1, 8, 240, 320)  # beyond any cache, and within most
CHAIN = 300  # kernels that do next to nothing
# A peak takes milliseconds and a graph a second: with more runs both are exposed to other load for as long.
PEAK_RUNS = 10
ITEMSIZES = {"float": 4, "double": 8, "int64": 8, "int32": 4, "bool": 1, "int8": 1, "uint8": 1, "float16": 2}
# What ONNX Runtime loops over row by row, at a hundredth of its speed if the last axis is under SHORT.
BY_ROWS, SHORT = frozenset(("pointwise", "softmax", "reduction", "reduction over channels")), 8
PROFILED = "_kernel_time"
BLOCKED = "_nchwc"  # suffix of the name of a convolution in the blocked layout
CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")


class Ran(NamedTuple):
    """A graph's kernels on this machine, the best time of each, and the best time of a whole run."""

    works: List[Work]
    latencies_ms: List[float]
    whole_ms: float


def measure_cpu(threads: int, rounds: int) -> Device:
    """Measure this machine's peaks with operators of ONNX Runtime: the best of ``PEAK_RUNS`` runs per round."""
    rounds *= PEAK_RUNS
    large = 4 * math.prod(LARGE)
    dram = max(
        2 * large / _best_s([("Relu", 1)], LARGE, threads, rounds),
        3 * large / _best_s([("Add", 2)], LARGE, threads, rounds),
    )
    cache = 2 * 4 * math.prod(SMALL) / _best_s([("Relu", 1)], SMALL, threads, 5 * rounds)
    overhead_us = 1e6 * _best_s([("Neg", 1)] * CHAIN, (1, 8), threads, rounds) / CHAIN
    flops = _convolution_flops(threads, rounds)
    peak = {MATRIX: flops / 1e12, VECTOR: flops / 1e12}
    return Device(
        CPU,
        f"{read_board().cpu}, {threads} threads, ONNX Runtime {onnxruntime.__version__}",
        "onnxruntime",
        dram / 1e9,
        _cache_mb(),
        max(cache, dram) / 1e9,
        (overhead_us, overhead_us, overhead_us),
        {"fp32": peak},
    )


def run_here(model: onnx.ModelProto, kernels: Sequence[Kernel], threads: int, rounds: int) -> Ran:
    """Run a model from ``fix_shapes``; return its kernels, assigned to the groups ``kernels``, and their times.

    Raises ModelError if ONNX Runtime cannot open it.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = _options(threads)
        options.optimized_model_filepath = str(optimised)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=CPU_ONLY)
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot open this graph: {error}") from error
        draw = np.random.default_rng(0)
        feeds = {each.name: draw.random(each.shape, np.float32) for each in session.get_inputs()}
        whole_s = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            session.run(None, feeds)
            whole_s.append(time.perf_counter() - start)
        events = json.loads(Path(session.end_profiling()).read_text())
        groups = _Groups(onnx.load(optimised), kernels)
    return Ran(*_kernels(events, groups), 1e3 * min(whole_s[1:]))


def _kernels(events: List[Dict[str, Any]], groups: "_Groups") -> Tuple[List[Work], List[float]]:
    """Return the profile's kernels in the order of execution, and the best time of each."""
    best_us: Dict[str, float] = {}
    arguments: Dict[str, Dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(PROFILED):
            name = event["name"][: -len(PROFILED)]
            best_us[name] = min(best_us.get(name, math.inf), event["dur"])
            arguments[name] = event["args"]
    works = [_work(name, found, groups) for name, found in arguments.items()]
    return works, [us / 1e3 for us in best_us.values()]


def _work(name: str, found: Dict[str, Any], groups: "_Groups") -> Work:
    inputs, outputs = (_tensors(found[side]) for side in ("input_type_shape", "output_type_shape"))
    read, written = (tuple(itemsize * math.prod(shape) for itemsize, shape in side) for side in (inputs, outputs))
    shape = outputs[0][1] if outputs else ()
    elements, operator = math.prod(shape), found["op_name"]
    operations, kind = float(elements), "other"
    if operator in ("Conv", "FusedConv"):
        weight = inputs[1][1]
        kind, operations = convolution_kind(weight, inputs[0][1][1]), 2.0 * elements * math.prod(weight[1:])
    elif operator in ("MatMul", "FusedMatMul", "Gemm", "FusedGemm"):
        kind, operations = "matmul", 2.0 * elements * groups.summed_length(name, inputs[0][1])
    elif operator.startswith("Reduce") or operator in ("GlobalAveragePool", "LayerNormalization"):
        whole = inputs[0][1]
        kind, operations = reduction_kind(whole, shape), float(math.prod(whole))
    elif operator.startswith("Reorder"):
        kind = "reorder"
    elif operator in TRANSCENDENTALS:
        kind = "softmax" if operator == "Softmax" else "transcendental"
        operations = float(TRANSCENDENTAL * elements)
    elif operator in POINTWISE:
        kind = "pointwise"
    elif operator in FREE:
        kind, read, written, operations = "view", (), (), 0.0
    elif operator in COPIES:
        kind, read = "copy", (min(sum(read), sum(written)),)
    unit = MATRIX if "convolution" in kind or kind == "matmul" else VECTOR
    if kind in BY_ROWS and len(shape) and shape[-1] < SHORT <= elements:
        kind += ", short rows"
    return Work(name, kind, read, written, operations, unit, "fp32", groups.of(name))


def _tensors(found: List[Dict[str, List[int]]]) -> List[Tuple[int, Tuple[int, ...]]]:
    """Return (bytes per element, shape) of each tensor in the profile."""
    return [(ITEMSIZES.get(kind, 4), tuple(shape)) for tensor in found for kind, shape in tensor.items()]


class _Groups:
    """The group that each kernel of the optimised graph belongs to.

    A kernel belongs to a group if it has the name of one of the group's operators or tensors, or outputs such a tensor.
    Otherwise, as for a reorder, it belongs to the group of the kernel that uses its output.
    """

    def __init__(self, optimised: onnx.ModelProto, kernels: Sequence[Kernel]) -> None:
        self.group = {}
        for index, kernel in enumerate(kernels):
            for node in kernel.nodes:
                self.group.update({name: index for name in (node.name, *node.output) if name})
        self.nodes = {node.name: node for node in optimised.graph.node}
        self.users: Dict[str, onnx.NodeProto] = {}
        for node in reversed(optimised.graph.node):
            self.users.update(dict.fromkeys(node.input, node))

    def of(self, name: str) -> Optional[int]:
        """Return the group's index; None for a kernel that only changes a tensor's view, or of no group."""
        node: Optional[onnx.NodeProto] = self.nodes[name]
        if node is not None and node.op_type in FREE:
            return None
        while node is not None:
            plain = node.name[: -len(BLOCKED)] if node.name.endswith(BLOCKED) else node.name
            known = [self.group[each] for each in (plain, *node.output) if each in self.group]
            if known:
                return known[0]
            node = next((self.users[each] for each in node.output if each in self.users), None)
        return None

    def summed_length(self, name: str, shape: Sequence[int]) -> int:
        """Return the length that a matrix product sums over, given the shape of its first factor."""
        flags = {item.name for item in self.nodes[name].attribute if item.name.startswith("trans") and item.i}
        if "transA" not in flags:
            return shape[-1]
        return shape[0 if "transBatchA" in flags else -2]


def _best_s(chain: Sequence[Tuple[str, int]], shape: Sequence[int], threads: int, rounds: int) -> float:
    """Return the best time of a chain of operators, each given as type and number of inputs, all of one shape."""
    nodes = [
        helper.make_node(kind, [f"t{index}", "other"][:count], [f"t{index + 1}"])
        for index, (kind, count) in enumerate(chain)
    ]
    names = ["t0"] + ["other"] * (chain[0][1] - 1)
    return min(_times_s(nodes, dict.fromkeys(names, shape), (f"t{len(chain)}", shape), [], threads, rounds))


def _convolution_flops(threads: int, rounds: int) -> float:
    channels, height, width = 64, 120, 160
    weight = numpy_helper.from_array(np.ones((channels, channels, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["t0", "w"], ["t1"], pads=[1, 1, 1, 1])
    shape = (1, channels, height, width)
    best_s = min(_times_s([node], {"t0": shape}, ("t1", shape), [weight], threads, rounds))
    return 2 * 9 * channels * math.prod(shape) / best_s


def _times_s(
    nodes: List[onnx.NodeProto],
    inputs: Dict[str, Sequence[int]],
    output: Tuple[str, Sequence[int]],
    weights: List[onnx.TensorProto],
    threads: int,
    rounds: int,
) -> Iterator[float]:
    def describe(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    described = [describe(*each) for each in inputs.items()]
    graph = helper.make_graph(nodes, "peak", described, [describe(*output)], initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), _options(threads), providers=CPU_ONLY)
    # Bound, so that no run gets fresh memory: the time that the system takes to zero it would be measured too.
    binding, held = session.io_binding(), np.zeros(output[1], np.float32)
    feeds = {name: np.ones(shape, np.float32) for name, shape in inputs.items()}
    for name, tensor in feeds.items():
        binding.bind_cpu_input(name, tensor)
    binding.bind_output(output[0], "cpu", 0, np.float32, held.shape, held.ctypes.data)
    for _ in range(rounds + 1):
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        yield time.perf_counter() - start


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = FATAL
    return options


def _cache_mb() -> float:
    """Return the size of the last-level cache, or 0 if the system does not report it."""
    try:
        return float(CACHE.read_text().strip().rstrip("K")) * 1024 / 1e6
    except (OSError, ValueError):
        return 0.0
