"""Which tensors TensorRT converts from one layout to another in FP16: a model, based on observed engines.

In FP16 a dense convolution needs the channels of a pixel side by side, eight to a vector, while a matrix product, and a
transpose before it, needs each channel as rows. A kernel that accepts both takes the layout of the largest tensor that
it reads. So a tensor is read and written once more on its way from convolutions to products, and once on its way back:
in an attention, q, k and v, and the result. TensorRT 8.5.2's FP16 engines of both shipped students convert these
four and no other large tensor (docs/tensorrt.md). In FP32 convolutions take rows as well, and next to nothing is
converted.
"""

import math
from typing import Dict, List, Optional, Sequence, Tuple

from irvis.export.fixed_shapes import Shapes
from irvis.export.fused_groups import BYTES, Group, Kernel

CONVERSION = "conversion"  # the kind of such a kernel

CHANNELS, ROWS = "channels", "rows"
VECTOR = 8  # channels; fewer do not fill a vector, and count as having no layout


def conversions(kernels: Sequence[Kernel], shapes: Shapes) -> List[Group]:
    """Return the kernels that convert between ``fused_kernels``' kernels; ``nodes`` is the tensor's name."""
    sizes = [(name, BYTES * math.prod(shapes[name])) for name in converted_tensors(kernels, shapes)]
    return [Group(CONVERSION, (name,), size, size) for name, size in sizes]


def converted_tensors(kernels: Sequence[Kernel], shapes: Shapes) -> List[str]:
    """Return the names of tensors that ``fused_kernels``' kernels read in another layout than they were written in."""
    layouts: Dict[str, str] = {}
    converted: Dict[str, None] = {}
    for kernel in _as_they_run(kernels):
        wanted = _wanted(kernel) or _of_largest(kernel, layouts, shapes)
        if wanted:
            converted.update(dict.fromkeys(name for name in kernel.read if layouts.get(name, wanted) != wanted))
            layouts.update({name: wanted for name in kernel.written if not _is_thin(kernel, shapes[name])})
    return list(converted)


def _as_they_run(kernels: Sequence[Kernel]) -> List[Kernel]:
    """Sort kernels so that each comes after those whose results it reads."""
    maker = {name: index for index, kernel in enumerate(kernels) for name in kernel.written}
    ordered: Dict[int, None] = {}
    waiting = list(range(len(kernels)))[::-1]
    while waiting:
        index = waiting[-1]
        before = [maker[name] for name in kernels[index].read if name in maker and maker[name] not in ordered]
        if before:
            waiting += before
        else:
            ordered[waiting.pop()] = None
    return [kernels[index] for index in ordered]


def _wanted(kernel: Kernel) -> Optional[str]:
    if kernel.kind == "dense convolution":
        return CHANNELS
    return ROWS if kernel.kind == "matmul" or any(node.op_type == "Transpose" for node in kernel.nodes) else None


def _of_largest(kernel: Kernel, layouts: Dict[str, str], shapes: Shapes) -> Optional[str]:
    known = [name for name in kernel.read if name in layouts]
    return layouts[max(known, key=lambda name: math.prod(shapes[name]))] if known else None


def _is_thin(kernel: Kernel, shape: Tuple[int, ...]) -> bool:
    return "convolution" in kernel.kind and shape[1] < VECTOR
