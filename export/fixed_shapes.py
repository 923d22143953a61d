"""Fixes an ONNX to one frame size: infers every shape, and computes what depends only on shapes and weights."""

import copy
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from irvis.runtime.errors import ModelError, one_line
from irvis.runtime.files import read_bytes
from irvis.runtime.onnx_checks import check_names, refuse_external_data
from irvis.runtime.sizes import DEFAULT_SIZE, format_size

Shapes = Dict[str, Tuple[int, ...]]

LARGEST_CONSTANT = 1 << 26  # elements of all computed constants; a node of a few bytes can ask for any number
SELECTIONS = frozenset(("Compress", "NonZero", "Unique"))  # of unknown length, but no longer than their inputs


def attribute_of(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute, or ``default`` if it has none of that name."""
    return next((onnx.helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def frame_inputs(model: onnx.ModelProto) -> List[onnx.ValueInfoProto]:
    """Return the graph's inputs, without the weights, which before IR version 4 are among them."""
    weights = {weight.name for weight in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def load_planes_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX whose inputs are planes, float32 (1, C, H, W). Raises ModelError for others, and FileError."""
    content = read_bytes(path, "ONNX")
    refuse_external_data(content, path)
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
        check_names(model.graph)
    except Exception as error:  # protobuf's, the checker's, and Python's for names that are not text
        raise ModelError(f"not an ONNX: {path}: {one_line(error, 150)}") from error
    if not frame_inputs(model):
        raise ModelError(f"{path} has no input")
    for value in frame_inputs(model):
        tensor = value.type.tensor_type
        if tensor.elem_type != onnx.TensorProto.FLOAT or len(tensor.shape.dim) != 4:
            raise ModelError(
                f"{path}: input {value.name} is not float32 (1, C, H, W); give an ONNX of planes, exported without "
                "--frames"
            )
    return model


def fix_shapes(model: onnx.ModelProto, size: Optional[Tuple[int, int]] = None) -> Tuple[onnx.ModelProto, Shapes]:
    """Return the model at one size, and the shape of each of its tensors.

    What depends only on shapes and weights becomes a constant.

    Args:
        model: a model of planes; it is not modified.
        size: (H, W); None takes the size that the model is fixed to, or 480x640 if it takes any.

    Raises ModelError if the model is fixed to another size, or a shape depends on the pixels.
    """
    fixed = copy.deepcopy(model)
    del fixed.graph.value_info[:]  # shapes at the size that the model was traced with
    _fix_inputs(fixed, size)
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    shapes, left = _infer_shapes(fixed), LARGEST_CONSTANT
    while True:
        folded = _fold(fixed, shapes, left)
        if folded is None:
            break
        shapes, left = _infer_shapes(fixed), left - folded
    for node in fixed.graph.node:
        for name in node.output:
            if name and name not in shapes:
                raise ModelError(f"the shape of {name} ({node.op_type}) depends on more than the frame's size")
    for value in fixed.graph.output:
        if value.name in shapes:
            for length in shapes[value.name]:
                value.type.tensor_type.shape.dim.add(dim_value=length)
    return fixed, shapes


def _fix_inputs(model: onnx.ModelProto, size: Optional[Tuple[int, int]]) -> None:
    for value in frame_inputs(model):
        dims = value.type.tensor_type.shape.dim
        height, width = size or DEFAULT_SIZE
        for dim, wanted in zip(dims, (1, None, height, width)):
            if wanted is not None and not dim.HasField("dim_value"):
                dim.dim_value = wanted
        if any(dim.dim_value < 1 for dim in dims):
            raise ModelError(f"input {value.name} must have a number of channels, and sides of 1 or more")
        found = [dim.dim_value for dim in dims[2:]]
        if size and found != [*size]:
            raise ModelError(
                f"this ONNX is fixed to {format_size(found)}, not {format_size(size)}; irvis export --size "
                f"{format_size(size)} makes one of that size, --dynamic one of any size"
            )


def _infer_shapes(model: onnx.ModelProto) -> Shapes:
    """Return all shapes that follow from those of the inputs. Raises ModelError."""
    if model.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        raise ModelError("this ONNX and its constants are larger than the 2 GiB that a protobuf may have")
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"cannot infer the shapes of this ONNX: {one_line(error)}") from error
    shapes: Shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    return shapes


def _fold(model: onnx.ModelProto, shapes: Shapes, left: int) -> Optional[int]:
    """Replace each node whose result is known by a constant; return their number of elements, None if there are none.

    Results that become known through such a constant are left for the next call, when their shapes have been inferred.
    Raises ModelError for more than ``left`` elements.
    """
    constants = {weight.name: weight for weight in model.graph.initializer}
    kept = []
    elements = 0
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            shape = shapes[node.input[0]]
            start, end = attribute_of(node, "start", 0), attribute_of(node, "end", len(shape))
            results: Sequence[np.ndarray] = [np.array(shape[start:end], np.int64)]
        elif _is_constant(node, constants, shapes):
            asked = elements + sum(math.prod(shapes.get(name, ())) for name in node.output)
            if asked > left:
                raise ModelError(f"the constants up to {node.output[0]} ({node.op_type}) have {asked} elements or more")
            results = _compute(node, constants, model.opset_import)
        else:
            kept.append(node)
            continue
        for name, result in zip(node.output, results):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(result), name))
            elements += np.size(result)
    if len(kept) == len(model.graph.node):
        return None
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return elements


def _is_constant(node: onnx.NodeProto, constants: Dict[str, onnx.TensorProto], shapes: Shapes) -> bool:
    """Return whether a node's result, and a bound of its size, are known beforehand."""
    if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
        return False  # a loop, which may never end
    if not all(name in constants for name in node.input if name):
        return False
    return node.op_type in SELECTIONS or all(name in shapes for name in node.output if name)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop constants that were only used to compute other constants; ONNX Runtime would warn about each."""
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in graph.node for attribute in node.attribute):
        return  # a subgraph may use any of them
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _compute(
    node: onnx.NodeProto, constants: Dict[str, onnx.TensorProto], opsets: Sequence[onnx.OperatorSetIdProto]
) -> List[np.ndarray]:
    inputs = [constants[name] for name in dict.fromkeys(node.input) if name]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = onnx.helper.make_graph([node], "constant", [], outputs, initializer=inputs)
    try:
        return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, {})
    except Exception as error:  # whatever the operator's own code raises
        raise ModelError(f"cannot compute the constant {node.output[0]} ({node.op_type}): {one_line(error)}") from error
