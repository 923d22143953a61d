"""Runs an ONNX on a CPU as TensorRT would in INT8: chosen convolutions see rounded inputs and weights.

TensorRT's scheme: an activation has one scale for the whole tensor, weights one for each output channel. Both are
symmetric, x = s q with whole q up to 127. Here s is the greatest magnitude that calibration saw, divided by 127, while
TensorRT's entropy calibrator clips rare values. Sums are exact, as in INT8; the rest stays in FP32, where TensorRT uses
FP16.
"""

import copy
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Iterable, List, Optional, Tuple

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from irvis.export.fixed_shapes import fix_shapes, load_planes_onnx
from irvis.export.pins import int8_convolutions
from irvis.runtime.engine_tensors import INPUTS, OUTPUT
from irvis.runtime.errors import ModelError, one_line
from irvis.runtime.providers import CPU_ONLY, FATAL

Planes = Callable[[Tuple[int, int]], Iterable[np.ndarray]]

LEVELS = 127
RANGE = "irvis/greatest_of/"  # begins the names of what the calibration adds


class Int8Emulation:
    """An ONNX with inputs ``infrared`` and ``visible`` and output ``fused``, float32 (1, 1, H, W), at one size.

    ``convolutions`` are their names, in the order of the graph; ``allowed`` are those that the builder lets be INT8.

    Args:
        model: the ONNX.
        size: (H, W); None takes the size that the ONNX is fixed to, or 480x640.
        planes: returns the pairs to calibrate on, at a size (H, W): float32 (2, H, W) in [0, 1] each.

    Raises FileError, and ModelError if it is not such an ONNX or ONNX Runtime cannot run it.
    """

    def __init__(self, model: Path, size: Optional[Tuple[int, int]], planes: Planes) -> None:
        self._model, shapes = fix_shapes(load_planes_onnx(model), size)
        if sorted(value.name for value in self._model.graph.input) != sorted(INPUTS) or OUTPUT not in shapes:
            raise ModelError(f"{model} must take infrared and visible and give fused; make one with `irvis export`")
        height, width = shapes[INPUTS[0]][2:]
        self.size = (height, width)
        weights = {weight.name for weight in self._model.graph.initializer}
        nodes = [node for node in self._model.graph.node if node.op_type == "Conv" and node.input[1] in weights]
        self._nodes = {node.name or node.output[0]: node for node in nodes}
        self.convolutions = list(self._nodes)
        allowed = int8_convolutions(self._model.graph, shapes)
        self.allowed = [name for name, node in self._nodes.items() if node.output[0] in allowed]
        self._greatest = self._calibrate(planes(self.size))

    def open(self, convolutions: Collection[str]) -> "Int8Session":
        """Return the ONNX with these convolutions in INT8, ready to run."""
        model = copy.deepcopy(self._model)
        graph = model.graph
        weights = {weight.name: weight for weight in graph.initializer}
        rounded: Dict[str, str] = {}
        nodes: List[onnx.NodeProto] = []
        for node in graph.node:
            if (node.name or node.output[0]) in convolutions:
                source, weight = node.input[0], weights[node.input[1]]
                if source not in rounded:
                    rounded[source] = f"{source}/int8"
                    nodes += self._rounding(graph, source, rounded[source])
                name = f"{node.output[0]}/int8_weight"
                graph.initializer.append(numpy_helper.from_array(round_weight(numpy_helper.to_array(weight)), name))
                node.input[0], node.input[1] = rounded[source], name
            nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)
        return Int8Session(model)

    def _rounding(self, graph: onnx.GraphProto, source: str, target: str) -> List[onnx.NodeProto]:
        scale, zero = f"{target}/scale", f"{target}/zero"
        graph.initializer.append(numpy_helper.from_array(np.float32(self._greatest[source] / LEVELS or 1.0), scale))
        graph.initializer.append(numpy_helper.from_array(np.int8(0), zero))
        return [
            helper.make_node("QuantizeLinear", [source, scale, zero], [f"{target}/levels"], f"{target}/quantize"),
            helper.make_node("DequantizeLinear", [f"{target}/levels", scale, zero], [target], f"{target}/dequantize"),
        ]

    def _calibrate(self, planes: Iterable[np.ndarray]) -> Dict[str, float]:
        """Return the greatest magnitude of each convolution's input over the pairs."""
        model = copy.deepcopy(self._model)
        sources = list(dict.fromkeys(node.input[0] for node in self._nodes.values()))
        for source in sources:
            magnitude, greatest = f"{RANGE}{source}/abs", RANGE + source
            model.graph.node.append(helper.make_node("Abs", [source], [magnitude]))
            model.graph.node.append(helper.make_node("ReduceMax", [magnitude], [greatest], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(greatest, onnx.TensorProto.FLOAT, []))
        session = _session(model)
        found = dict.fromkeys(sources, 0.0)
        for pair in planes:
            values = _run(session, [RANGE + source for source in sources], pair)
            found = {source: max(found[source], float(value)) for source, value in zip(sources, values)}
        return found


class Int8Session:
    """Runs one choice of convolutions in INT8: float32 (2, H, W) -> float32 (H, W). Raises ModelError."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session = _session(model)

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """Fuse a pair."""
        return _run(self._session, [OUTPUT], planes)[0][0, 0]


def round_weight(weight: np.ndarray) -> np.ndarray:
    """Return a convolution's weight (O, ...) rounded as in INT8, float32: one scale for each output."""
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(LEVELS)
    scale = np.where(scale > 0, scale, 1).astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
    return (np.rint(weight / scale) * scale).astype(np.float32)


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL  # failures are raised too, and need no second report
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # its own INT8 kernels would round outputs, too
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=CPU_ONLY)
    except Exception as error:  # ONNX Runtime's own types
        raise ModelError(f"ONNX Runtime cannot run this ONNX: {one_line(error, 200)}") from error


def _run(session: Any, outputs: List[str], planes: np.ndarray) -> List[np.ndarray]:
    try:
        found: List[np.ndarray] = session.run(outputs, dict(zip(INPUTS, planes[:, None, None])))
    except Exception as error:  # ONNX Runtime's own types
        raise ModelError(f"ONNX Runtime cannot run this ONNX: {one_line(error, 200)}") from error
    return found
