"""Checkpoint to ONNX, checked before it is written: ``irvis export student.safetensors -o student.onnx``."""

import argparse
import inspect
import io
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from irvis.export.check_onnx import NEWEST_IR, find_obstacles
from irvis.export.deploy import DeployStudent
from irvis.export.fixed_shapes import drop_unused, fix_shapes
from irvis.export.frames_module import FramesModule, largest_level_difference
from irvis.export.sample_frames import read_frames, resized
from irvis.export.transposes import share_transposes
from irvis.runtime.errors import FileError, ModelError, one_line, printable
from irvis.runtime.files import check_outputs, replacing, sha256
from irvis.runtime.frames import split_luminance
from irvis.runtime.luminance import read_luminance
from irvis.runtime.pairs import pairs_of
from irvis.runtime.providers import CPU_ONLY
from irvis.runtime.samples import SCENES, make_scene
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import DEFAULT_SIZE, MINIMUM, format_size, parse_size
from irvis.runtime.version import irvis_version
from irvis.student.checkpoint import load_student
from irvis.student.network import Student

OPSET = 13
# The newer exporter emits opset 18 whatever it is asked for, which TensorRT 8.5 silently misreads.
LEGACY: Dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
TOLERANCE = 1e-5  # of ONNX Runtime against PyTorch, on planes in [0, 1]
PLAIN_TOLERANCE = 1e-4  # of the plain form, which sums H x W squares in one run: float32 itself loses digits in it
# Of a student with strides: if they do not divide the frame, positions between pixels are rounded to float32.
STRIDED_TOLERANCE = 5e-5
LEVELS_TOLERANCE = 1  # the same on frames, in grey levels: a value midway between two may round to either

# Infrared and visible: two uint8 planes (H, W), or, as frames, uint8 (H, W) and BGR (H, W, 3).
Planes = Tuple[np.ndarray, np.ndarray]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis export``."""
    parser.add_argument(
        "checkpoint", type=Path, help="student.safetensors, a .pt or .pth state dict, or irvis's own: student or fast"
    )
    parser.add_argument("-o", "--output", type=Path, help="ONNX to write (default: beside the checkpoint)")
    parser.add_argument(
        "--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="frame size (default: 480x640)"
    )
    parser.add_argument("--dynamic", action="store_true", help="take any size from 16x16 up; engines want a fixed one")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="the network as in the paper, without the rewrites; useful as a teacher, since it keeps the feature F_f",
    )
    parser.add_argument(
        "--frames",
        action="store_true",
        help="take and return uint8 frames, with colour and scaling inside (for ONNX Runtime; engines are built from "
        "planes)",
    )
    parser.add_argument("--pairs", type=Path, help="folder with ir/ and vi/ to check on (default: generated samples)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis export``."""
    if not arguments.checkpoint.name:  # "", as of a shell's variable that is not set
        raise FileError(f"checkpoint not found: {arguments.checkpoint}")
    output = arguments.output or arguments.checkpoint.with_suffix(".onnx")
    checkpoint = find_model(arguments.checkpoint, ".safetensors")
    check_outputs([output], [checkpoint])
    if output.suffix.lower() != ".onnx":
        raise FileError(f"an ONNX is a .onnx file. Got {output}")
    size = None if arguments.dynamic else arguments.size
    student = load_student(checkpoint)
    properties = {"checkpoint": printable(checkpoint.name), "checkpoint_sha256": sha256(checkpoint)}
    plain, frames = arguments.plain, arguments.frames
    pairs = _read_pairs(arguments.pairs, frames) if arguments.pairs else sample_pairs(arguments.size, frames)
    error = export(student, output, size, plain=plain, frames=frames, properties=properties, pairs=pairs)
    form = ("plain" if plain else "deploy") + (" form with frames" if frames else " form")
    print(
        f"wrote {output}: {form}, {format_size(size) if size else 'any size'}, opset {OPSET}, "
        f"{output.stat().st_size / 1e3:.0f} kB; largest difference from PyTorch on {len(pairs)} pairs: "
        + (f"{error:.0f} grey levels" if frames else f"{error:.1e}")
    )
    return 0


