"""Parses an ONNX of irvis into a TensorRT network of one fixed size, which takes planes or frames.

The size is fixed in the ONNX, before TensorRT parses it. If it is set in the parsed network instead, as the shapes of
its inputs, TensorRT 8.5.2 fails on the frames' layers with an internal assertion (``checkSanity``), seen on an H200.
"""

from typing import Any, Dict, NamedTuple, Optional, Tuple

from irvis.export.frames_layers import add_frames
from irvis.export.onnx_wire import fix_shape, own_size
from irvis.export.trt_versions import network_flags, parser_errors
from irvis.runtime.engine_tensors import INPUTS, OUTPUT, dtype_name
from irvis.runtime.errors import ModelError
from irvis.runtime.sidecar import TensorSpecs
from irvis.runtime.sizes import DEFAULT_SIZE, format_size
from irvis.runtime.tensorrt_messages import TensorRTErrors


class Network(NamedTuple):
    """A parsed network; keep all of it until the build is over, since the parser owns the weights."""

    definition: Any  # trt.INetworkDefinition
    parser: Any  # trt.OnnxParser
    size: Tuple[int, int]  # (H, W) of the frames
    parsed: int  # layers that come from the ONNX; the later ones turn frames into planes and back


def make_network(
    trt: Any,
    builder: Any,
    logger: Any,
    errors: TensorRTErrors,
    model: bytes,
    name: str,
    size: Optional[Tuple[int, int]],
    frames: bool,
) -> Network:
    """Fix an ONNX's size and parse it; with ``frames``, make it take and return uint8 frames.

    Args:
        trt: the module ``tensorrt``.
        builder: a ``trt.Builder``.
        logger: its logger.
        errors: collects the messages of that logger.
        model: the content of the ONNX.
        name: what to call it in an error.
        size: (H, W); None takes the ONNX's own, or 480x640 if that is dynamic.
        frames: whether the engine takes and returns frames.

    Raises ModelError if TensorRT cannot parse the ONNX, or if it is not a fusion model or has another size.
    """
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    size, model = fix_size(model, size)
    if not parser.parse(model, name):
        reasons = "; ".join(parser_errors(parser, model)) or str(errors)
        raise ModelError(f"TensorRT {trt.__version__} cannot take {name}: {reasons}")
    check_planes(trt, network, name, size)
    parsed = network.num_layers
    if frames:
        add_frames(trt, network, size)
    return Network(network, parser, size, parsed)


def tensor_specs(size: Tuple[int, int], frames: bool) -> Tuple[TensorSpecs, TensorSpecs]:
    """Return the sidecar's description of the inputs and the output of an engine of this size."""
    plane: Dict[str, Any] = {"shape": [1, 1, *size], "dtype": "float32"}
    if not frames:
        return dict.fromkeys(INPUTS, plane), {OUTPUT: plane}
    grey, colour = ({"shape": shape, "dtype": "uint8"} for shape in ([*size], [*size, 3]))
    return {"infrared": grey, "visible": colour}, {OUTPUT: colour}


def fix_size(model: bytes, wanted: Optional[Tuple[int, int]]) -> Tuple[Tuple[int, int], bytes]:
    """Return the size (H, W), ``wanted`` or the ONNX's own or 480x640, and the ONNX with dynamic sizes set to it."""
    try:
        own = [size for size in (own_size(model, name) for name in INPUTS) if size]
        size = wanted or (own[0] if own else DEFAULT_SIZE)
        for name in (*INPUTS, OUTPUT):
            model = fix_shape(model, name, (1, 1, *size))
    except ValueError:  # corrupt in a part not read so far: the parser says how
        return wanted or DEFAULT_SIZE, model
    return size, model


def check_planes(trt: Any, network: Any, name: str, size: Tuple[int, int]) -> None:
    """Raise ModelError if a network does not take and return planes of this size (H, W)."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if (
        sorted(tensor.name for tensor in inputs) != sorted(INPUTS)
        or [tensor.name for tensor in outputs] != [OUTPUT]
        or any(tensor.dtype != trt.DataType.FLOAT for tensor in inputs + outputs)
        or any(len(shape) != 4 or shape[:2] != (1, 1) for shape in shapes)
    ):
        found = ", ".join(
            f"{dtype_name(tensor.dtype)} {tensor.name} {tuple(tensor.shape)}" for tensor in inputs + outputs
        )
        raise ModelError(
            f"{name} must take infrared and visible and give fused, each float32 (1, 1, H, W). Got {found}; "
            "make one with `irvis export`, without --frames"
        )
    for tensor, shape in zip(inputs, shapes):
        if shape[2:] != size:
            raise ModelError(
                f"{name} only takes {tensor.name} of {format_size(shape[2:])}, not of {format_size(size)}: make one "
                f"with `irvis export CHECKPOINT --size {format_size(size)}`, or give an ONNX of --dynamic size"
            )
    if any(own not in (-1, asked) for own, asked in zip(outputs[0].shape, (1, 1, *size))):  # -1: known once built
        raise ModelError(f"{name} returns {tuple(outputs[0].shape)} for frames of {format_size(size)}, not their size")
