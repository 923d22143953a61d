"""Which layers of a network keep FP32, which are held to FP16, and which may run in INT8.

The rule. Pinned to FP32 are

1. reductions over more than 4096 elements, and reductions of matrix products of at most eight planes of H x W elements,
   such as the mean of the rows' Gram matrices, which count as small or not depending on the width of the frame;
2. softmax, reductions, element-wise layers, activations, unary functions and convolutions that only read and write
   small tensors, of at most two planes of H x W elements: the norms of a pixel, the Gram matrices of the attention and
   their normalisation, squeeze-excite;
3. the layers that turn frames into planes and back, which must be exact to a grey level.

The second point has one exception: element-wise layers that lead from a tensor that is not pinned, or from an
activation, to a large element-wise layer, such as LayerNorm's 1/sigma and squeeze-excite's sigmoid. TensorRT merges
those into the large one, where they cost nothing. A pin keeps them separate, with a conversion before and after, and
keeps the large ones separate too: squeeze-excite's product and the sum behind it were one kernel when the sigmoid was
not pinned, and two when it was. Unlike a root or a quotient, an activation has a slope of at most 1, so FP16's error in
its argument does not grow.

Why. FP16 ends at 65504 and has eleven bits: a running sum stops growing after some thousand terms, and an epsilon of
1e-12 is zero. The square root, the quotient and the exponential of a small tensor amplify earlier errors. Small tensors
cost nothing in FP32. A tensor of C x H x W does: each one that a pin makes FP32 is written and read at twice its size,
and often converted before and after (19.7 MB, read and written at a Xavier's 136.5 GB/s: 0.3 ms). So a large tensor is
pinned only where a long sum reads it. The student's deploy form has no such sum, and is safe in FP16 without pins
(``irvis.export.deploy``): the pins are a second safeguard, and ``--no-pins``, which keeps the third point, measures
their cost.

In an FP16 engine every other layer that reads or writes a large tensor is held to FP16 (``hold_large_to``). If it is
left free, TensorRT times it in FP32 too, with each conversion, which was about half of a build (TensorRT 8.5.2, H200).
TensorRT also merges a convolution with the pinned layer behind it into one in FP32, which reads 32 planes of twice the
size: LayerNorm's sum of squares with the conversions before and after it took 0.62 of 5.1 ms, and alone in FP16 a fifth
of its own time. Layers that only touch small tensors are not held to FP16: a convolution of one pixel in FP16, merged
with a pinned ReLU, has no kernel.

In an INT8 engine only convolutions run in INT8 (``may_be_int8``), but not the first two and the last three, whose
errors reach the image undamped, nor those that write a small tensor, such as LayerNorm's sums, where INT8 saves little.
``irvis int8`` measures the effect of the rule on a CPU; docs/deploy.md has the results.

Layers of whole numbers and truth values (Shape, Gather and the arithmetic of shapes) are left alone.
"""

import math
from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

LONGEST_SUM = 4096  # terms that FP16 may add up
SMALL_PLANES = 2  # of H x W elements, in a tensor that still counts as small
PRODUCT_PLANES = 8  # of the same, in a matrix product whose reduction is pinned
FIRST, LAST = 2, 3  # convolutions that INT8 must not touch, in the order of the graph


def pin_to_fp32(trt: Any, network: Any, size: Tuple[int, int], parsed: int, sensitive: bool = True) -> Set[int]:
    """Pin the layers that the rule above names to FP32; return their indices.

    Args:
        trt: the module ``tensorrt``.
        network: a ``trt.INetworkDefinition`` of fixed size.
        size: (H, W) of the frames.
        parsed: how many of its layers come from the ONNX; the later ones turn frames into planes and back.
        sensitive: whether the rule's first two points apply.
    """
    layers = list(layers_of(network))
    mergeable = _ending_in_a_large_one(trt, layers, size)
    pinned: Set[int] = set()
    from_pinned: Set[str] = set()  # tensors that pinned layers write
    products: Set[str] = set()  # tensors that matrix products write
    for index, layer in enumerate(layers):
        read, written = _read_by(layer), _written_by(layer)
        if layer.type == trt.LayerType.MATRIX_MULTIPLY:
            products |= written
        if index >= parsed:
            pin = computes_in_float(trt, layer)
        else:
            spared = index in mergeable and (layer.type == trt.LayerType.ACTIVATION or not from_pinned & read)
            pin = sensitive and not spared and is_sensitive(trt, layer, size, bool(products & read))
        if pin:
            layer.precision = trt.DataType.FLOAT
            for output in range(layer.num_outputs):
                layer.set_output_type(output, trt.DataType.FLOAT)
            pinned.add(index)
            from_pinned |= written
    return pinned


def is_sensitive(trt: Any, layer: Any, size: Tuple[int, int], of_product: bool) -> bool:
    """Return whether the rule's first two points name a layer; ``of_product``: it reads a matrix product."""
    sensitive = (
        trt.LayerType.SOFTMAX,
        trt.LayerType.REDUCE,
        trt.LayerType.ELEMENTWISE,
        trt.LayerType.UNARY,
        trt.LayerType.ACTIVATION,
        trt.LayerType.CONVOLUTION,
    )
    if layer.type not in sensitive or not computes_in_float(trt, layer):
        return False
    if layer.type != trt.LayerType.REDUCE:
        return _is_small(layer, size)
    elements = _elements(layer)
    is_long = elements[0] > LONGEST_SUM * elements[-1] > 0
    return is_long or _is_small(layer, size, PRODUCT_PLANES if of_product else SMALL_PLANES)


