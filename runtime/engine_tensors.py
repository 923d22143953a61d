"""The inputs and output of an engine: frames or planes, distinguished by the types and ranks of its tensors."""

from pathlib import Path
from typing import Any, Dict, NamedTuple, Tuple

import numpy as np

from irvis.runtime.errors import ModelError

INPUTS = ("infrared", "visible")
OUTPUT = "fused"


class Signature(NamedTuple):
    """What an engine takes and returns."""

    size: Tuple[int, int]  # (H, W)
    takes_frames: bool

    @property
    def dtype(self) -> Any:
        """The numpy type of every tensor."""
        return np.uint8 if self.takes_frames else np.float32

    @property
    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Name -> the shape of its buffer: (H, W), or (H, W, 3) for a frame in colour."""
        colour = (*self.size, 3) if self.takes_frames else self.size
        return {"infrared": self.size, "visible": colour, OUTPUT: colour}


def check_tensors(trt: Any, engine: Any, path: Path) -> Signature:
    """Return what the engine takes and returns. Raises ModelError if that is neither three planes nor frames."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    found = {name: (dtype_name(engine.get_tensor_dtype(name)), tuple(engine.get_tensor_shape(name))) for name in names}
    if sorted(inputs) == sorted(INPUTS) and sorted(names) == sorted((*INPUTS, OUTPUT)):
        shape = found["infrared"][1]
        if len(shape) in (2, 4) and min(shape) > 0:
            signature = Signature((shape[-2], shape[-1]), takes_frames=len(shape) == 2)
            dtype, lead = ("uint8", ()) if signature.takes_frames else ("float32", (1, 1))
            if found == {name: (dtype, (*lead, *shape)) for name, shape in signature.shapes.items()}:
                return signature
    shown = ", ".join(
        f"{name} ({'in' if name in inputs else 'out'}) {dtype} {shape}" for name, (dtype, shape) in found.items()
    )
    raise ModelError(
        f"{path} must take infrared and visible and give fused, as frames, uint8 (H, W), (H, W, 3) and (H, W, 3), or "
        f"as planes, float32 (1, 1, H, W) each. Got {shown}; build it with build_engine.py from an ONNX that "
        "`irvis export` made"
    )


def dtype_name(dtype: Any) -> str:
    """``trt.DataType.FLOAT`` -> ``"float32"``, as numpy names it."""
    name = dtype.name.lower()
    return {"float": "float32", "half": "float16"}.get(name, name)
