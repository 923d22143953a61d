"""What differs between the versions of TensorRT that build_engine.py meets, 8.5 to 11, and nowhere else."""

from typing import Any, List

from irvis.export.onnx_wire import node_label
from irvis.runtime.errors import ModelError, one_line


def network_flags(trt: Any) -> int:
    """Give the flags of ``create_network``: an explicit batch dimension, which is all there is from TensorRT 10."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def allow_fp16(trt: Any, builder: Any, config: Any) -> bool:
    """Let layers run in FP16; give False where the GPU gains nothing from it, and nothing was set.

    Raises ModelError for TensorRT 11, which takes every precision from the ONNX.
    """
    flag = getattr(trt.BuilderFlag, "FP16", None)
    if flag is None:
        raise ModelError(f"TensorRT {trt.__version__} builds what the ONNX says, and this one is FP32; give --fp32")
    if not getattr(builder, "platform_has_fast_fp16", True):
        return False
    config.set_flag(flag)
    return True


def forbid_tf32(trt: Any, config: Any) -> None:
    """Make FP32 mean FP32: from Ampere on, TensorRT rounds the factors to ten bits unless told otherwise."""
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)


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
