"""Time students and the published networks in turn in one run, beside their quality: ``irvis peers``.

Each runs once per round, in a newly drawn order, so that other load on the machine affects all alike. A latency spans
from planes in the host's memory to the fused plane there. What fails is left out with a message; the others go on.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import nn

from irvis.benchmarks import complexity
from irvis.benchmarks.forms import add_common_arguments, export_form, largest_difference, open_form, run_eager
from irvis.benchmarks.machine.board import read_board
from irvis.benchmarks.peers.export import FusedPlane, export_published, named_weights
from irvis.benchmarks.peers.quality import Quality, measure_quality, read_quality
from irvis.benchmarks.peers.tables import DEPLOY_FORM, PYTORCH, STUDENT, Document, draw, to_markdown, to_text
from irvis.benchmarks.published import METRICS
from irvis.benchmarks.turns import Run, time_forms
from irvis.export.deploy import DeployStudent
from irvis.export.sample_frames import to_planes
from irvis.export.to_onnx import sample_pairs
from irvis.runtime.errors import IrvisError, ModelError, one_line
from irvis.runtime.files import check_outputs, write_json, write_text
from irvis.runtime.luminance import read_sizes
from irvis.runtime.pairs import files_of, pairs_of
from irvis.runtime.providers import CPU
from irvis.runtime.samples import make_scene
from irvis.runtime.shipped import NAMES, find_model
from irvis.runtime.version import irvis_version
from irvis.student.checkpoint import load_student
from irvis.student.teachers.load import load_published
from irvis.student.teachers.published import MODULES, find_weights

SCHEMA_VERSION, KIND = 1, "peers"
ONNXRUNTIME, TENSORRT = "ONNX Runtime", "TensorRT"
RUNTIMES = {"pytorch": PYTORCH, "onnxruntime": ONNXRUNTIME}


class Form(NamedTuple):
    """One method in one runtime, ready to run."""

    method: str
    runtime: str
    backend: str
    run: Run
    difference: Optional[float] = None  # from the same method in PyTorch, for a range of 1; None if that was not run


def own_network(method: str, students: Dict[str, Path]) -> nn.Module:
    """Return one of the students, or its deploy form, in eval mode."""
    name, deploy, _ = method.partition(DEPLOY_FORM)
    network = load_student(students[name])
    return DeployStudent(network).eval() if deploy else network


def students_of(arguments: argparse.Namespace) -> Dict[str, Path]:
    """Return the checkpoints by their names in tables: ``student``, and each ``--student`` by its file name's stem.

    Raises IrvisError if two have the same name, or if an engine is of a network that is not compared, or
    the second of one.
    """
    students = {STUDENT: arguments.checkpoint}
    for checkpoint in arguments.student:
        if checkpoint.stem in (*students, *MODULES):
            raise IrvisError(f"--student {checkpoint}: the name {checkpoint.stem} is already taken; rename the file")
        students[checkpoint.stem] = checkpoint
    known = ", ".join((*students, *MODULES))
    methods = [method for method, _ in arguments.engine]
    for method, file in arguments.engine:
        if methods.count(method) > 1:
            raise IrvisError(f"--engine {method} is given {methods.count(method)} times; time one engine of it a run")
        if method.partition(DEPLOY_FORM)[0] not in (*students, *MODULES):
            raise IrvisError(f"--engine {method}={file} is of no network compared here: {known}")
    return students


def open_forms(
    students: Dict[str, Path], weights: Dict[str, Path], arguments: argparse.Namespace, stack: ExitStack
) -> List[Form]:
    """Open every method in every runtime and run it once; what fails is left out with a message on stderr."""
    device = "cuda" if arguments.provider != CPU and torch.cuda.is_available() else "cpu"
    frames = make_scene("street", *arguments.size)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

    def in_pytorch(method: str) -> Form:
        if method in weights:
            published = load_published(method, weights[method])
            if any(side % published.multiple for side in arguments.size):
                raise ModelError(f"each side of a frame must be a multiple of {published.multiple} pixels")
            network: nn.Module = FusedPlane(published).eval()
        else:
            network = own_network(method, students)
        run = partial(run_eager, network.to(device), device, to_planes(frames))
        return Form(method, PYTORCH, f"PyTorch {torch.__version__}, {device}", run)

    def in_onnxruntime(method: str) -> Form:
        model = folder / f"{method}.onnx"
        if method in weights:
            pairs = sample_pairs(arguments.size)[:1]
            export_published(load_published(method, weights[method]), model, arguments.size, pairs)
        else:
            export_form(own_network(method, students), model, frames)
        return from_file(method, ONNXRUNTIME, model)

    def from_file(method: str, runtime: str, model: Path) -> Form:
        backend, run = open_form(model, frames, arguments, stack)
        return Form(method, runtime, backend.name, run)

    opens = {PYTORCH: in_pytorch, ONNXRUNTIME: in_onnxruntime}
    methods = [*(name + form for name in students for form in ("", DEPLOY_FORM)), *weights]
    wanted: List[Tuple[str, str, Callable[[], Form]]] = []
    for runtime in (RUNTIMES[name] for name in arguments.runtime):
        wanted += [(method, runtime, partial(opens[runtime], method)) for method in methods]
    wanted += [(method, TENSORRT, partial(from_file, method, TENSORRT, file)) for method, file in arguments.engine]
    forms: List[Form] = []
    eager_planes: Dict[str, np.ndarray] = {}
    for method, runtime, make in wanted:
        print(f"opening {method}, {runtime}", file=sys.stderr, flush=True)
        try:
            form = make()
            fused = form.run()
        except (IrvisError, RuntimeError, MemoryError) as error:  # out of GPU memory, PyTorch raises RuntimeError
            print(f"left out: {method}, {runtime}: {one_line(error, 200)}", file=sys.stderr, flush=True)
            continue
        if runtime == PYTORCH:
            eager_planes[method] = fused
        known = method in eager_planes
        difference = largest_difference(fused, eager_planes[method], frames[1]) if known else None
        forms.append(form._replace(difference=difference))
    if not forms:
        raise IrvisError("nothing is left to time; see the lines above")
    return forms


def measure(arguments: argparse.Namespace) -> Document:
    """Time all forms, count their cost, and return the document that the tables are made from. Raises IrvisError."""
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = False  # eager PyTorch is the reference for the others
    students = students_of(arguments)
    weights = find_weights(arguments.weights) if arguments.weights else {}
    for name in (name for name in MODULES if name not in weights):
        print(f"left out: {name}, whose weights were not found (--weights FOLDER)", file=sys.stderr)
    quality, source = Quality("", 0, {}), arguments.quality
    if source is not None and not source.is_dir():
        quality = read_quality(source, students)
    elif source is not None:
        read_sizes(pairs_of(source))
    with ExitStack() as stack:
        forms = open_forms(students, weights, arguments, stack)
        latencies = time_forms({f"{form.method}\n{form.runtime}": form.run for form in forms}, arguments.rounds)
    if source is not None and source.is_dir():
        opened = {form.method for form in forms}
        quality = measure_quality(source, students, {name: file for name, file in weights.items() if name in opened})
    board = read_board()
    methods = []
    for name in dict.fromkeys(form.method for form in forms):
        if name in MODULES:
            cost = complexity.count_published(name, arguments.size)
        else:
            cost = complexity.count(name, own_network(name, students), arguments.size)
        timed = {
            form.runtime: {
                "backend": form.backend,
                "max_difference": form.difference,
                "latencies_ms": latencies[f"{name}\n{form.runtime}"],
            }
            for form in forms
            if form.method == name
        }
        counted = {"macs": cost.macs, "thop_macs": cost.thop_macs, "parameters": cost.parameters}
        methods.append({"name": name, **counted, "quality": quality.of(name), "forms": timed})
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "irvis": irvis_version(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "cpu": board.cpu,
            "gpu": (board.gpu or board.module) if arguments.engine or arguments.provider != CPU else None,
            "os": board.os,
            "backends": sorted({form.backend for form in forms}),
        },
        "size": {"height": arguments.size[0], "width": arguments.size[1]},
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "quality_of": {"data_set": quality.data_set, "pairs": quality.pairs} if quality.pairs else None,
        "methods": methods,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis peers``."""
    add_common_arguments(parser)
    parser.add_argument(
        "--student",
        type=partial(find_model, suffix=".safetensors"),
        action="append",
        default=[],
        metavar="FILE",
        help=f"another student: a checkpoint, or {', '.join(NAMES)}; may be repeated",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FOLDER", help="your copies of published weights, such as SHIP.pth"
    )
    parser.add_argument(
        "--runtime",
        nargs="*",
        choices=RUNTIMES,
        default=list(RUNTIMES),
        metavar="NAME",
        help=f"what runs the networks: {', '.join(RUNTIMES)} (default: both)",
    )
    parser.add_argument(
        "--engine",
        type=_named_engine,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help=f"a TensorRT engine of planes: NAME is a published network's, or a student's as in the table, such as "
        f"'{STUDENT}{DEPLOY_FORM}'; may be repeated",
    )
    parser.add_argument(
        "--quality", type=Path, metavar="PATH", help="data set to measure quality on, or the CSV of irvis evaluate"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every latency here, for make figures")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw latency against quality")
    parser.add_argument("--metric", choices=METRICS, default="SCD", help="quality of the plot (default: %(default)s)")


