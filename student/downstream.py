"""Joint training with a downstream task: a detection or segmentation loss added to the fusion's own.

A task is any ``nn.Module`` that returns a loss for the fused crops; docs/joint_training.md has one of 20 lines.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from irvis.runtime.errors import FileError, IrvisError, ModelError, one_line
from irvis.runtime.files import PathLike
from irvis.student.checkpoint import write_safetensors
from irvis.student.datasets import to_unit
from irvis.student.downstream_targets import MOST_CLASSES, TARGETS
from irvis.student.plugins import FORM, call_function

HEADS = {name: f"irvis.student.downstream_{name}:open_head" for name in TARGETS}  # included in irvis


class DownstreamTask(Protocol):
    """An ``nn.Module`` that measures how well a task can be done on fused images.

    ``task(fused, targets)`` takes float32 (B, 1, H, W) in [0, 1], square crops through which the gradient flows back,
    and the targets to find in them, one row per crop, on the same device:

    - ``boxes``: float32 (B, K, 5), rows of class, centre x, centre y, width, height in pixels of the crop, x from its
      left and y from its top edge; class -1 pads a crop with fewer than K boxes.
    - ``masks``: uint8 (B, H, W), each pixel's class, 255 where there is none to learn.

    It returns the mean loss over the crops, float32 (). Parameters that require a gradient are trained along; the
    others are left unchanged, as is the mode, train or eval, of the task. To be part of a CUDA graph it must neither
    read values on the host nor have tensor shapes that depend on values; if it does, steps run without the graph.
    """

    labels: str  # boxes or masks
    classes: int  # those of the targets are 0 to classes - 1

    def __call__(self, fused: Tensor, targets: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DownstreamConfig:
    """The options of joint training with a task, whose result also depends on the labels and the task's code."""

    spec: str  # a head of HEADS as NAME=CLASSES or NAME=FILE, else package.module:function[=ARGUMENT]
    weight: float = 0.1  # of the task's loss
    rate: float = 1.0  # the task's learning rate as a multiple of the student's

    def __post_init__(self) -> None:
        for name in ("weight", "rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise IrvisError(f"--downstream-{name} must be positive. Got {getattr(self, name)}")


class Downstream(NamedTuple):
    """A task, and its targets in each crop of a run."""

    config: DownstreamConfig
    task: nn.Module  # a DownstreamTask
    targets: Tensor  # one row per crop


def open_task(spec: str, seed: int) -> Any:
    """Return the task that ``spec`` names: what its function returns, called with the ARGUMENT if there is one.

    The function is imported with the current folder on the path. Weights that it draws at random depend only on the
    seed. Raises IrvisError.
    """
    name, equals, argument = spec.partition("=")
    function = HEADS.get(name, name)
    if not FORM.fullmatch(function):
        heads = ", ".join(f"{head}=CLASSES" for head in HEADS)
        raise IrvisError(f"not a downstream task: {spec!r}; give {heads} or package.module:function[=ARGUMENT]")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = call_function(function, *([argument] if equals else []))
    if not isinstance(task, nn.Module):
        raise ModelError(f"{spec} must return an nn.Module. Got {type(task).__name__}")
    labels, classes = getattr(task, "labels", None), getattr(task, "classes", None)
    if labels not in TARGETS:
        raise ModelError(f"{spec} must have .labels, one of {', '.join(TARGETS)}. Got {labels!r}")
    if not isinstance(classes, int) or not 1 <= classes <= MOST_CLASSES:
        raise ModelError(f"{spec} must have .classes, the number of classes, 1 to {MOST_CLASSES}. Got {classes!r}")
    return task


def check_task(downstream: Downstream, crops: Tensor, device: torch.device) -> None:
    """Try a copy of the task on the first crops, uint8 (B, 2, H, W), with their visible planes as the fused images.

    Raises ModelError unless it returns a finite scalar and passes a finite gradient back to the image.
    """
    spec = downstream.config.spec
    fused = to_unit(crops.to(device))[1].requires_grad_()
    try:
        task = deepcopy(downstream.task).to(device)
        loss = task(fused, downstream.targets[: len(crops)].to(device))
    except Exception as error:  # the user's own code
        raise ModelError(f"{spec} fails on the first crops: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(loss, Tensor) or loss.shape != ():
        got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ModelError(f"{spec} must return a scalar loss, a tensor of shape (). Got {got}")
    if not loss.isfinite():
        raise ModelError(f"{spec} must return a finite loss. Got {loss.item()} on the first crops")
    learnt = [parameter for parameter in task.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, [fused, *learnt], allow_unused=True) if loss.requires_grad else [None]
    if gradients[0] is None:
        raise ModelError(f"{spec} passes no gradient to the fused image, so the student would learn nothing from it")
    if not all(each.isfinite().all() for each in gradients if each is not None):
        raise ModelError(
            f"{spec} has a gradient that is NaN or infinite on the first crops; add a small number before a square "
            "root, a norm, a logarithm or a division"
        )


def save_task(path: PathLike, downstream: Downstream) -> None:
    """Write the task's weights, with its spec and classes in the metadata, whole or not at all. Raises FileError."""
    task = downstream.task
    # Cloned, since safetensors refuses weights that two names share.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in task.state_dict().items()}
    write_safetensors(path, tensors, {"task": downstream.config.spec, "classes": str(task.classes)})


def head_of(kind: Callable[[int], nn.Module], argument: str) -> nn.Module:
    """Return a head with random weights if ``argument`` is CLASSES, or the frozen head of a run if it is a FILE.

    Raises IrvisError.
    """
    if argument.isdecimal() and 1 <= int(argument) <= MOST_CLASSES:
        return kind(int(argument))
    if not Path(argument).is_file():
        raise FileError(
            f"a head needs 1 to {MOST_CLASSES} classes, such as boxes=6, or the file of a head. Got {argument!r}"
        )
    try:
        with safe_open(argument, "pt") as file:
            head = kind(int((file.metadata() or {})["classes"]))
            head.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118, not a dict
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"not a head of this kind: {argument} ({one_line(error, 200)})") from error
    return head.requires_grad_(False)
