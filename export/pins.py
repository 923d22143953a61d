"""Which layers of a network keep FP32 while the rest may run in FP16 or INT8, and which may run in INT8.

The rule. Pinned to FP32 are

1. reductions over more than 4096 elements;
2. softmax, reductions, element-wise layers, activations and unary functions that read and write small tensors alone, of
   at most two planes of H x W elements: the norms of a pixel, the Gram matrices of the attention and their
   normalisation, squeeze-excite;
3. what turns frames into planes and back, which must be exact to a grey level.

Why. FP16 ends at 65504 and has eleven bits: a running sum stops growing after some thousand terms, and an epsilon of
1e-12 is zero. The square root, the quotient and the exponential of a small tensor multiply what was lost before. Small
tensors cost nothing in FP32. A tensor of C x H x W does: each one that a pin makes FP32 is written and read at twice
its size, and often converted before and after, 0.3 ms a time on a Xavier. So none is pinned but where a long sum reads
it. The deploy form of the student has no such sum, and is safe in FP16 by itself (``irvis.export.deploy``): the pins
are the second lock, and ``--no-pins``, which leaves the third point alone, measures their cost.

Layers of whole numbers and truth values (Shape, Gather and the arithmetic of shapes) are left alone.
"""

import math
from typing import Any, Iterator, Set, Tuple

LONGEST_SUM = 4096  # terms that FP16 may add up
SMALL_PLANES = 2  # of H x W elements, in a tensor that still counts as small


def pin_to_fp32(trt: Any, network: Any, size: Tuple[int, int], parsed: int, sensitive: bool = True) -> Set[int]:
    """Pin the layers that the rule above names to FP32; give their indices.

    Args:
        trt: the module ``tensorrt``.
        network: a ``trt.INetworkDefinition`` of fixed size.
        size: (H, W) of the frames.
        parsed: how many of its layers come from the ONNX; those after them turn frames into planes and back.
        sensitive: whether the rule's first two points hold.
    """
    pinned = set()
    for index, layer in enumerate(layers_of(network)):
        if computes_in_float(trt, layer) if index >= parsed else sensitive and is_sensitive(trt, layer, size):
            layer.precision = trt.DataType.FLOAT
            for output in range(layer.num_outputs):
                layer.set_output_type(output, trt.DataType.FLOAT)
            pinned.add(index)
    return pinned


def is_sensitive(trt: Any, layer: Any, size: Tuple[int, int]) -> bool:
    """Tell whether the first two points of the rule name a layer."""
    sensitive = (
        trt.LayerType.SOFTMAX,
        trt.LayerType.REDUCE,
        trt.LayerType.ELEMENTWISE,
        trt.LayerType.UNARY,
        trt.LayerType.ACTIVATION,
    )
    if layer.type not in sensitive or not computes_in_float(trt, layer):
        return False
    inputs, outputs = map(layer.get_input, range(layer.num_inputs)), map(layer.get_output, range(layer.num_outputs))
    elements = [_elements(tensor) for tensor in (*inputs, *outputs)]
    if min(elements) < 0:
        return False
    if layer.type == trt.LayerType.REDUCE and elements[0] > LONGEST_SUM * elements[-1]:
        return True
    return max(elements) <= SMALL_PLANES * size[0] * size[1]


def hold_all_but_convolutions(trt: Any, network: Any, dtype: Any, pinned: Set[int]) -> int:
    """Hold every layer that INT8 must not touch, all but convolutions, to ``dtype``; give their number.

    Args:
        trt: the module ``tensorrt``.
        network: a ``trt.INetworkDefinition``.
        dtype: ``trt.DataType.HALF`` or ``FLOAT``.
        pinned: indices of the layers that have a precision already.
    """
    held = [
        layer
        for index, layer in enumerate(layers_of(network))
        if layer.type != trt.LayerType.CONVOLUTION and index not in pinned and computes_in_float(trt, layer)
    ]
    for layer in held:
        layer.precision = dtype
    return len(held)


def layers_of(network: Any) -> Iterator[Any]:
    """Give each layer of a network."""
    return map(network.get_layer, range(network.num_layers))


def computes_in_float(trt: Any, layer: Any) -> bool:
    """Tell whether a layer turns floating values into floating values: no constant, cast or arithmetic of shapes."""
    if layer.num_inputs == 0:
        return False
    tensors = [layer.get_input(0), *map(layer.get_output, range(layer.num_outputs))]
    kinds = (trt.DataType.FLOAT, trt.DataType.HALF)
    return all(tensor.dtype in kinds and not tensor.is_shape_tensor for tensor in tensors)


def _elements(tensor: Any) -> int:
    """Give the number of elements; -1 where TensorRT does not know it before the build."""
    try:
        shape = tuple(tensor.shape)
    except ValueError:  # how TensorRT says that not even the rank is known
        return -1
    return -1 if any(length < 0 for length in shape) else math.prod(shape)
