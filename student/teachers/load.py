"""Teachers named on the command line: a published network, a student, any ``nn.Module``, any ONNX file."""

import difflib
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NoReturn, Optional, Protocol, Sequence, Union

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from irvis.runtime.errors import FileError, IrvisError, ModelError, one_line
from irvis.runtime.files import PathLike
from irvis.runtime.shipped import NAMES, find_model
from irvis.student.checkpoint import is_safetensors, unpickling_reason
from irvis.student.network import check_planes
from irvis.student.plugins import FORM, call_function
from irvis.student.teachers.network import FusionNetwork, Output
from irvis.student.teachers.published import MODULES, network_class

Device = Union[str, torch.device]

FORMS = (
    "SHIP=path/to/weights.pth",
    "student.safetensors",
    "package.module:function,feature=SUBMODULE[,of=output]",
    "teacher.onnx,fused=NAME,feature=NAME[,inputs=A:B]",
)
PUBLISHED_FORM = re.compile(r"(?P<name>[\w-]+)=(?P<path>.+)")
MODULE_FORM = re.compile(rf"(?P<name>{FORM.pattern})(?P<options>(,.*)?)")
ONNX_FORM = re.compile(r"(?P<path>.+?\.onnx)(?P<options>(,.*)?)", re.IGNORECASE)

# Parts of the names that networks give their inputs.
INFRARED_PARTS, VISIBLE_PARTS = ("ir", "inf", "therm"), ("vi", "rgb")

NAMES_SHOWN = 3  # of each kind, in an error message
# How far and how much of a fused plane may leave [0, 1] without a warning: some published networks overshoot at edges.
BEYOND, SHARE_BEYOND = 0.05, 0.05


class Teacher(Protocol):
    """A frozen network that provides what is distilled: its feature before the decoder, and its fused image.

    ``teacher(infrared, visible)`` takes float32 (B, 1, H, W) in [0, 1] each, on any device. It returns (feature, fused)
    without gradient on its own device: float32 (B, C, h, w) and (B, 1, H, W). Raises ValueError if the planes have
    another shape, ModelError if the network does not accept them or returns something else.
    """

    name: str
    digest: str  # SHA-256, 64 hexadecimal digits; differs whenever the outputs may differ
    parameters: int  # number of learnt values

    def __call__(self, infrared: Tensor, visible: Tensor) -> Output: ...


class PublishedTeacher:
    """A Teacher: one of the published networks with its authors' weights.

    If H or W is not a multiple of what the network takes, the last row or column is repeated and the fused plane cut
    back; the feature is then that of the larger plane. Raises whatever load_published raises.
    """

    def __init__(self, name: str, path: PathLike, device: Device = "cpu") -> None:
        self.name = published_name(name)
        self.network = load_published(self.name, path, device)
        self.digest = digest_state(self.name, self.network.state_dict())
        self.parameters = count_parameters(self.network)
        self._device = torch.device(device)

    def __call__(self, infrared: Tensor, visible: Tensor) -> Output:
        check_planes(infrared, visible)
        height, width = infrared.shape[2:]
        padding = (0, -width % self.network.multiple, 0, -height % self.network.multiple)
        with torch.no_grad():
            planes = (F.pad(plane.to(self._device), padding, mode="replicate") for plane in (infrared, visible))
            feature, fused = self.network(*planes)
        return checked_output(self.name, infrared, feature, fused[..., :height, :width])


def load_published(name: str, path: PathLike, device: Device = "cpu") -> FusionNetwork:
    """Return a published network with the weights of the authors' file, frozen, in eval mode.

    Args:
        name: one of MODULES, in upper or lower case.
        path: safetensors, or a state dict that ``torch.save`` wrote, flat or wrapped as in the authors' file. No
            code in it is run.
        device: where the network goes.

    Raises FileError if the file is missing or unreadable, ModelError for an unknown name or another network's file.
    """
    name = published_name(name)
    network = network_class(name)()
    contents = _read_weights(Path(os.path.expanduser(path)))
    try:
        state = network.unwrap(contents)
        network.load_state_dict(state, strict=True)
    except (AttributeError, KeyError, TypeError, RuntimeError) as error:  # torch assumes that the keys are strings
        reason = one_line(error, 200)
        if isinstance(error, RuntimeError):
            reason = _difference(network.state_dict(), state) or reason
        raise ModelError(
            f"{path} does not hold the weights of {name}: {reason}. "
            f"The right file is published at github.com/{network.repository}"
        ) from error
    return network.eval().requires_grad_(False).to(device)


