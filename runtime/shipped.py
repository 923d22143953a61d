"""The students that irvis ships, by name: each as an ONNX of any frame size, a checkpoint and a card."""

import os
from pathlib import Path
from typing import Union

_FOLDER = Path(__file__).resolve().parent / "models"
NAMES = ("student", "fast")
SHIPPED_MODEL = _FOLDER / "student.onnx"


def find_model(model: Union[str, Path, None], suffix: str = ".onnx") -> Path:
    """Give the path of a model: what was given, or the file of a shipped one.

    Args:
        model: a file; a name of NAMES, where there is no such file; None for ``student``.
        suffix: of the shipped one's file, ``.onnx`` or ``.safetensors``.
    """
    if model is None:
        return SHIPPED_MODEL.with_suffix(suffix)
    path = Path(model)
    return _FOLDER / f"{path}{suffix}" if str(path) in NAMES and not os.path.isfile(path) else path
