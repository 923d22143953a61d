"""Frames and planes, told by an engine's tensors, which a stand-in has: none can be made without a GPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import numpy as np
import pytest

from irvis.runtime.engine_tensors import check_tensors
from irvis.runtime.errors import ModelError

SIZE = (48, 64)


class StandIn:
    """What ``check_tensors`` asks of an engine."""

    def __init__(self, **tensors: Tuple[str, Tuple[int, ...]]) -> None:
        self.tensors = tensors
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "out" if name == "fused" else "in"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.tensors[name][0])

    def get_tensor_shape(self, name: str) -> Tuple[int, ...]:
        return self.tensors[name][1]


TRT = SimpleNamespace(TensorIOMode=SimpleNamespace(INPUT="in"))
FLOAT_PLANE = ("FLOAT", (1, 1, *SIZE))
GREY, COLOUR = ("UINT8", SIZE), ("UINT8", (*SIZE, 3))


def test_planes_and_frames_are_told_apart() -> None:
    planes = StandIn(infrared=FLOAT_PLANE, visible=FLOAT_PLANE, fused=FLOAT_PLANE)
    signature = check_tensors(TRT, planes, Path("a.engine"))
    assert (signature.size, signature.takes_frames, signature.dtype) == (SIZE, False, np.float32)
    assert signature.shapes == {"infrared": SIZE, "visible": SIZE, "fused": SIZE}
    frames = StandIn(fused=COLOUR, visible=COLOUR, infrared=GREY)
    signature = check_tensors(TRT, frames, Path("a.engine"))
    assert (signature.size, signature.takes_frames, signature.dtype) == (SIZE, True, np.uint8)
    assert signature.shapes == {"infrared": SIZE, "visible": (*SIZE, 3), "fused": (*SIZE, 3)}


@pytest.mark.parametrize(
    "tensors",
    [
        {"infrared": FLOAT_PLANE, "visible": FLOAT_PLANE},
        {"infrared": FLOAT_PLANE, "visible": FLOAT_PLANE, "mask": FLOAT_PLANE, "fused": FLOAT_PLANE},
        {"infrared": FLOAT_PLANE, "visible": FLOAT_PLANE, "fused": ("HALF", (1, 1, *SIZE))},
        {"infrared": FLOAT_PLANE, "visible": FLOAT_PLANE, "fused": ("FLOAT", (1, 3, *SIZE))},
        {"infrared": ("FLOAT", (1, 1, -1, -1)), "visible": FLOAT_PLANE, "fused": FLOAT_PLANE},
        {"infrared": GREY, "visible": GREY, "fused": GREY},
        {"infrared": GREY, "visible": COLOUR, "fused": ("FLOAT", (*SIZE, 3))},
        {"infrared": ("FLOAT", SIZE), "visible": ("FLOAT", (*SIZE, 3)), "fused": ("FLOAT", (*SIZE, 3))},
        {"infrared": COLOUR, "visible": COLOUR, "fused": COLOUR},
    ],
)
def test_an_engine_of_neither_is_refused_with_what_it_has(tensors: Dict[str, Tuple[str, Tuple[int, ...]]]) -> None:
    with pytest.raises(
        ModelError, match=r"a\.engine must take infrared and visible and give fused, as frames"
    ) as caught:
        check_tensors(TRT, StandIn(**tensors), Path("a.engine"))
    for name, (dtype, shape) in tensors.items():
        shown = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}[dtype]
        assert f"{name} ({'out' if name == 'fused' else 'in'}) {shown} {shape}" in str(caught.value)
    assert "\n" not in str(caught.value)
