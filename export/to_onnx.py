"""Checkpoint to ONNX, checked before it is written: ``irvis export student.safetensors -o student.onnx``."""

import argparse
import inspect
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from irvis.export.check_onnx import NEWEST_IR, find_obstacles
from irvis.export.deploy import DeployStudent
from irvis.runtime.errors import ModelError, one_line
from irvis.runtime.files import replacing, sha256
from irvis.runtime.frames import split_luminance
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.runtime.samples import SCENES, make_scene
from irvis.runtime.sizes import DEFAULT_SIZE, MINIMUM, format_size, parse_size
from irvis.student.checkpoint import load_student
from irvis.student.network import Student

OPSET = 13
TOLERANCE = 1e-5  # of ONNX Runtime against PyTorch, on planes in [0, 1]

Planes = Tuple[np.ndarray, np.ndarray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``irvis export``."""
    parser.add_argument("checkpoint", type=Path, help="student.safetensors, or a .pt or .pth state dict")
    parser.add_argument("-o", "--output", type=Path, help="ONNX to write (default: beside the checkpoint)")
    parser.add_argument(
        "--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="frame size (default: 480x640)"
    )
    parser.add_argument("--dynamic", action="store_true", help="take any size from 16x16 up; engines want a fixed one")
    parser.add_argument("--plain", action="store_true", help="the network as the paper has it, without the rewrites")
    parser.add_argument("--pairs", type=Path, help="folder with ir/ and vi/ to check on (default: generated samples)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis export``."""
    output = arguments.output or arguments.checkpoint.with_suffix(".onnx")
    size = None if arguments.dynamic else arguments.size
    student = load_student(arguments.checkpoint)
    properties = {"checkpoint": arguments.checkpoint.name, "checkpoint_sha256": sha256(arguments.checkpoint)}
    pairs = _read_pairs(arguments.pairs) if arguments.pairs else _sample_pairs(arguments.size)
    error = export(student, output, size, plain=arguments.plain, properties=properties, pairs=pairs)
    form = "plain" if arguments.plain else "deploy"
    print(
        f"wrote {output}: {form} form, {format_size(size) if size else 'any size'}, opset {OPSET}, "
        f"{output.stat().st_size / 1e3:.0f} kB; largest difference from PyTorch on {len(pairs)} pairs: {error:.1e}"
    )
    return 0


def export(
    student: Student,
    output: Path,
    size: Optional[Tuple[int, int]] = DEFAULT_SIZE,
    *,
    plain: bool = False,
    properties: Optional[Dict[str, str]] = None,
    pairs: Optional[List[Planes]] = None,
) -> float:
    """Write the student as ONNX, once it has passed the checks; give the largest difference from PyTorch on ``pairs``.

    Args:
        student: the trained network.
        output: the ONNX. Its inputs are ``infrared`` and ``visible``, its output ``fused``: float32 (1, 1, H, W).
        size: (H, W), or None for any.
        plain: keep the paper's graph instead of the deploy form.
        properties: further metadata.
        pairs: uint8 planes (H, W) to compare on; None takes generated samples.

    Raises ModelError, and writes nothing, where a check fails: ``onnx.checker``, TensorRT 8.5's operators, or ONNX
    Runtime against PyTorch to 1e-5.
    """
    student = student.eval()
    network: nn.Module = student if plain else DeployStudent(student).eval()
    with replacing(output) as temporary:
        _to_onnx(network, temporary, size)
        model = onnx.load(temporary)
        model.ir_version = min(model.ir_version, NEWEST_IR)
        _describe(model, size, plain, properties or {})
        onnx.save(model, temporary)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ModelError(f"the exported graph is not valid ONNX: {one_line(error)}") from error
        obstacles = find_obstacles(model)
        if obstacles:
            raise ModelError("TensorRT 8.5 would not take this graph: " + "; ".join(obstacles))
        error_max = largest_difference(student, temporary, pairs or _sample_pairs(size or DEFAULT_SIZE), size)
        if not error_max <= TOLERANCE:
            raise ModelError(f"ONNX Runtime and PyTorch differ by {error_max:.1e}, over {TOLERANCE:.0e}")
    return error_max


def largest_difference(student: Student, model: Path, pairs: List[Planes], size: Optional[Tuple[int, int]]) -> float:
    """Give max |ONNX Runtime - PyTorch| over the pairs, uint8 planes (H, W), resized where ``size`` is fixed."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for planes in pairs:
        if size and planes[0].shape != size:
            planes = tuple(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane in planes)
        infrared, visible = (plane[None, None].astype(np.float32) / 255 for plane in planes)
        (found,) = session.run(["fused"], {"infrared": infrared, "visible": visible})
        with torch.inference_mode():
            wanted = student(torch.from_numpy(infrared), torch.from_numpy(visible)).numpy()
        difference = float(np.abs(found - wanted).max())
        # NaN compares false with everything, so it must not be lost in a maximum.
        worst = max(worst, difference) if np.isfinite(difference) else float("inf")
    return worst


def _to_onnx(network: nn.Module, path: Path, size: Optional[Tuple[int, int]]) -> None:
    plane = torch.zeros(1, 1, *(size or (MINIMUM, MINIMUM)))  # of any size, the graph is the same traced at the least
    axes = {name: {2: "height", 3: "width"} for name in ("infrared", "visible", "fused")}
    # The newer exporter emits opset 18 whatever it is asked for, which TensorRT 8.5 silently misreads.
    legacy: Dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the exporter's age, and of checks of shapes that tracing fixes
        torch.onnx.export(
            network,
            (plane, plane),
            str(path),
            opset_version=OPSET,
            input_names=["infrared", "visible"],
            output_names=["fused"],
            dynamic_axes=None if size else axes,
            **legacy,
        )


def _describe(model: onnx.ModelProto, size: Optional[Tuple[int, int]], plain: bool, properties: Dict[str, str]) -> None:
    model.producer_name, model.producer_version = "irvis", metadata.version("irvis")
    entries = {
        "irvis_version": metadata.version("irvis"),
        "form": "plain" if plain else "deploy",
        "size": format_size(size) if size else "any",
        "inputs": "infrared, visible: luminance (BT.601), float32 (1, 1, H, W) in [0, 1]",
        "output": "fused: luminance, float32 (1, 1, H, W) in (0, 1)",
        **properties,
    }
    onnx.helper.set_model_props(model, entries)


def _sample_pairs(size: Tuple[int, int]) -> List[Planes]:
    scenes = (make_scene(name, *size) for name in SCENES)
    return [(infrared, split_luminance(visible).y) for infrared, visible in scenes]


def _read_pairs(folder: Path) -> List[Planes]:
    return [read_luminance(pair) for pair in pairs_of(folder)]
