"""The sidecar of an engine: ``student.engine.json`` beside ``student.engine`` says what it is and where it runs.

It is read before anything is deserialised, so that an engine from another machine, or a broken one, is reported in one
clear line.
"""

import hashlib
import json
import os
import reprlib
import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, Union

from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import parse_json, read_bytes, write_bytes
from irvis.runtime.sizes import format_size

SCHEMA_VERSION = 1
LARGEST_FILE = 1 << 20  # bytes; a sidecar takes some two thousand
REBUILD = "rebuild it with build_engine.py"

TensorSpecs = Dict[str, Dict[str, Any]]  # name -> {"shape": [480, 640, 3], "dtype": "uint8"}


@dataclass(frozen=True)
class Sidecar:
    """Everything that an engine depends on, and its measured error."""

    engine_sha256: str
    onnx_sha256: str
    onnx_name: str  # file name of the ONNX, without its folder; ``student`` or ``fast`` if shipped
    tensorrt_version: str  # "8.5.2.2"
    gpu_name: str  # "Xavier"
    compute_capability: str  # "7.2"
    precision: str  # "fp32", "fp16" or "int8": the lowest that its layers may have
    inputs: TensorSpecs
    outputs: TensorSpecs
    size: Tuple[int, int]  # (H, W) of the frames
    build_options: Dict[str, Any]
    build_seconds: float
    # Against the FP32 ONNX: pairs, max_abs (of a range of 1), worst_psnr_db, mean_psnr_db; None: not measured.
    measured_error: Optional[Dict[str, Any]]
    irvis_version: str
    accepted: Optional[bool] = None  # whether that error is within the precision's limit; None: not measured
    schema_version: int = SCHEMA_VERSION

    @property
    def takes_frames(self) -> bool:
        """Whether inputs and output are uint8 frames rather than float32 planes in [0, 1]."""
        return all(spec["dtype"] == "uint8" for spec in self.inputs.values())

    @property
    def warning(self) -> Optional[str]:
        """What is wrong with an engine that was kept by ``--force``, to follow its name; None if nothing is."""
        if self.accepted is not False:
            return None
        found_db = (self.measured_error or {}).get("worst_psnr_db")
        distance = "too far" if found_db is None else f"{found_db:.1f} dB"
        return f"is {distance} from its ONNX at worst, too inexact for {self.precision.upper()}: built with --force"

    def rebuild_command(self, size: Optional[Tuple[int, int]] = None) -> str:
        """Return the command that rebuilds this engine, on any machine, or one like it for frames of ``size``.

        The ONNX is named without its folder.
        """
        words = self.build_options.get("arguments")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            words = [f"--{self.precision}"]
        command = ["build_engine.py", self.onnx_name, *words, "--size", format_size(size or self.size)]
        return " ".join(map(shlex.quote, command))


def sidecar_path(engine: Union[str, Path]) -> Path:
    """``student.engine`` -> ``student.engine.json``."""
    engine = Path(engine)
    return engine.with_name(engine.name + ".json")


def write_sidecar(engine: Union[str, Path], sidecar: Sidecar) -> None:
    """Write the sidecar of ``engine``, whole or not at all. Raises FileError."""
    write_bytes(sidecar_path(engine), encode_sidecar(sidecar))


def encode_sidecar(sidecar: Sidecar) -> bytes:
    """Return the sidecar as the bytes of its file."""
    record = {"schema_version": sidecar.schema_version, **asdict(sidecar)}  # the version first, for human readers
    return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()


