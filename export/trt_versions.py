"""What differs between the versions of TensorRT that build_engine.py meets, 8.5 to 11, and nowhere else.

From 10 an explicit batch is all there is; 11 takes every precision from the ONNX, and has neither the flags of
precisions, nor ``layer.precision``, nor calibrators. Each is asked for by ``hasattr``, none by a version number.
"""

from typing import Any, List, Optional

from irvis.export.onnx_wire import node_label
from irvis.runtime.errors import one_line


def network_flags(trt: Any) -> int:
    """Give the flags of ``create_network``: an explicit batch dimension, which is all there is from TensorRT 10."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def allow_fp16(trt: Any, builder: Any, config: Any) -> Optional[str]:
    """Let layers run in FP16, or give the reason why not: the GPU gains nothing, or TensorRT 11."""
    flag = getattr(trt.BuilderFlag, "FP16", None)
    if flag is None:
        return f"TensorRT {trt.__version__} takes precisions from the ONNX alone"
    if not getattr(builder, "platform_has_fast_fp16", True):
        return "this GPU gains nothing from FP16"
    config.set_flag(flag)
    return None


def allow_int8(trt: Any, builder: Any, config: Any) -> Optional[str]:
    """Let layers run in INT8, or give the reason why not: the GPU gains nothing, or TensorRT 11."""
    flag = getattr(trt.BuilderFlag, "INT8", None)
    if flag is None or not hasattr(trt, "IInt8EntropyCalibrator2"):
        return f"TensorRT {trt.__version__} has no calibrator"
    if not getattr(builder, "platform_has_fast_int8", True):
        return "this GPU gains nothing from INT8"
    config.set_flag(flag)
    return None


def forbid_tf32(trt: Any, config: Any) -> None:
    """Make FP32 mean FP32: from Ampere on, TensorRT rounds the factors to ten bits unless told otherwise."""
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)


def takes_constraints(trt: Any) -> bool:
    """Tell whether single layers can be held to a precision."""
    return hasattr(trt.ILayer, "precision") and hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS")


def set_constraints(trt: Any, config: Any, how: str) -> None:
    """Make the layers' precisions an order (``how`` is "obey", and a build that cannot fails) or a wish ("prefer")."""
    flags = {
        "obey": trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS,
        "prefer": trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS,
    }
    for name, flag in flags.items():
        if name == how:
            config.set_flag(flag)
        else:
            config.clear_flag(flag)


def keep_layer_details(trt: Any, config: Any) -> None:
    """Have the engine tell the types, formats and tactics of its layers, and not their names alone."""
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def add_cast(network: Any, tensor: Any, dtype: Any) -> Any:
    """Add a layer that changes the type of a tensor, and give it; 8.5 has none but an identity with another output."""
    add = getattr(network, "add_cast", None)
    if add is not None:
        return add(tensor, dtype)
    layer = network.add_identity(tensor)
    layer.set_output_type(0, dtype)
    return layer


def parser_errors(parser: Any, model: bytes) -> List[str]:
    """Give a line for each thing that the parser took offence at, with the node; TensorRT 8.5 tells only its index.

    Args:
        parser: a ``trt.OnnxParser`` that has failed.
        model: what it was given.
    """
    lines = []
    for error in map(parser.get_error, range(parser.num_errors)):
        code = str(error.code()).split(".")[-1]  # not .name, which is a method in TensorRT 8.5's ErrorCode
        lines.append(f"{node_label(model, error.node())}: {one_line(error.desc())} ({code} in {error.func()})")
    return lines