def inputs_of(arguments: argparse.Namespace) -> List[Optional[Path]]:
    """Return the input files, which no output may overwrite. Raises FileError."""
    weights = find_weights(arguments.weights) if arguments.weights else {}
    engines = [file for _, file in arguments.engine]
    quality = arguments.quality
    pairs = pairs_of(quality) if quality is not None and quality.is_dir() else []
    return [arguments.checkpoint, *arguments.student, *weights.values(), *engines, quality, *files_of(pairs)]


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis peers``."""
    check_outputs([arguments.json, arguments.markdown, arguments.plot], inputs_of(arguments))
    if arguments.plot is not None and arguments.quality is None:
        raise IrvisError("--plot draws latency against quality: add --quality, a data set or the CSV of irvis evaluate")
    document = measure(arguments)
    print(to_text(document), flush=True)
    if arguments.json is not None:
        write_json(arguments.json, document)
    if arguments.markdown is not None:
        write_text(arguments.markdown, to_markdown(document))
    if arguments.plot is not None:
        draw(document, arguments.plot, arguments.metric)
    return 0


def _named_engine(text: str) -> Tuple[str, Path]:
    """Parse ``NAME=FILE`` for argparse: a student under any name, a published network in upper or lower case."""
    name, _, file = text.partition("=")
    published = name.lower() in map(str.lower, MODULES)
    return (name, Path(file)) if name and file and not published else named_weights(text)
