"""Any ``nn.Module`` as a teacher, with the distilled feature taken at one of its submodules."""

import hashlib
import inspect
import logging
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from irvis.runtime.errors import ModelError, one_line
from irvis.student.network import check_planes
from irvis.student.teachers.load import (
    INFRARED_PARTS,
    VISIBLE_PARTS,
    Device,
    checked_output,
    count_parameters,
    digest_state,
    has_part,
    near,
)
from irvis.student.teachers.network import Output

IN_TORCHSCRIPT = "in TorchScript no feature can be caught; give the nn.Module that it was made from, or its ONNX"

logger = logging.getLogger("irvis.teachers")


class ModuleTeacher:
    """A Teacher: any module that is called as ``module(infrared, visible)`` on planes of (B, 1, H, W) in [0, 1].

    It is put into eval mode; its forward is not changed: a hook that exists only during a call catches the feature. The
    digest covers the class's name, the printed form, the state dict, and the source files of the classes of the module
    and its submodules, but no other code and no plain attribute.

    Args:
        module: returns the fused plane, (B, 1, H, W), or a tuple or list that starts with it.
        feature: dotted name of a submodule, as in ``named_modules``.
        of: ``"input"``, the first tensor that the submodule is called with, or ``"output"``, what it returns, or the
            first tensor of that. If it is called several times, the last call counts.
        name: None takes the class's name.
        device: where the module goes; None leaves it where its parameters are.

    Raises ModelError for an unknown submodule, and for a module without values or that cannot be put into eval mode.
    """

    def __init__(
        self,
        module: nn.Module,
        feature: str = "reconstruction",
        of: str = "input",
        name: Optional[str] = None,
        device: Optional[Device] = None,
    ) -> None:
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        self.name = name or type(module).__name__
        if of not in ("input", "output"):
            raise ModelError(f"of must be input or output. Got {of!r}")
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(f"{self.name}: {IN_TORCHSCRIPT}")
        try:
            self._submodule = module.get_submodule(feature)
        except AttributeError as error:
            names = [known for known, _ in module.named_modules() if known]
            raise ModelError(f"{self.name} has no submodule {feature}. Near: {near(feature, names)}") from error
        _check_order(self.name, module)
        self._device = torch.device(device or next((each.device for each in module.parameters()), "cpu"))
        self._feature, self._of = feature, of
        try:
            self._module = module.eval().to(self._device)
            # The printed form has the strides, slopes and the like; memory addresses in it change with every run.
            printed = re.sub(r" at 0x[0-9a-f]+", "", repr(module))
            label = "\n".join((kind, printed, f"{of} of {feature}", *_sources(module)))
            self.digest = digest_state(label, module.state_dict())
            self.parameters = count_parameters(module)
        except (NotImplementedError, RuntimeError) as error:  # an exported program, meta or uninitialised parameters
            raise ModelError(
                f"{self.name} cannot be a teacher as it is: {type(error).__name__}: {one_line(error, 200)}"
            ) from error

    def __call__(self, infrared: Tensor, visible: Tensor) -> Output:
        check_planes(infrared, visible)
        caught: List[Any] = []

        def catch_input(_: nn.Module, arguments: Tuple[Any, ...], keywords: Dict[str, Any]) -> None:
            caught[:] = [_first_tensor((*arguments, *keywords.values()))]

        def catch_output(_: nn.Module, __: Tuple[Any, ...], output: Any) -> None:
            caught[:] = [_first_tensor(output)]

        if self._of == "input":
            hook = self._submodule.register_forward_pre_hook(catch_input, with_kwargs=True)
        else:
            hook = self._submodule.register_forward_hook(catch_output)
        try:
            with torch.no_grad():
                # Copies, since the module may change its inputs in place.
                fused = self._module(*(plane.to(self._device, copy=True) for plane in (infrared, visible)))
        except Exception as error:  # from the user's own code
            raise ModelError(
                f"{self.name} failed on infrared and visible planes of {tuple(infrared.shape)}: "
                f"{type(error).__name__}: {one_line(error)}{self._hint()}"
            ) from error
        finally:
            hook.remove()
        if not caught:
            inside = isinstance(self._submodule, torch.jit.ScriptModule)
            hint = IN_TORCHSCRIPT if inside else "choose another"
            raise ModelError(f"{self.name} never calls its submodule {self._feature}; {hint}")
        if isinstance(fused, (tuple, list)) and fused:
            fused = fused[0]
        return checked_output(self.name, infrared, caught[0], fused, f"{self._of} of {self._feature}")

    def _hint(self) -> str:
        """Explain a likely failure: the planes are float32, but the weights are not; empty if they are."""
        kinds = {each.dtype for each in self._module.parameters() if each.is_floating_point()} - {torch.float32}
        names = ", ".join(sorted(str(kind).partition(".")[2] for kind in kinds))
        return f"; the planes are float32 and its weights {names}: give it as module.float()" if kinds else ""


def _check_order(name: str, module: nn.Module) -> None:
    """Warn if the names of the module's arguments say that it takes the visible plane first, as many networks do."""
    try:
        first, second = list(inspect.signature(module.forward).parameters)[:2]
    except (TypeError, ValueError):  # no two argument names
        return
    if has_part(first, VISIBLE_PARTS) and has_part(second, INFRARED_PARTS):
        logger.warning("%s: its forward(%s, %s) gets the infrared first; wrap it to swap them", name, first, second)


def _sources(module: nn.Module) -> List[str]:
    """Return the SHA-256 of each source file of the classes of the module and its submodules, except PyTorch's own."""
    files = set()
    for kind in {type(each) for each in module.modules()}:
        if kind.__module__.partition(".")[0] != "torch":
            try:
                files.add(inspect.getsourcefile(kind))
            except (TypeError, OSError):
                continue  # typed in interactively, or generated
    return sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file and Path(file).exists())


def _first_tensor(values: Any) -> Any:
    """Return a copy of a tensor, or of the first one of several values; if there is none, the values themselves."""
    candidates = values if isinstance(values, (tuple, list)) else (values,)
    for candidate in candidates:
        if isinstance(candidate, Tensor):
            return candidate.clone()  # later layers may change it in place
    return values