def export(
    student: Student,
    output: Path,
    size: Optional[Tuple[int, int]] = DEFAULT_SIZE,
    *,
    plain: bool = False,
    frames: bool = False,
    properties: Optional[Dict[str, str]] = None,
    pairs: Optional[List[Planes]] = None,
) -> float:
    """Write the student as ONNX if it passes the checks; return the largest difference from PyTorch on ``pairs``.

    Args:
        student: the trained network.
        output: the ONNX. Its inputs are ``infrared`` and ``visible``, its output ``fused``: float32 (1, 1, H, W), or
            with ``frames`` uint8 (H, W), BGR (H, W, 3) and BGR (H, W, 3).
        size: (H, W), or None for any.
        plain: keep the paper's graph instead of the deploy form.
        frames: take and return frames instead of planes; the difference is then in grey levels.
        properties: further metadata.
        pairs: uint8 planes (H, W), or frames, to compare on; None takes generated samples.

    Raises ModelError, and writes nothing, if a check fails: ``onnx.checker``, TensorRT 8.5's operators, or ONNX Runtime
    against PyTorch, to 1e-5 (5e-5 for a student with strides, 1e-4 in plain form), or to one grey level for frames.
    """
    student = student.eval()
    network: nn.Module = student if plain else DeployStudent(student).eval()
    if frames:
        network = FramesModule(network).eval()
    pairs = pairs or sample_pairs(size or DEFAULT_SIZE, frames)
    with replacing(output) as temporary:
        write_graph(network, temporary, size, frames)
        model = onnx.load(temporary)
        if size:
            model, _ = fix_shapes(model)  # which leaves no arithmetic of shapes to the builder
            drop_unused(model.graph)
        model.ir_version = min(model.ir_version, NEWEST_IR)
        share_transposes(model)
        _describe(model, size, plain, frames, properties or {})
        onnx.save(model, temporary)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ModelError(f"the exported graph is not valid ONNX: {one_line(error)}") from error
        obstacles = find_obstacles(model)
        if obstacles:
            raise ModelError("TensorRT 8.5 would not take this graph: " + "; ".join(obstacles))
        if frames:
            error_max: float = largest_level_difference(student, _open_session(temporary), pairs, size)
            if error_max > LEVELS_TOLERANCE:
                raise ModelError(f"ONNX Runtime and PyTorch differ by {error_max} grey levels, over {LEVELS_TOLERANCE}")
            return error_max
        error_max = largest_difference(student, temporary, pairs, size)
        strided = any(node.op_type == "Resize" for node in model.graph.node)
        tolerance = PLAIN_TOLERANCE if plain else STRIDED_TOLERANCE if strided else TOLERANCE
        if error_max > tolerance:
            raise ModelError(f"ONNX Runtime and PyTorch differ by {error_max:.1e}, over {tolerance:.0e}")
    return error_max


def largest_difference(student: Student, model: Path, pairs: List[Planes], size: Optional[Tuple[int, int]]) -> float:
    """Return max |ONNX Runtime - PyTorch| over the pairs, uint8 planes (H, W), resized if ``size`` is fixed."""
    session = _open_session(model)
    worst = 0.0
    for planes in pairs:
        infrared, visible = (plane[None, None].astype(np.float32) / 255 for plane in resized(planes, size))
        (found,) = session.run(["fused"], {"infrared": infrared, "visible": visible})
        with torch.inference_mode():
            wanted = student(torch.from_numpy(infrared), torch.from_numpy(visible)).numpy()
        difference = float(np.abs(found - wanted).max())
        # NaN compares false with everything, so it must not be lost in a maximum.
        worst = max(worst, difference) if np.isfinite(difference) else float("inf")
    return worst


def _open_session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Its bytes, because a path must be UTF-8 there.
    return onnxruntime.InferenceSession(model.read_bytes(), options, providers=CPU_ONLY)


def write_graph(network: nn.Module, path: Path, size: Optional[Tuple[int, int]], frames: bool) -> None:
    """Write the exporter's graph of a network of two planes, or of uint8 frames, unchecked; ``size`` None: any."""
    height, width = size or (MINIMUM, MINIMUM)  # for any size, tracing at the smallest gives the same graph
    plane = torch.zeros(1, 1, height, width)
    example = plane, plane
    if frames:
        example = torch.zeros(height, width, dtype=torch.uint8), torch.zeros(height, width, 3, dtype=torch.uint8)
    axis = 0 if frames else 2
    axes = {name: {axis: "height", axis + 1: "width"} for name in ("infrared", "visible", "fused")}
    graph: Any = io.BytesIO()  # which the exporter takes, though it declares paths alone; those must be UTF-8
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about the exporter's age, and about checks of shapes that tracing fixes
        torch.onnx.export(
            network,
            example,
            graph,
            opset_version=OPSET,
            input_names=["infrared", "visible"],
            output_names=["fused"],
            dynamic_axes=None if size else axes,
            **LEGACY,
        )
    path.write_bytes(graph.getvalue())


def _describe(
    model: onnx.ModelProto, size: Optional[Tuple[int, int]], plain: bool, frames: bool, properties: Dict[str, str]
) -> None:
    if frames:
        inputs = "infrared: uint8 (H, W); visible: uint8 BGR (H, W, 3)"
        output = "fused: uint8 BGR (H, W, 3), its luminance fused, its colour the visible's"
    else:
        inputs = "infrared, visible: luminance (BT.601), float32 (1, 1, H, W) in [0, 1]"
        output = "fused: luminance, float32 (1, 1, H, W) in (0, 1)"
    model.producer_name, model.producer_version = "irvis", irvis_version()
    entries = {
        "irvis_version": irvis_version(),
        "form": "plain" if plain else "deploy",
        "size": format_size(size) if size else "any",
        "frames": str(frames).lower(),
        "inputs": inputs,
        "output": output,
        **properties,
    }
    onnx.helper.set_model_props(model, entries)


def sample_pairs(size: Tuple[int, int], frames: bool = False) -> List[Planes]:
    """Return generated pairs, uint8: infrared (H, W), and the visible's luminance (H, W) or BGR (H, W, 3)."""
    scenes = [make_scene(name, *size) for name in SCENES]
    return scenes if frames else [(infrared, split_luminance(visible).y) for infrared, visible in scenes]


def _read_pairs(folder: Path, frames: bool) -> List[Planes]:
    return [read_frames(pair) if frames else read_luminance(pair) for pair in pairs_of(folder)]
