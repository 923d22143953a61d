"""What a data set can be fused with: an engine, an ONNX, a student's checkpoint, a published network or any teacher."""

import logging
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from irvis.runtime.errors import IrvisError, ModelError
from irvis.runtime.fuser import Fuser
from irvis.runtime.sizes import format_size

if TYPE_CHECKING:  # it imports torch, which an ONNX or engine is measured without
    from irvis.student.teachers.load import Teacher

CHECKPOINTS = (".safetensors", ".pt", ".pth")

# uint8 (H, W) infrared and luminance -> fused uint8 (H, W)
Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]

logger = logging.getLogger("irvis.teachers")


class Model(NamedTuple):
    """A way to fuse, and its name in tables."""

    name: str
    fuse: Fuse


def open_model(text: Optional[str], stack: ExitStack, resize: bool = False, device: str = "cpu") -> Model:
    """Open the model that ``--model`` names.

    Args:
        text: a ``.onnx`` or ``.engine``; a student's ``.safetensors``, ``.pt`` or ``.pth``, run in PyTorch;
            ``NAME=FILE`` for a published network's weights; None for the student that irvis ships.
        stack: closes the model at its end.
        resize: fit frames of another size to that of an ONNX or engine, and back.
        device: where PyTorch runs a checkpoint or published network; an ONNX or engine is run where Fuser chooses.

    Raises IrvisError if it cannot be opened.
    """
    if text is not None:
        name, file = split_name(text)
        if name is not None:
            if "," in name:  # as in my.package:build,feature=decoder
                raise IrvisError(f"not a model: {text}, which has the form of a teacher; give it as --teacher")
            return published_network(name, file, device)
        if file.suffix in CHECKPOINTS:
            return Model(file.name, student(file, device))
    fuser = stack.enter_context(Fuser(text, resize=resize))
    return Model(fuser.model.name, fuser)


def student(checkpoint: Path, device: str = "cpu") -> Fuse:
    """Run a student's checkpoint in PyTorch, rounded as the runtime does. Raises IrvisError."""
    _require_torch()
    from irvis.student.checkpoint import load_student
    from irvis.student.validation import fuse_planes

    return partial(fuse_planes, load_student(checkpoint).to(device))


def published_network(name: str, weights: Path, device: str = "cpu") -> Model:
    """Run a published network in PyTorch, its fused plane turned to 8 bits as its authors do. Raises IrvisError."""
    _require_torch()
    from irvis.student.teachers.load import PublishedTeacher

    return _of_teacher(PublishedTeacher(name, weights, device))


def open_teachers(specs: Sequence[str], device: str = "cpu") -> List[Model]:
    """Open the teachers that ``--teacher`` names, in the forms that ``irvis train --teacher`` takes.

    Raises IrvisError if one cannot be opened, or two have the same name.
    """
    if not specs:
        return []
    _require_torch()
    from irvis.student.teachers import load

    return [_of_teacher(teacher) for teacher in load.open_teachers(specs, device)]


def check_device(device: str) -> None:
    """Raise IrvisError unless PyTorch is installed and can use the device; ``cpu`` is not checked."""
    if device != "cpu":  # what runs without PyTorch is measured without it
        _require_torch()
        from irvis.student.teachers import load

        load.check_device(device)


def teacher_files(specs: Sequence[str]) -> List[Optional[Path]]:
    """Return the file that each of ``specs`` names, None if it names a function. Raises IrvisError without torch."""
    if not specs:
        return []
    _require_torch()
    from irvis.student.teachers.load import teacher_file

    return [teacher_file(spec) for spec in specs]


def _of_teacher(teacher: "Teacher") -> Model:
    """Return what fuses with a teacher: a published network's plane becomes 8 bits as its authors do it, any other is
    clipped to [0, 1] and rounded, with one warning if much of it lay beyond.

    Random numbers that the teacher draws are the same for every pair, as in training. Fusing raises ModelError where
    the teacher does not take the planes, or gives NaN or infinity.
    """
    from irvis.student.datasets import unit_planes
    from irvis.student.teachers.load import PublishedTeacher, beyond_unit, repeatable_output
    from irvis.student.teachers.network import CASTS

    cast = teacher.network.cast if isinstance(teacher, PublishedTeacher) else None
    to_8_bits = CASTS[cast or "round"]
    told = cast is not None  # the authors' cast suits what their network gives

    def fuse(infrared: np.ndarray, luminance: np.ndarray) -> np.ndarray:
        nonlocal told
        _, fused = repeatable_output(teacher, *unit_planes(infrared, luminance))
        if not fused.isfinite().all():
            size = format_size(infrared.shape)
            raise ModelError(f"{teacher.name} gives NaN or infinity on a pair of {size}; check its weights")
        beyond = "" if told else beyond_unit(fused)
        if beyond:
            logger.warning("%s: %s", teacher.name, beyond)
            told = True
        return to_8_bits(fused[0, 0].cpu().numpy())

    return Model(teacher.name, fuse)


def _require_torch() -> None:
    if find_spec("torch") is None:
        raise IrvisError("torch is not installed: pip install 'irvis[workstation]'")


def split_name(text: str) -> Tuple[Optional[str], Path]:
    """``"SHIP=SHIP.pth"`` -> the name and the file; a file alone, whose path may have a "=" -> None and the file."""
    name, equals, file = text.partition("=")
    return (name, Path(file)) if equals and not Path(text).exists() else (None, Path(text))


def parse_fused(texts: Sequence[str], place: str) -> Dict[str, Path]:
    """Return where each name of ``--fused NAME=PATH`` has its images, fused elsewhere.

    ``place`` is what the error calls PATH. Raises IrvisError.
    """
    places: Dict[str, Path] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path or name in places:
            raise IrvisError(f"--fused must be NAME={place}, each name once. Got {text}")
        places[name] = Path(path)
    return places
