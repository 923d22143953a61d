"""What a data set can be fused with: an engine, an ONNX, a student's checkpoint or a published network."""

from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import numpy as np

from irvis.runtime.errors import IrvisError
from irvis.runtime.fuser import Fuser

CHECKPOINTS = (".safetensors", ".pt", ".pth")

# uint8 (H, W) infrared and luminance -> fused uint8 (H, W)
Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Model(NamedTuple):
    """A way to fuse, and its name in tables."""

    name: str
    fuse: Fuse


def open_model(text: Optional[str], stack: ExitStack, resize: bool = False) -> Model:
    """Open what ``--model`` names.

    Args:
        text: a ``.onnx`` or ``.engine``; a student's ``.safetensors``, ``.pt`` or ``.pth``, run in PyTorch;
            ``NAME=FILE`` for a published network's weights; None for the student that irvis ships.
        stack: closes the model at its end.
        resize: fit frames of another size to that of an ONNX or engine, and back.

    Raises IrvisError where it cannot be opened.
    """
    if text is not None:
        name, equals, weights = text.partition("=")
        if equals and not Path(text).exists():
            return published_network(name, Path(weights))
        if Path(text).suffix in CHECKPOINTS:
            return Model(Path(text).name, student(Path(text)))
    fuser = stack.enter_context(Fuser(text, resize=resize, infrared_smoothing=0))
    return Model(fuser.model.name, fuser)


def student(checkpoint: Path) -> Fuse:
    """Run a student's checkpoint in PyTorch, rounded as the runtime does. Raises IrvisError."""
    _require_torch()
    from irvis.student.checkpoint import load_student
    from irvis.student.validation import fuse_planes

    return partial(fuse_planes, load_student(checkpoint))


def published_network(name: str, weights: Path) -> Model:
    """Run a published network in PyTorch, its fused plane turned to 8 bits as its authors do. Raises IrvisError."""
    _require_torch()
    from irvis.student.datasets import unit_planes
    from irvis.student.teachers.load import PublishedTeacher
    from irvis.student.teachers.network import CASTS

    teacher = PublishedTeacher(name, weights)
    to_8_bits = CASTS[teacher.network.cast]

    def fuse(infrared: np.ndarray, luminance: np.ndarray) -> np.ndarray:
        _, fused = teacher(*unit_planes(infrared, luminance))
        return to_8_bits(fused[0, 0].numpy())

    return Model(teacher.name, fuse)


def _require_torch() -> None:
    if find_spec("torch") is None:
        raise IrvisError("torch is not installed: pip install 'irvis[workstation]'")
