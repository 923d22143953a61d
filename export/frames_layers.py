"""Frames in, frames out, inside the engine: the runtime's own pre- and post-processing as layers of a TensorRT network.

    Y = floor((1868 B + 9617 G + 4899 R) / 16384 + 1/2)    OpenCV's luminance, BT.601
    fused = clip(visible + (round(255 network(infrared / 255, Y / 255)) - Y), 0, 255)    for each of B, G and R

The layers are added through the network API, since the ONNX parser of TensorRT 8.5 may not accept uint8. Frames keep
the cameras' layout, (H, W, 3), throughout, so nothing is transposed. Before the division by 255 and after the rounding,
all values are whole numbers below 2^24, or 2^-14 times such numbers, which float32 holds exactly and FP16 and TF32 do
not: hence the pins, and hence products and a sum instead of a convolution.
"""

from typing import Any, List, Tuple

import numpy as np

from irvis.export.trt_versions import add_cast
from irvis.runtime.engine_tensors import INPUTS, OUTPUT

# TensorRT reads the constants while it builds, so they live as long as the module.
LUMINANCE = np.array([1868, 9617, 4899], np.float32).reshape(1, 1, 3) / np.float32(16384)  # of B, G, R
HALF = np.full((1, 1), 0.5, np.float32)
LEVELS = np.full((1, 1, 1, 1), 255, np.float32)


def add_frames(trt: Any, network: Any, size: Tuple[int, int]) -> None:
    """Turn a network of planes into one of frames, in place.

    Args:
        trt: the module ``tensorrt``.
        network: a ``trt.INetworkDefinition`` with inputs ``infrared`` and ``visible`` and output ``fused``, float32
            (1, 1, H, W) each. Afterwards the inputs are uint8 (H, W) and BGR (H, W, 3), the output BGR (H, W, 3).
        size: (H, W).

    The new layers come after all existing ones; those that compute must be pinned to FP32 (``irvis.export.pins``).
    Those that cast and reshape only handle whole numbers up to 255, which FP16 holds too.
    """
    parsed = [network.get_layer(index) for index in range(network.num_layers)]
    planes = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
    fused = network.get_output(0)
    for tensor in (*planes.values(), fused):
        tensor.name += "_plane"  # the frames take over the names
    network.unmark_output(fused)
    layers = _Layers(trt, network, size)
    infrared, visible = (
        layers.cast(network.add_input(name, trt.uint8, shape), trt.float32, f"{name} to float32")
        for name, shape in zip(INPUTS, (size, (*size, 3)))
    )
    y = layers.luminance(visible)
    for name, levels in zip(INPUTS, (layers.reshape(infrared, (1, 1, *size)), y)):
        unit = layers.elementwise(levels, trt.ElementWiseOperation.DIV, layers.constant(LEVELS), f"{name} to unit")
        _rewire(parsed, planes[name], unit)
        network.remove_tensor(planes[name])
    frame = layers.cast(layers.recolour(visible, y, fused), trt.uint8, "fused to uint8")
    frame.name = OUTPUT
    network.mark_output(frame)
    if frame.dtype != trt.uint8:  # as the ONNX parser does for its outputs; the default is float32
        frame.dtype = trt.uint8


def _rewire(layers: List[Any], old: Any, new: Any) -> None:
    """Make every layer that reads ``old`` read ``new``."""
    for layer in layers:
        for index in range(layer.num_inputs):
            tensor = layer.get_input(index)
            if tensor is not None and tensor.name == old.name:  # None: an optional input that is not given
                layer.set_input(index, new)


class _Layers:
    """Adds layers to a network; each method takes tensors and returns the resulting tensor.

    Levels are whole numbers from 0 to 255 in float32.
    """

    def __init__(self, trt: Any, network: Any, size: Tuple[int, int]) -> None:
        self.trt = trt
        self.network = network
        self.size = size

    def luminance(self, visible: Any) -> Any:
        """BGR levels (H, W, 3) -> Y levels (1, 1, H, W)."""
        trt, network = self.trt, self.network
        products = self.elementwise(visible, trt.ElementWiseOperation.PROD, self.constant(LUMINANCE), "Y's parts")
        total = self._output(network.add_reduce(products, trt.ReduceOperation.SUM, 1 << 2, False), "Y's sum")
        half_up = self.elementwise(total, trt.ElementWiseOperation.SUM, self.constant(HALF), "Y and a half")
        y = self._output(network.add_unary(half_up, trt.UnaryOperation.FLOOR), "Y")
        return self.reshape(y, (1, 1, *self.size))

    def recolour(self, visible: Any, y: Any, fused: Any) -> Any:
        """BGR levels (H, W, 3), Y levels and the fused plane in [0, 1], (1, 1, H, W) each -> BGR levels (H, W, 3)."""
        trt, network = self.trt, self.network
        scaled = self.elementwise(fused, trt.ElementWiseOperation.PROD, self.constant(LEVELS), "fused to levels")
        rounded = self._output(network.add_unary(scaled, trt.UnaryOperation.ROUND), "fused Y")  # half to even
        change = self.elementwise(self.clip(rounded, "fused Y in range"), trt.ElementWiseOperation.SUB, y, "change")
        change = self.reshape(change, (*self.size, 1))
        return self.clip(self.elementwise(visible, trt.ElementWiseOperation.SUM, change, "fused"), "fused in range")

    def clip(self, tensor: Any, name: str) -> Any:
        """Saturate at 0 and 255."""
        activation = self.network.add_activation(tensor, self.trt.ActivationType.CLIP)
        activation.alpha, activation.beta = 0.0, 255.0
        return self._output(activation, name)

    def elementwise(self, first: Any, operation: Any, second: Any, name: str) -> Any:
        """Combine two tensors of equal rank; axes of length 1 are broadcast."""
        return self._output(self.network.add_elementwise(first, second, operation), name)

    def constant(self, values: np.ndarray) -> Any:
        """Add float32 values, which must live until the build is over."""
        return self.network.add_constant(values.shape, values).get_output(0)

    def reshape(self, tensor: Any, shape: Tuple[int, ...]) -> Any:
        """Change the shape; the elements stay the same."""
        shuffle = self.network.add_shuffle(tensor)
        shuffle.reshape_dims = shape
        return shuffle.get_output(0)

    def cast(self, tensor: Any, dtype: Any, name: str) -> Any:
        """Change the type; to uint8 that truncates, and is undefined outside [0, 256)."""
        return self._output(add_cast(self.network, tensor, dtype), name)

    def _output(self, layer: Any, name: str) -> Any:
        layer.name = f"frames: {name}"
        return layer.get_output(0)
