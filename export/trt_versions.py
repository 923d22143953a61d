"""Handles every difference between the TensorRT versions that build_engine.py meets, 8.5 to 11.

From 10 on, the batch is always explicit. 11 takes every precision from the ONNX, and has no precision flags, no
``layer.precision`` and no calibrators. Each feature is detected by its attribute, never by a version number.
"""

from typing import Any, List, Optional

from irvis.export.onnx_wire import node_label
from irvis.runtime.errors import one_line


def network_flags(trt: Any) -> int:
    """Return the flags of ``create_network``: an explicit batch dimension, the only kind from TensorRT 10 on."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def allow(trt: Any, builder: Any, config: Any, precision: str) -> Optional[str]:
    """Allow layers in "fp16" or "int8", or return the reason why not: the GPU gains nothing, or TensorRT is 11."""
    if precision == "int8" and not hasattr(trt, "IInt8EntropyCalibrator2"):
        return f"TensorRT {trt.__version__} has no calibrator"
    flag = getattr(trt.BuilderFlag, precision.upper(), None)
    if flag is None:
        return f"TensorRT {trt.__version__} takes precisions from the ONNX alone"
    if not getattr(builder, f"platform_has_fast_{precision}", True):
        return f"this GPU gains nothing from {precision.upper()}"
    config.set_flag(flag)
    return None


def forbid_tf32(trt: Any, config: Any) -> None:
    """Make FP32 mean FP32: from Ampere on, TensorRT rounds factors to ten bits by default."""
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)


def takes_constraints(trt: Any) -> bool:
    """Return whether single layers can be held to a precision."""
    return hasattr(trt.ILayer, "precision") and hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS")


def set_constraints(trt: Any, config: Any, how: str) -> None:
    """Make the layers' precisions mandatory (``how`` is "obey": a build that cannot fails) or preferred ("prefer")."""
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
    """Make the engine keep the types, formats and tactics of its layers, not only their names."""
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def add_cast(network: Any, tensor: Any, dtype: Any) -> Any:
    """Add and return a layer that changes a tensor's type; in 8.5, an identity with another output type."""
    add = getattr(network, "add_cast", None)
    if add is not None:
        return add(tensor, dtype)
    layer = network.add_identity(tensor)
    layer.set_output_type(0, dtype)
    return layer


def parser_errors(parser: Any, model: bytes) -> List[str]:
    """Return a line for each error of the parser, with the node, of which TensorRT 8.5 only gives the index.

    Args:
        parser: a ``trt.OnnxParser`` that has failed.
        model: the ONNX that it was given.
    """
    lines = []
    for error in map(parser.get_error, range(parser.num_errors)):
        code = str(error.code()).split(".")[-1]  # not .name, which is a method in TensorRT 8.5's ErrorCode
        lines.append(f"{node_label(model, error.node())}: {one_line(error.desc())} ({code} in {error.func()})")
    return lines
