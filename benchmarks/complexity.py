"""Multiply-adds and parameters of the shipped students and of every published network here: ``irvis complexity``.

There are two counts. The paper's Tables 4 and 5 were made with ``thop``, which counts the modules it knows
(convolutions, linear layers, norms) and no functions that a forward pass calls. The true count adds every matrix
product, such as attention's, every convolution called as a function, and the Fourier transforms.
"""

import argparse
import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import thop
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from irvis.benchmarks.csv_text import csv_text
from irvis.benchmarks.markdown import table
from irvis.benchmarks.peers.tables import DEPLOY_FORM
from irvis.benchmarks.published import COMPLEXITY, PublishedCost
from irvis.export.deploy import DeployStudent
from irvis.runtime.columns import align
from irvis.runtime.files import check_outputs, write_json, write_text
from irvis.runtime.shipped import NAMES, find_model
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_size
from irvis.student.checkpoint import load_student
from irvis.student.teachers.load import count_parameters
from irvis.student.teachers.published import MODULES, network_class

SCHEMA_VERSION = 1


TEN_TIMES = "†"
NOTES = (
    "thop: by the counter and conventions of the paper's Tables 4 and 5. Where it is off the paper's figure by 0.3 % "
    "or less, the published code has pooling and norms as modules, which thop counts, and the network here does not.",
    "true: every convolution and matrix product once, and 5/4 N log2(N) for the Fourier transform of N real numbers. "
    "It is under thop's where thop also counts norms, softmax and resizing, element by element.",
    "all: every parameter of the published file, norms, temperatures and what is never called among them.",
    f"{TEN_TIMES} the paper prints a tenth of this, in both columns.",
    "CDDFuse: the paper counts the true multiply-adds of 488x648, and the parameters of its one encoder twice.",
)


class Cost(NamedTuple):
    """What one network costs at one size."""

    name: str
    thop_macs: int
    thop_parameters: int
    macs: int  # all of them
    parameters: int  # all of them


