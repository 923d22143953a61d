"""A student's weights on disk: safetensors, with its shape and how it was trained in the metadata."""

import json
import os
import re
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from irvis.runtime.errors import FileError, ModelError, one_line
from irvis.runtime.files import PathLike, parse_json, write_bytes
from irvis.student.network import Student, StudentConfig

KIND = "irvis student"


def save_student(path: PathLike, student: Student, training: Optional[Dict[str, Any]] = None) -> None:
    """Write the weights, the shape and ``training`` (serialisable as JSON), whole or not at all. Raises FileError."""
    metadata = {
        "kind": KIND,
        "config": json.dumps(asdict(student.config)),
        "training": json.dumps(training or {}),
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in student.state_dict().items()}
    write_safetensors(path, tensors, metadata)


def write_safetensors(path: PathLike, tensors: Dict[str, torch.Tensor], metadata: Dict[str, str]) -> None:
    """Write tensors and metadata, whole or not at all; equal input gives equal bytes. Raises FileError."""
    data = save(tensors, metadata)
    # 8 bytes with the length of a JSON header, then the header, whose metadata safetensors writes in random order.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    write_bytes(path, len(text).to_bytes(8, "little") + text + data[end:])


def save_state(path: PathLike, state: Dict[str, Any]) -> None:
    """Write what a stopped training resumes from, by ``torch.save``, whole or not at all. Raises FileError.

    It goes through memory: on a full disk torch raises a RuntimeError that does not say so.
    """
    stream = BytesIO()
    torch.save(state, stream)
    write_bytes(path, stream.getvalue())


def load_student(path: PathLike) -> Student:
    """Return the student in a safetensors file, or in a ``.pt`` or ``.pth`` state dict of the default shape.

    No code in the file is run. Raises FileError if it is missing or unreadable, ModelError if it holds something
    other than a student.
    """
    path = Path(path)
    if not os.path.isfile(path):  # not path.is_file: that raises if a name is too long
        raise FileError(f"checkpoint not found: {path}")
    pickled = path.suffix in (".pt", ".pth") and not is_safetensors(path)
    tensors, metadata = _read_pickled(path) if pickled else _read_safetensors(path)
    try:
        student = Student(StudentConfig(**parse_json(metadata.get("config", "{}").encode())))
        student.load_state_dict(tensors)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:  # torch assumes that the keys are strings
        raise ModelError(f"{path} does not hold an irvis student: {one_line(error)}") from error
    return student.eval()


def read_metadata(path: PathLike) -> Dict[str, str]:
    """Return the metadata of a ``.safetensors`` checkpoint. Raises FileError."""
    return _read_safetensors(Path(path))[1]


def unpickling_reason(error: Exception) -> str:
    """Return why ``torch.load`` refused a file, without its advice to load it anyway, which would run its code."""
    found = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
    if found:
        return (
            f"it holds a Python object, {one_line(found[1], 100)}, as a whole module does; save its state_dict(), "
            "or give a teacher as package.module:function"
        )
    return one_line(str(error).rpartition("WeightsUnpickler error: ")[2], 200)


def is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors by its content: 8 bytes of length, then JSON. Raises FileError."""
    try:
        with path.open("rb") as stream:
            return stream.read(9)[8:] == b"{"
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error


def _read_safetensors(path: Path) -> Tuple[Dict[str, torch.Tensor], Dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError) as error:
        raise FileError(f"not a readable safetensors file: {path} ({one_line(error, 200)})") from error


def _read_pickled(path: Path) -> Tuple[Dict[str, torch.Tensor], Dict[str, str]]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
        raise FileError(f"not a state dict that can be loaded safely: {path} ({unpickling_reason(error)})") from error
    if not isinstance(tensors, dict):
        raise ModelError(f"{path} does not hold a state dict. Got {type(tensors).__name__}")
    return tensors, {}
