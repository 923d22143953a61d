"""The profile of an engine, ``build_engine.py --profile``, matched with the fused groups of its ONNX.

TensorRT names a layer after the ONNX operators in it: ``/conv1/Conv + /LeakyRelu``, ``PWN(PWN(/Erf), /Mul)``,
``/a/Conv || /b/Conv``, ``{ForeignNode[/first.../last]}`` for all from the first to the last. Layers and groups that
share operators become one row, since neither need contain the other. Reformats are counted separately, because no group
predicts them.
"""

import re
from typing import Any, Dict, List, NamedTuple, Sequence, Set, Tuple

import onnx

from irvis.export.fused_groups import Kernel
from irvis.runtime.errors import ModelError

REFORMAT = "Reformatting CopyNode"
# Between names, as TensorRT joins them. A slash and a full stop are part of a name.
SEPARATORS = re.compile(r"\.\.\.|[\s()\[\]{},|+^\x00-\x1f]+")
RANGE = re.compile(r"ForeignNode\[(.+?)\.\.\.(.+?)\]")


class Match(NamedTuple):
    """How the measured time is distributed over the groups."""

    rows: List[Tuple[Tuple[int, ...], float]]  # groups, and the time of their layers in ms
    reformats_ms: float
    unmatched: Dict[str, float]  # other layers that name no operator of a group, in ms


def match(model: onnx.ModelProto, kernels: Sequence[Kernel], profile: Dict[str, Any]) -> Match:
    """Assign a profile's layers to the kernels of ``fused_kernels``. Raises ModelError if none is of this ONNX.

    Args:
        model: the ONNX that the engine was built from, after ``fix_shapes``.
        kernels: its groups.
        profile: from ``read_profile``.
    """
    group = {name: index for index, kernel in enumerate(kernels) for node in kernel.nodes for name in _names(node)}
    order = [next(iter(_names(node))) for node in model.graph.node if _names(node)]
    layers = [layer for layer in profile["layers"] if layer["median_ms"]]
    named = {layer["name"]: {word for word in SEPARATORS.split(layer["name"]) if word in group} for layer in layers}
    claimed = set().union(*named.values()) if named else set()
    joined: List[Tuple[Set[int], float]] = []
    reformats_ms = 0.0
    unmatched: Dict[str, float] = {}
    for layer in layers:
        name, ms = layer["name"], layer["median_ms"]
        if layer.get("type") == "Reformat" or REFORMAT in name:
            reformats_ms += ms
            continue
        inside = named[name] | {word for word in _within(name, order) if word in group and word not in claimed}
        groups = {group[word] for word in inside}
        if not groups:
            unmatched[name] = unmatched.get(name, 0.0) + ms
            continue
        apart = []
        for others, their_ms in joined:
            if others & groups:
                groups, ms = groups | others, ms + their_ms
            else:
                apart.append((others, their_ms))
        joined = [*apart, (groups, ms)]
    if not joined:
        raise ModelError(
            f"no layer of {profile['engine']} names an operator of this ONNX; give the one it was built from"
        )
    return Match([(tuple(sorted(groups)), ms) for groups, ms in joined], reformats_ms, unmatched)


def _names(node: onnx.NodeProto) -> List[str]:
    return [name for name in (node.name, *node.output) if name]


def _within(layer: str, order: List[str]) -> List[str]:
    """Return the operators from the first to the last of each ForeignNode, in the graph's order."""
    found: List[str] = []
    for first, last in RANGE.findall(layer):
        ends = [order.index(name) for name in (first.strip(), last.strip()) if name in order]
        if len(ends) == 2:
            found += order[min(ends) : max(ends) + 1]
    return found
