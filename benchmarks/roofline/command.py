"""What bounds each fused group of an ONNX on a device, and how long it takes: ``irvis roofline student.onnx``.

The bound of a kernel is its bytes at the device's bandwidth or its operations at the device's peak, whichever takes
longer. An efficiency per kind of layer, with a range, turns the bound into an estimate. Efficiencies are fitted to
measurements, with ``--validate`` on this CPU or with ``--measured`` from an engine's profile, and ``--fit`` writes them
for use elsewhere. An estimate is never a measurement, and says so.
"""

import argparse
from pathlib import Path
from typing import List

from irvis.benchmarks.roofline.cpu import measure_cpu
from irvis.benchmarks.roofline.devices import CPU, device, names
from irvis.benchmarks.roofline.efficiency import SHIPPED, fit, read_efficiencies, write_efficiencies
from irvis.benchmarks.roofline.estimate import Roofline, estimate, load_graph, on_this_cpu, validate_engine
from irvis.benchmarks.roofline.report import draw, to_markdown, to_text, write_rooflines
from irvis.benchmarks.roofline.work import ITEMSIZE
from irvis.export.layer_profile import read_profile
from irvis.runtime.errors import IrvisError
from irvis.runtime.files import check_outputs, check_outputs_apart, write_text
from irvis.runtime.shipped import find_model
from irvis.runtime.sizes import format_size, parse_size

DEFAULT_DEVICE = "xavier-maxn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis roofline``."""
    parser.add_argument(
        "models", type=find_model, nargs="+", metavar="ONNX", help="ONNX of planes, or irvis's own: student, fast"
    )
    parser.add_argument(
        "--device", choices=names(), metavar="NAME", help=f"{', '.join(names())} (default: {DEFAULT_DEVICE})"
    )
    parser.add_argument("--size", type=parse_size, metavar="HEIGHTxWIDTH", help="for ONNX that take any size")
    parser.add_argument(
        "--precision", type=_precisions, metavar="LIST", help=f"of an estimate (default: {','.join(ITEMSIZE)})"
    )
    measured = parser.add_mutually_exclusive_group()
    measured.add_argument(
        "--validate", action="store_true", help="run on this CPU, and compare the estimate with the times"
    )
    measured.add_argument(
        "--measured", type=Path, metavar="JSON", help="compare with a profile of build_engine.py --profile"
    )
    parser.add_argument(
        "--efficiency", type=Path, default=SHIPPED, metavar="JSON", help="file of --fit (default: the shipped one)"
    )
    parser.add_argument("--fit", type=Path, metavar="JSON", help="fit efficiencies to the measurement, write them here")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="on the CPU (default: %(default)s)")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="number of costliest groups to list (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all groups as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here too")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the roofline, and the time by kind")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis roofline``."""
    outputs = [path for path in (arguments.json, arguments.markdown, arguments.plot, arguments.fit) if path]
    check_outputs(outputs, [*arguments.models, arguments.measured])
    # --fit updates an existing file, so it may be the one that --efficiency names.
    check_outputs_apart([arguments.json, arguments.markdown, arguments.plot], [arguments.efficiency])
    if min(arguments.threads, arguments.rounds) < 1 or arguments.top < 0:
        raise IrvisError("--threads and --rounds must be 1 or more, --top 0 or more")
    if arguments.fit and not (arguments.validate or arguments.measured):
        raise IrvisError("--fit needs something measured: --validate, or --measured student.profile.json")
    found = _rooflines(arguments)
    print("\n\n".join(to_text(each, arguments.top) for each in found))
    if arguments.fit:
        timed = [pair for each in found for pair in each.timed]
        source = ", ".join(f"{each.model} {format_size(each.size)}" for each in found)
        write_efficiencies(fit(timed, found[0].device, f"{source} on {found[0].device.name}"), arguments.fit)
    if arguments.json:
        write_rooflines(found, arguments.json)
    if arguments.markdown:
        tables = "\n\n".join(to_markdown(each, arguments.top) for each in found)
        write_text(arguments.markdown, tables + "\n")
    if arguments.plot:
        draw(found, arguments.plot)
    for path in outputs:
        print(f"wrote {path}")
    return 0


def _rooflines(arguments: argparse.Namespace) -> List[Roofline]:
    key = arguments.device or (CPU if arguments.validate else DEFAULT_DEVICE)
    if arguments.validate and key != CPU:
        raise IrvisError("--validate measures this CPU; for an engine on a GPU, give --measured PROFILE")
    if arguments.measured and (key == CPU or len(arguments.models) != 1):
        raise IrvisError("--measured takes one ONNX, the engine's, and --device, the GPU that it ran on")
    if arguments.precision and (key == CPU or arguments.measured):
        raise IrvisError("--precision is for an estimate: this CPU computes in FP32, and a profile has its own")
    precisions = arguments.precision or list(ITEMSIZE)
    graphs = [load_graph(path, arguments.size) for path in arguments.models]
    if key == CPU:
        on = measure_cpu(arguments.threads, arguments.rounds)
        efficiencies = read_efficiencies(arguments.efficiency, on.runtime)
        rounds = arguments.rounds if arguments.validate else 1
        found = [on_this_cpu(graph, on, efficiencies, arguments.threads, rounds) for graph in graphs]
        return found if arguments.validate else [each.without_times() for each in found]
    on = device(key)
    efficiencies = read_efficiencies(arguments.efficiency, on.runtime)
    if arguments.measured:
        return [validate_engine(graphs[0], on, read_profile(arguments.measured), efficiencies)]
    return [estimate(graph, on, precision, efficiencies) for graph in graphs for precision in precisions]


def _precisions(text: str) -> List[str]:
    found = text.lower().split(",")
    if not found or any(each not in ITEMSIZE for each in found):
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(ITEMSIZE)}, separated by commas. Got {text!r}")
    return found