def published_name(name: str) -> str:
    """Return a name as spelt in MODULES. Raises ModelError if it is not there."""
    by_lower_case = {known.lower(): known for known in MODULES}
    if name.lower() not in by_lower_case:
        raise ModelError(
            f"no published network is called {name}. Near: {near(name, MODULES)}; irvis teachers lists all"
        )
    return by_lower_case[name.lower()]


def check_device(device: Device) -> None:
    """Raise IrvisError unless PyTorch can use a device, such as ``cpu``, ``cuda`` or ``cuda:1``."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # the latter if PyTorch was built without CUDA
        raise IrvisError(f"PyTorch cannot use the device {device}: {one_line(error, 150)}; give cpu") from error


def open_teacher(spec: str, device: Device = "cpu") -> Teacher:
    """Return the teacher that ``spec`` names in one of the FORMS.

    Names of published networks may be in upper or lower case; a shipped student's name stands for its file; a
    ``function`` is imported with the current folder on the path, and called without arguments. Raises IrvisError.
    """
    check_device(device)
    published, onnx = PUBLISHED_FORM.fullmatch(spec), ONNX_FORM.fullmatch(spec)
    if published:
        return PublishedTeacher(published["name"], published["path"], device)
    if onnx:
        from irvis.student.teachers.any_onnx import OnnxTeacher  # it imports this module, and ONNX Runtime

        options = _options(spec, onnx["options"], required=("fused", "feature"), optional=("inputs",))
        inputs = None
        if "inputs" in options:
            # Names may contain colons themselves, "ir:0:vi:0"; then the middle one separates them.
            parts = options["inputs"].split(":")
            if len(parts) % 2 or "" in parts:
                _refuse(spec, "inputs are two names, infrared:visible")
            inputs = ":".join(parts[: len(parts) // 2]), ":".join(parts[len(parts) // 2 :])
        path = Path(os.path.expanduser(onnx["path"]))
        return OnnxTeacher(path, options["fused"], options["feature"], inputs=inputs, device=device)
    module = MODULE_FORM.fullmatch(spec)
    if module:
        from irvis.student.teachers.any_module import ModuleTeacher  # it imports this module

        options = _options(spec, module["options"], required=("feature",), optional=("of",))
        return ModuleTeacher(_module_of(module["name"]), name=module["name"], device=device, **options)
    if spec in NAMES or spec.endswith(".safetensors"):
        from irvis.student.teachers.any_student import StudentTeacher  # it imports this module

        return StudentTeacher(find_model(os.path.expanduser(spec), ".safetensors"), device)
    _refuse(spec, "it has none of these forms")


def teacher_file(spec: str) -> Optional[Path]:
    """Return the file that ``spec`` names in one of the FORMS, existing or not; None for a function or another form.

    It is an input, which no output may overwrite.
    """
    named = PUBLISHED_FORM.fullmatch(spec) or ONNX_FORM.fullmatch(spec)
    if named:
        return Path(os.path.expanduser(named["path"]))
    is_student = spec in NAMES or spec.endswith(".safetensors")
    return find_model(os.path.expanduser(spec), ".safetensors") if is_student else None


def open_teachers(specs: Sequence[str], device: Device = "cpu") -> List[Teacher]:
    """Return the teachers that ``specs`` name. Raises IrvisError, also if two have the same name."""
    teachers: Dict[str, Teacher] = {}
    for teacher in (open_teacher(spec, device) for spec in specs):
        known = teachers.setdefault(teacher.name, teacher)
        if known.digest != teacher.digest:
            raise IrvisError(f"two teachers are called {teacher.name}; rename one's file or function")
        if known is not teacher:
            raise IrvisError(f"a teacher was given twice: {teacher.name}")
    return list(teachers.values())


def repeatable_output(teacher: Callable[[Tensor, Tensor], Output], infrared: Tensor, visible: Tensor) -> Output:
    """Run a teacher on (B, 1, H, W) planes in [0, 1] so that every call gives the same, up to rounding, on any device.

    Random numbers, of which a diffusion model draws some, are seeded; the caller's random state is left as it was.
    Convolutions are in FP32 on a GPU too, not in TF32, PyTorch's default there.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        torch.manual_seed(0)
        return teacher(infrared, visible)