def read_sidecar(engine: Union[str, Path]) -> Sidecar:
    """Return the sidecar of ``engine``; unknown fields are ignored.

    Raises FileError if it is missing or unreadable, ModelError if it is not a sidecar of a known schema.
    """
    if Path(engine).suffix == ".onnx":
        command = f"build_engine.py {shlex.quote(str(engine))}"
        raise FileError(f"{engine} is an ONNX, not an engine; `{command}` makes one of it")
    path = sidecar_path(engine)
    if not os.path.exists(path):
        raise FileError(f"sidecar not found: {path}; keep it beside the engine, or {REBUILD}")
    data = read_bytes(path, "sidecar", LARGEST_FILE)
    try:
        record = parse_json(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"sidecar is not JSON: {path}; {REBUILD}") from error
    if not isinstance(record, dict):
        raise ModelError(f"sidecar must hold a JSON object. Got a {type(record).__name__} in {path}; {REBUILD}")
    version = record.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ModelError(
            f"sidecar is of schema {version}, this irvis knows {SCHEMA_VERSION}: {path}; update irvis, or {REBUILD}"
        )
    values = {}
    for field in fields(Sidecar):
        if field.name not in record:
            raise ModelError(f"sidecar lacks {field.name}: {path}; {REBUILD}")
        wanted, is_valid = _CHECKS[field.name]
        values[field.name] = record[field.name]
        if not is_valid(record[field.name]):
            found = reprlib.repr(record[field.name])[:80]  # not repr: for nested lists its length has no limit
            raise ModelError(f"sidecar's {field.name} must be {wanted}. Got {found} in {path}; {REBUILD}")
    return Sidecar(**{**values, "size": tuple(values["size"])})


def read_engine(engine: Union[str, Path], sidecar: Sidecar) -> bytes:
    """Return the engine's bytes. Raises ModelError unless they match the sidecar, FileError if they cannot be read.

    The bytes that were checked are returned, because the file could be replaced before a second read.
    """
    content = read_bytes(engine, "engine")
    found = hashlib.sha256(content).hexdigest()
    if found != sidecar.engine_sha256:
        raise ModelError(
            f"engine is corrupt or was replaced: {engine} has SHA-256 {found[:12]}..., "
            f"its sidecar says {sidecar.engine_sha256[:12]}...; {REBUILD}"
        )
    return content


def check_machine(sidecar: Sidecar, tensorrt_version: str, gpu_name: str, compute_capability: str) -> None:
    """Raise ModelError unless the engine was built for this TensorRT and this GPU: it would load on no other."""
    built = (sidecar.tensorrt_version, sidecar.gpu_name, sidecar.compute_capability)
    here = (tensorrt_version, gpu_name, compute_capability)
    if built != here:
        raise ModelError(
            f"the engine was built with {_machine(*built)}; this machine has {_machine(*here)}: "
            f"build it here with `{sidecar.rebuild_command()}`"
        )


def _machine(tensorrt_version: str, gpu_name: str, compute_capability: str) -> str:
    return f"TensorRT {tensorrt_version} on {gpu_name} (compute capability {compute_capability})"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _whole(value) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _specs(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            isinstance(spec, dict)
            and isinstance(spec.get("shape"), list)
            and all(map(_positive, spec["shape"]))
            and _text(spec.get("dtype"))
            for spec in value.values()
        )
    )


def _number(value: Any) -> bool:
    # Not math.isfinite: that fails for integers too large for a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


_DIGEST = ("64 hexadecimal digits", _digest)
_TEXT = ("a non-empty string", _text)
_SPECS = ('an object of {"shape": [...], "dtype": "..."} by name', _specs)
_CHECKS: Dict[str, Tuple[str, Callable[[Any], bool]]] = {
    "schema_version": ("a whole number, 1 or more", _positive),
    "engine_sha256": _DIGEST,
    "onnx_sha256": _DIGEST,
    "onnx_name": _TEXT,
    "tensorrt_version": _TEXT,
    "gpu_name": _TEXT,
    "compute_capability": _TEXT,
    "precision": ("fp32, fp16 or int8", lambda value: value in ("fp32", "fp16", "int8")),
    "inputs": _SPECS,
    "outputs": _SPECS,
    "size": (
        "[height, width]",
        lambda value: isinstance(value, list) and len(value) == 2 and all(map(_positive, value)),
    ),
    "build_options": ("an object", lambda value: isinstance(value, dict)),
    "build_seconds": ("a number of seconds", lambda value: _number(value) and value >= 0),
    "measured_error": (
        "null or an object of numbers",
        lambda value: value is None or (isinstance(value, dict) and all(map(_number, value.values()))),
    ),
    "irvis_version": _TEXT,
    "accepted": ("true, false or null", lambda value: value is None or isinstance(value, bool)),
}