def count(name: str, network: nn.Module, size: Tuple[int, int]) -> Cost:
    """Count a network that takes two planes (H, W). It is moved to the meta device, since only shapes matter."""
    network = network.eval().to("meta")
    planes = tuple(torch.zeros(1, 1, *size, device="meta") for _ in range(2))
    parameters = count_parameters(network)
    with torch.no_grad():
        with FlopCounterMode(display=False, custom_mapping=TRANSFORMS) as counter:
            network(*planes)
        # Last, since it leaves its own counters in the modules.
        thop_macs, thop_parameters = thop.profile(network, inputs=planes, verbose=False)
    return Cost(name, int(thop_macs), int(thop_parameters), counter.get_total_flops() // 2, parameters)


def count_published(name: str, size: Tuple[int, int]) -> Cost:
    """Count a published network, by name."""
    with torch.device("meta"):  # no memory or time spent on weights that are never read
        network = network_class(name)()
    return count(name, network, size)


def count_all(size: Tuple[int, int]) -> List[Cost]:
    """Count the shipped students, their deploy forms and every published network, sorted by thop's multiply-adds."""
    costs = []
    for name in NAMES:
        student = load_student(find_model(name, ".safetensors"))
        # The deploy form first, since counting a network discards its weights.
        costs += [count(name + DEPLOY_FORM, DeployStudent(student), size), count(name, student, size)]
    costs += [count_published(name, size) for name in tqdm(MODULES, desc="count", leave=False, disable=None)]
    return sorted(costs, key=lambda cost: cost.thop_macs)


def _transform_flops(shape: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """Return 5/2 N log2(N) for each plane of N real numbers, which the transform takes or returns."""
    length = shape[-2] * max(shape[-1], out_shape[-1])
    return round(math.prod(shape[:-2]) * 2.5 * length * math.log2(length))


TRANSFORMS = {torch.ops.aten._fft_r2c: _transform_flops, torch.ops.aten._fft_c2r: _transform_flops}
HEAD = (
    "network",
    *("thop, G", "thop, M", "true, G", "all, M"),
    *("paper, G", "paper, M", "paper, ms on an RTX 3080 Ti", "paper, ms on a Xavier"),
)


def is_tenth(cost: Cost) -> bool:
    """Return whether the paper prints a tenth of what thop counts, in both columns."""
    published = COMPLEXITY.get(cost.name)
    if published is None:
        return False
    ratios = cost.thop_macs / 1e9 / published.gmacs, cost.thop_parameters / 1e6 / published.mparams
    return all(9 < ratio < 11 for ratio in ratios)


def to_cells(costs: Sequence[Cost], size: Tuple[int, int]) -> List[Tuple[str, ...]]:
    """Return the rows under HEAD, networks only in the paper last; the paper's figures are given only at 480x640."""
    published = _published_at(size)
    rows: List[Tuple[str, ...]] = []
    for cost in costs:
        by_thop = f"{cost.thop_macs / 1e9:.4f}", f"{cost.thop_parameters / 1e6:.4f}"
        in_all = f"{cost.macs / 1e9:.4f}", f"{cost.parameters / 1e6:.4f}"
        printed = _printed(published.get(cost.name), TEN_TIMES if is_tenth(cost) else "")
        rows.append((cost.name, *by_thop, *in_all, *printed))
    counted = {cost.name for cost in costs}
    rows += [(name, *[""] * 4, *_printed(row)) for name, row in published.items() if name not in counted]
    return rows


def _printed(row: Optional[PublishedCost], mark: str = "") -> Tuple[str, ...]:
    if row is None:
        return ("",) * 4
    return (
        f"{row.gmacs:.4f}{mark}",
        f"{row.mparams:.4f}{mark}",
        f"{row.rtx_3080_ti_ms:.2f}",
        f"{row.xavier_maxn_ms:.2f}",
    )


def _published_at(size: Tuple[int, int]) -> Dict[str, PublishedCost]:
    return COMPLEXITY if size == DEFAULT_SIZE else {}


def to_csv(costs: Sequence[Cost], size: Tuple[int, int]) -> str:
    """Return every figure unrounded, and at 480x640 the paper's; what it does not give is an empty cell."""
    published, fields = _published_at(size), PublishedCost._fields
    head = [*Cost._fields, *(f"published_{name}" for name in fields)]
    return csv_text(head, [[*cost, *published.get(cost.name, [""] * len(fields))] for cost in costs])


def to_json(costs: Sequence[Cost], size: Tuple[int, int]) -> Dict[str, Any]:
    """Return the costs as a JSON document; the paper's figures are null except at 480x640."""
    networks = []
    for cost in costs:
        published = _published_at(size).get(cost.name)
        own = {**cost._asdict(), "published": published and published._asdict(), "printed_a_tenth": is_tenth(cost)}
        networks.append(own)
    shown = {"height": size[0], "width": size[1]}
    return {"schema_version": SCHEMA_VERSION, "kind": "complexity", "size": shown, "networks": networks}


def to_markdown(document: Dict[str, Any]) -> str:
    """Return a document of ``to_json`` as a Markdown table."""
    size = document["size"]["height"], document["size"]["width"]
    costs = [Cost(*(network[field] for field in Cost._fields)) for network in document["networks"]]
    notes = "".join(f"- {line}\n" for line in NOTES)
    return (
        f"Multiply-adds in G at {format_size(size)}, parameters in M.\n\n{table(HEAD, to_cells(costs, size))}\n{notes}"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis complexity``."""
    parser.add_argument(
        "--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="frame size (default: 480x640)"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the unrounded figures here too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write them as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis complexity``."""
    size = arguments.size
    check_outputs([arguments.markdown, arguments.csv, arguments.json])
    costs = count_all(size)
    print(f"{format_size(size)} (HEIGHTxWIDTH), multiply-adds in G, parameters in M\n")
    print(align([HEAD, *to_cells(costs, size)]), "\n".join(NOTES), sep="\n\n", flush=True)
    if arguments.markdown is not None:
        write_text(arguments.markdown, to_markdown(to_json(costs, size)))
    if arguments.csv is not None:
        write_text(arguments.csv, to_csv(costs, size))
    if arguments.json is not None:
        write_json(arguments.json, to_json(costs, size))
    return 0