def checked_output(name: str, planes: Tensor, feature: Any, fused: Any, place: str = "") -> Output:
    """Return a teacher's output for ``planes``, (B, 1, H, W), as float32 without gradient.

    Raises ModelError, naming the teacher and the ``place`` of the feature in it, unless the feature is a tensor
    (B, C, h, w) and the fused plane a tensor of the planes' shape.
    """
    if not isinstance(fused, Tensor) or fused.shape != planes.shape:
        raise ModelError(
            f"the fused plane of {name} must be (B, 1, H, W) = {tuple(planes.shape)}. Got {_shape(fused)}; "
            "wrap it in a network that returns such a plane"
        )
    of = f"{name} ({place})" if place else name
    if not isinstance(feature, Tensor) or feature.ndim != 4:
        raise ModelError(f"the feature of {of} must be (B, C, h, w). Got {_shape(feature)}; choose another")
    if len(feature) != len(planes):
        raise ModelError(f"the feature of {of} must have the planes' batch, {len(planes)}. Got {_shape(feature)}")
    return feature.detach().float(), fused.detach().float()


def beyond_unit(fused: Tensor) -> str:
    """Return by how much fused planes leave [0, 1], the range of any student, as text; empty if they hardly do."""
    low, high = map(float, fused.aminmax())
    share = int(((fused < -BEYOND) | (fused > 1 + BEYOND)).count_nonzero()) / fused.numel()
    if share <= SHARE_BEYOND:
        return ""
    return f"{share:.0%} of its fused plane lies outside 0 to 1, the range of the student ({low:.3g} to {high:.3g})"


def has_part(name: str, parts: Sequence[str]) -> bool:
    """Return whether a name has one of ``parts`` in it, in upper or lower case."""
    return any(part in name.lower() for part in parts)


def digest_state(label: str, state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a label and a state dict, whatever the order of its keys and the device of its tensors."""
    digest = hashlib.sha256(label.encode())
    for name, value in sorted(state.items()):
        if isinstance(value, Tensor):
            digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            digest.update(f"\n{name} {value!r}\n".encode())  # returned by a module's get_extra_state
    return digest.hexdigest()


def count_parameters(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def near(name: str, names: Iterable[str]) -> str:
    """Return the few of ``names`` that are most like ``name``, or the first few, as one string."""
    names = list(names)
    found = difflib.get_close_matches(name, names, n=NAMES_SHOWN, cutoff=0.4) or names[: 2 * NAMES_SHOWN]
    return ", ".join(found) or "none"


def _read_weights(path: Path) -> Dict[str, Any]:
    if not os.path.isfile(path):  # not path.is_file: that raises if a name is too long
        raise FileError(f"weights not found: {path}")
    try:
        if path.suffix == ".safetensors" or is_safetensors(path):
            return load_file(path)
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise FileError(f"not readable weights: {path} ({one_line(error, 200)})") from error
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
        raise FileError(f"not a state dict that can be loaded safely: {path} ({unpickling_reason(error)})") from error
    if not isinstance(contents, dict):
        raise ModelError(f"{path} does not hold a state dict. Got {type(contents).__name__}")
    return contents


def _difference(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> str:
    """Return which keys a state dict lacks, has too many or has in another shape, as text; empty if it fits."""
    misshaped = [
        f"{name} {_shape(found[name])} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and getattr(found[name], "shape", None) != tensor.shape
    ]
    kinds = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [str(name) for name in found if name not in wanted],
        "misshaped": misshaped,
    }
    return "; ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _refuse(spec: str, reason: str) -> NoReturn:
    raise IrvisError(f"not a teacher: {spec!r} ({reason}); give one of {' | '.join(FORMS)}")


def _options(spec: str, text: str, required: Sequence[str], optional: Sequence[str]) -> Dict[str, str]:
    """``",fused=a,feature=b"`` -> ``{"fused": "a", "feature": "b"}``. Raises IrvisError."""
    options: Dict[str, str] = {}
    for part in text.split(",")[1:]:
        key, _, value = part.partition("=")
        if key not in (*required, *optional) or not value or key in options:
            _refuse(spec, f"{part!r} is not one of its options")
        options[key] = value
    for key in required:
        if key not in options:
            _refuse(spec, f"{key}= is missing")
    return options


def _module_of(name: str) -> nn.Module:
    """Return the nn.Module that the user's own function makes. Raises ModelError."""
    module = call_function(name)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name} must return an nn.Module. Got {type(module).__name__}")
    return module
