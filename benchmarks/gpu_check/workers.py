"""Two programs that take turns on one GPU: the engines, and PyTorch in its own interpreter.

The driver writes lines of JSON to a worker's stdin and reads one line in reply to each. ``{"name": ..., "runs": N,
"plane": FILE}`` times a form N times and returns ``total_ms``, from planes on the host to the plane on the host, and
``compute_ms``, on the GPU alone; the first time, FILE gets the fused plane. Whatever else libraries print goes to
stderr.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from irvis.export.sample_frames import to_planes
from irvis.runtime.samples import make_scene
from irvis.runtime.sizes import parse_size

WARMUP_RUNS = 20


class Form(NamedTuple):
    """A way to fuse one pair prepared beforehand; ``run`` returns the plane and the GPU's own time in ms."""

    run: Callable[[], Tuple[np.ndarray, float]]
    notes: Dict[str, Any]


def serve(open_form: Callable[[str], Form]) -> None:
    """Answer the driver until it closes stdin; a form that fails is answered with ``failed``."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    forms: Dict[str, Form] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _measure(forms, open_form, asked)
        except Exception as error:  # of TensorRT, pycuda or torch: the others go on
            answer = {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _measure(forms: Dict[str, Form], open_form: Callable[[str], Form], asked: Dict[str, Any]) -> Dict[str, Any]:
    name = asked["name"]
    answer: Dict[str, Any] = {}
    if name not in forms:
        begun = time.perf_counter()
        forms[name] = open_form(name)
        plane, _ = forms[name].run()
        answer = {"open_and_first_s": round(time.perf_counter() - begun, 3), **forms[name].notes}
        np.save(asked["plane"], plane)
        for _ in range(WARMUP_RUNS):
            forms[name].run()
    total_ms: List[float] = []
    compute_ms: List[float] = []
    for _ in range(3):  # so that the clock rises again after the other worker's turn
        forms[name].run()
    for _ in range(asked["runs"]):
        begun = time.perf_counter()
        _, device_ms = forms[name].run()
        total_ms.append((time.perf_counter() - begun) * 1e3)
        compute_ms.append(device_ms)
    return {**answer, "total_ms": total_ms, "compute_ms": compute_ms}


def scene(size: Tuple[int, int]) -> Tuple[np.ndarray, np.ndarray]:
    """Return the frames that all forms fuse: uint8 (H, W) and (H, W, 3)."""
    return make_scene("street", *size)


def open_engine(text: str) -> Form:
    """Open a TensorRT engine by its path; engines of frames are timed from frames to frame."""
    from irvis.runtime.backend_tensorrt import TensorRTBackend

    backend = TensorRTBackend(Path(text))
    assert backend.size is not None
    frames = scene(backend.size)
    inputs = frames if backend.takes_frames else tuple(to_planes(frames))
    notes = {"activation_bytes": int(backend._engine.device_memory_size)}

    def run() -> Tuple[np.ndarray, float]:
        fused = backend.run(*inputs)
        assert backend.compute_ms is not None
        return fused, backend.compute_ms

    return Form(run, notes)


def open_torch(text: str) -> Form:
    """Open a network given as ``NETWORK WAY HEIGHTxWIDTH``.

    NETWORK is a shipped student, ``deploy`` or a published NAME=FILE; WAY is eager, half, compile or half-compile.
    """
    import torch

    name, way, size_text = text.rsplit(" ", 2)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # FP32 means FP32
    network = _torch_network(name).cuda().eval()
    half = "half" in way
    network = network.half() if half else network
    run_network: Any = torch.compile(network) if "compile" in way else network
    host = torch.from_numpy(to_planes(scene(parse_size(size_text)))).pin_memory()
    started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def run() -> Tuple[np.ndarray, float]:
        with torch.inference_mode():
            planes = host.cuda(non_blocking=True)
            planes = planes.half() if half else planes
            started.record()
            fused = run_network(planes[None, :1], planes[None, 1:])
            ended.record()
            fused = fused if isinstance(fused, torch.Tensor) else fused[1]  # published networks return a feature too
            plane = fused[0, 0].float().cpu().numpy()
        return plane, started.elapsed_time(ended)

    return Form(run, {"torch": torch.__version__})


def _torch_network(name: str) -> Any:
    from irvis.export.deploy import DeployStudent
    from irvis.runtime.shipped import NAMES, find_model
    from irvis.student.checkpoint import load_student
    from irvis.student.teachers.load import PublishedTeacher

    if name in (*NAMES, "deploy"):
        student = load_student(find_model(name if name in NAMES else None, ".safetensors"))
        return DeployStudent(student) if name == "deploy" else student
    published, _, weights = name.partition("=")
    return PublishedTeacher(published, Path(weights)).network


if __name__ == "__main__":
    serve({"engines": open_engine, "torch": open_torch}[sys.argv[1]])
