"""List the networks that can teach the student: ``irvis teachers``; try given ones: ``irvis teachers --check SPEC``."""

import argparse
import time
from typing import Tuple

import torch
from torch import Tensor

from irvis.runtime.columns import align
from irvis.runtime.errors import ModelError
from irvis.runtime.frames import split_luminance
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import NAMES
from irvis.runtime.sizes import format_size
from irvis.student.datasets import unit_planes
from irvis.student.teacher_cache import BATCH
from irvis.student.teachers.load import FORMS, Teacher, beyond_unit, count_parameters, open_teacher
from irvis.student.teachers.published import MODULES, network_class

HEADER = ("name", "parameters", "feature", "sides", "8-bit cast", "on github.com", "licence")
CHECK_SIZE = (128, 128)  # (H, W), the size of the training crops
CHECK_RUNS = 3  # the fastest counts; an untimed run comes first

HOW = f"""\
sides: height and width are padded to a multiple of this. weights: your own copy of the authors' file.

A teacher is given in one of these forms:

  {FORMS[0]}
      one of these networks, in upper or lower case, and its weights: .safetensors or a file that torch.save wrote. No
      code in the file is run.
  {FORMS[1]}
      a student trained by irvis, with any strides; or one shipped with it, by its name: {", ".join(NAMES)}.
  {FORMS[2]}
      any nn.Module, made by a function without arguments that is imported with the current folder on the path. It is
      called as module(infrared, visible), in that order, on float32 planes of (B, 1, H, W) in [0, 1], and returns the
      fused plane, with the same shape and range, or a tuple that starts with it. The feature is the input, or the
      output, of the submodule of that name.
  {FORMS[3]}
      any ONNX file with two inputs, infrared and visible, (B, 1, H, W) in [0, 1]. The fused plane and the feature may
      be any two tensors in it, outputs or not. inputs= gives infrared:visible if names and order do not tell.

Try one: irvis teachers --check SPEC"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis teachers``."""
    parser.add_argument("--check", nargs="+", metavar="SPEC", help="open these teachers, run them on a generated pair")
    parser.add_argument("--device", default="cpu", help="where the check runs (default: cpu)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis teachers``."""
    if not arguments.check:
        papers = [f"{name}: {network_class(name).paper}" for name in MODULES]
        print("\n".join([align([HEADER, *map(_row, MODULES)]), "", HOW, "", "Papers:", "", *papers]))
        return 0
    infrared, visible = sample_planes()
    for spec in arguments.check:
        print(check(open_teacher(spec, arguments.device), infrared, visible, arguments.device), flush=True)
    return 0


def check(teacher: Teacher, infrared: Tensor, visible: Tensor, device: str) -> str:
    """Run a teacher on one pair and return a line about it. Raises ModelError, also if an output is not finite."""
    feature, fused = teacher(*(plane.repeat(BATCH, 1, 1, 1) for plane in (infrared, visible)))  # as training calls it
    if not (feature.isfinite().all() and fused.isfinite().all()):
        raise ModelError(f"{teacher.name} gives NaN or infinity; check its weights")
    times_ms = []
    for _ in range(CHECK_RUNS):
        started = time.perf_counter()
        teacher(infrared, visible)[1].cpu()  # a copy waits until the device is done
        times_ms.append((time.perf_counter() - started) * 1e3)
    shape = " x ".join(str(side) for side in feature.shape[1:])
    beyond = beyond_unit(fused)
    return (
        f"{teacher.name}: feature {shape}, fused {float(fused.min()):.3f} to {float(fused.max()):.3f}, "
        f"{teacher.parameters:,} parameters, {min(times_ms):.1f} ms per {format_size(infrared.shape[2:])} on {device}"
        f"{f'. Warning: {beyond}' if beyond else ''}"
    )


def sample_planes() -> Tuple[Tensor, Tensor]:
    """Return a generated pair: infrared and visible luminance, float32 (1, 1, 128, 128) in [0, 1]."""
    infrared, visible = make_scene("street", *CHECK_SIZE)
    first, second = unit_planes(infrared, split_luminance(visible).y)
    return first, second


def _row(name: str) -> Tuple[str, ...]:
    network_type = network_class(name)
    with torch.device("meta"):  # counts without allocating memory or drawing the initial weights
        parameters = count_parameters(network_type())
    sides = "any" if network_type.multiple == 1 else f"x {network_type.multiple}"
    shown = network_type.cast, network_type.repository, network_type.licence
    return (name, f"{parameters:,}", network_type.feature, sides, *shown)