def hold_large_to(trt: Any, network: Any, dtype: Any, size: Tuple[int, int], pinned: Set[int]) -> int:
    """Hold every layer that reads or writes a large tensor to ``dtype``, with its outputs; return their number.

    Args:
        trt: the module ``tensorrt``.
        network: a ``trt.INetworkDefinition`` of fixed size.
        dtype: ``trt.DataType.HALF``.
        size: (H, W) of the frames.
        pinned: indices of the layers that have a precision already.

    The network's outputs keep their type.
    """
    given = {network.get_output(index).name for index in range(network.num_outputs)}
    held = 0
    for index, layer in enumerate(layers_of(network)):
        if index not in pinned and computes_in_float(trt, layer) and not _is_small(layer, size):
            layer.precision = dtype
            for output in range(layer.num_outputs):
                if layer.get_output(output).name not in given:
                    layer.set_output_type(output, dtype)
            held += 1
    return held


def may_be_int8(written: Sequence[int], size: Tuple[int, int]) -> List[bool]:
    """Return for each convolution whether INT8 may run it.

    Args:
        written: how many elements each one writes, in the order of the graph.
        size: (H, W) of the frames.
    """
    inner = range(FIRST, len(written) - LAST)
    return [index in inner and elements > SMALL_PLANES * size[0] * size[1] for index, elements in enumerate(written)]


def int8_convolutions(graph: Any, shapes: Dict[str, Tuple[int, ...]]) -> Set[str]:
    """Return the outputs of the convolutions of an ONNX that INT8 may run.

    Args:
        graph: an ``onnx.GraphProto`` of planes.
        shapes: the shapes of all its tensors, as ``fix_shapes`` returns them.
    """
    height, width = shapes[graph.input[0].name][2:]
    outputs = [node.output[0] for node in graph.node if node.op_type == "Conv"]
    allowed = may_be_int8([math.prod(shapes[name]) for name in outputs], (height, width))
    return {name for name, may in zip(outputs, allowed) if may}


def hold_all_but_int8(trt: Any, network: Any, dtype: Any, size: Tuple[int, int], pinned: Set[int]) -> int:
    """Hold every layer that INT8 must not touch to ``dtype``; return their number.

    Args:
        trt: the module ``tensorrt``.
        network: a ``trt.INetworkDefinition`` of fixed size.
        dtype: ``trt.DataType.HALF`` or ``FLOAT``.
        size: (H, W) of the frames.
        pinned: indices of the layers that have a precision already.
    """
    layers = list(layers_of(network))
    convolutions = [index for index, layer in enumerate(layers) if layer.type == trt.LayerType.CONVOLUTION]
    allowed = may_be_int8([_length(layers[index].get_output(0)) for index in convolutions], size)
    free = {index for index, may in zip(convolutions, allowed) if may}
    held = [
        layer
        for index, layer in enumerate(layers)
        if index not in free and index not in pinned and computes_in_float(trt, layer)
    ]
    for layer in held:
        layer.precision = dtype
    return len(held)


def _ending_in_a_large_one(trt: Any, layers: Sequence[Any], size: Tuple[int, int]) -> Set[int]:
    """Return the indices of small element-wise layers that are only read by large ones, or by other such small ones."""
    elementwise = (trt.LayerType.ELEMENTWISE, trt.LayerType.UNARY, trt.LayerType.ACTIVATION)
    read_by_others: Set[str] = set()  # tensors
    read_by_mergers: Set[str] = set()
    found = set()
    for index in reversed(range(len(layers))):
        layer = layers[index]
        outputs = _written_by(layer)
        merges = layer.type in elementwise and computes_in_float(trt, layer)
        if merges and _is_small(layer, size):
            merges = outputs <= read_by_mergers and not outputs & read_by_others
            if merges:
                found.add(index)
        (read_by_mergers if merges else read_by_others).update(_read_by(layer))
    return found


def _inputs(layer: Any) -> List[Any]:
    inputs = map(layer.get_input, range(layer.num_inputs))
    return [tensor for tensor in inputs if tensor is not None]  # None: an optional input that is not given


def _outputs(layer: Any) -> List[Any]:
    return list(map(layer.get_output, range(layer.num_outputs)))


def _read_by(layer: Any) -> Set[str]:
    return {tensor.name for tensor in _inputs(layer)}


def _written_by(layer: Any) -> Set[str]:
    return {tensor.name for tensor in _outputs(layer)}


def layers_of(network: Any) -> Iterator[Any]:
    """Iterate over the layers of a network."""
    return map(network.get_layer, range(network.num_layers))


def computes_in_float(trt: Any, layer: Any) -> bool:
    """Return whether a layer turns floating values into floating values: no constant, cast or arithmetic of shapes."""
    if layer.num_inputs == 0:
        return False
    tensors = [layer.get_input(0), *_outputs(layer)]
    kinds = (trt.DataType.FLOAT, trt.DataType.HALF)
    return all(tensor.dtype in kinds and not tensor.is_shape_tensor for tensor in tensors)


def _is_small(layer: Any, size: Tuple[int, int], planes: int = SMALL_PLANES) -> bool:
    """Return whether a layer only reads and writes small tensors; False if TensorRT does not know that yet."""
    elements = _elements(layer)
    return min(elements) >= 0 and max(elements) <= planes * size[0] * size[1]


def _elements(layer: Any) -> List[int]:
    """Return the number of elements of each input and output; -1 if TensorRT does not know it before the build."""
    return [_length(tensor) for tensor in (*_inputs(layer), *_outputs(layer))]


def _length(tensor: Any) -> int:
    try:
        shape = tuple(tensor.shape)
    except ValueError:  # raised by TensorRT if not even the rank is known
        return -1
    return -1 if any(length < 0 for length in shape) else math.prod(shape)
