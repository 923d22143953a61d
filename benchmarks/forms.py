"""The forms of a student that are timed against each other: eager PyTorch, ONNX, engines; each bound to one pair."""

import argparse
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np
import torch
from torch import nn

from irvis.benchmarks.turns import Run
from irvis.export.sample_frames import Frames, to_planes
from irvis.export.to_onnx import export
from irvis.runtime.backend import Backend, open_backend
from irvis.runtime.errors import ModelError
from irvis.runtime.frames import join_luminance, split_luminance
from irvis.runtime.providers import CPU
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_count, parse_size


def largest_difference(found: np.ndarray, fused: np.ndarray, visible: np.ndarray) -> float:
    """Return max |found - fused| for a range of 1; a frame is compared with the frame the runtime makes of ``fused``.

    Args:
        found: float32 (H, W), or uint8 BGR (H, W, 3).
        fused: the reference, float32 (H, W).
        visible: uint8 BGR (H, W, 3).
    """
    if found.dtype == np.uint8:
        return float(cv2.absdiff(found, join_luminance(fused, split_luminance(visible))).max()) / 255
    return float(np.abs(found - fused).max())


def run_eager(student: nn.Module, device: str, planes: np.ndarray) -> np.ndarray:
    """Fuse float32 (2, H, W) in PyTorch, on the CPU or a GPU, as a program without this package would."""
    with torch.inference_mode():
        infrared, visible = torch.from_numpy(planes).to(device)[:, None, None]
        return student(infrared, visible)[0, 0].cpu().numpy()


def export_form(network: nn.Module, path: Path, frames: Frames) -> None:
    """Export a network of planes unchanged, for the frames' size, and check it on them. Raises ModelError."""
    infrared, visible = frames
    pairs = [(infrared, split_luminance(visible).y)]
    export(network, path, infrared.shape, plain=True, pairs=pairs)  # type: ignore[arg-type]


def open_form(model: Path, frames: Frames, arguments: argparse.Namespace, stack: ExitStack) -> Tuple[Backend, Run]:
    """Open a model, which ``stack`` closes, and bind the frames to it. Raises FileError and ModelError."""
    backend = stack.enter_context(closing(open_backend(model, [arguments.provider], arguments.threads)))
    size = frames[0].shape
    if backend.size is not None and backend.size != size:
        raise ModelError(
            f"{model} takes only {format_size(backend.size)}, not --size {format_size(size)}; make it for that size"
        )
    return backend, partial(backend.run, *(frames if backend.takes_frames else to_planes(frames)))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for what is timed, and how."""
    parser.add_argument(
        "checkpoint",
        type=partial(find_model, suffix=".safetensors"),
        nargs="?",
        default=find_model(None, ".safetensors"),
        help="student.safetensors, or a .pt or .pth state dict; student, the default, or fast, which irvis ships",
    )
    parser.add_argument(
        "--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="frame size (default: 480x640)"
    )
    parser.add_argument("--rounds", type=parse_count, default=30, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--threads", type=parse_count, default=2, metavar="N", help="CPU threads (default: %(default)s)"
    )
    parser.add_argument(
        "--provider", default=CPU, metavar="NAME", help="execution provider of ONNX Runtime (default: %(default)s)"
    )
