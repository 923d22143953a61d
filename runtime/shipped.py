"""The students that irvis ships, by name: each as an ONNX for any frame size, a checkpoint and a card."""

import os
from pathlib import Path
from typing import Union

_FOLDER = Path(__file__).resolve().parent / "models"
NAMES = ("student", "fast")
SHIPPED_MODEL = _FOLDER / "student.onnx"


def find_model(model: Union[str, Path, None], suffix: str = ".onnx") -> Path:
    """Return the path of a model: the given file, or that of a shipped model.

    Args:
        model: a file; a name from NAMES, if there is no such file; None for ``student``.
        suffix: of the shipped model's file, ``.onnx`` or ``.safetensors``.
    """
    if model is None:
        return SHIPPED_MODEL.with_suffix(suffix)
    path = Path(model)
    return _FOLDER / f"{path}{suffix}" if str(path) in NAMES and not os.path.isfile(path) else path


def name_onnx(onnx: Path) -> str:
    """Return the name of an ONNX for a command line in its folder: from NAMES if it is shipped, else its file name."""
    is_shipped = onnx.stem in NAMES and os.path.realpath(onnx) == os.path.realpath(_FOLDER / f"{onnx.stem}.onnx")
    return onnx.stem if is_shipped else onnx.name
