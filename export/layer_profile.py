"""Per-layer times of an engine, as a table in JSON and as a plot: ``python -m irvis.export.layer_profile X.json``.

``build_engine.py --profile`` writes both if matplotlib is installed; otherwise the JSON can be drawn later. The fields
are those of TensorRT's engine inspector in JSON, which 8.5 and 10 write alike except for the names of the formats ("Row
major linear FP16 format", "Half"); 11 splits ``Format/Datatype`` in two.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from irvis.runtime.cli import guarded
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import LARGEST_JSON, check_outputs, parse_json, read_bytes, save_figure, write_json
from irvis.runtime.sidecar import Sidecar

PROGRAM = "python -m irvis.export.layer_profile"
BARS = 30  # in the plot: the slowest layers
COLOURS = {"fp32": "#d62728", "fp16": "#1f77b4", "int8": "#2ca02c", "uint8": "#9467bd"}
OTHER_COLOUR = "#7f7f7f"

# Texts that a profile needs to be drawn.
TEXTS = ("engine", "tensorrt_version", "gpu_name", "precision")

# A word in TensorRT's formats -> the name that irvis uses, and the bytes of an element.
TYPES = {
    "fp32": ("fp32", 4),
    "float": ("fp32", 4),
    "fp16": ("fp16", 2),
    "half": ("fp16", 2),
    "bfloat16": ("bf16", 2),
    "bf16": ("bf16", 2),
    "int8": ("int8", 1),
    "uint8": ("uint8", 1),
    "int32": ("int32", 4),
    "int64": ("int64", 8),
    "bool": ("bool", 1),
    "fp8": ("fp8", 1),
}


class LayerTimes(NamedTuple):
    """An engine's description of its layers (the inspector's JSON), and their times in ms by name, for each run."""

    inspector: str
    runs: List[Dict[str, float]]


def describe_profile(found: LayerTimes, engine: str, sidecar: Sidecar) -> Dict[str, Any]:
    """Return the profile's document: what was run where, the totals, and the layers with their times."""
    layers = merge(parse_inspector(found.inspector), found.runs)
    reformats = [layer for layer in layers if layer["type"] == "Reformat"]
    return {
        "engine": engine,
        "tensorrt_version": sidecar.tensorrt_version,
        "gpu_name": sidecar.gpu_name,
        "precision": sidecar.precision,
        "size": list(sidecar.size),
        "runs": len(found.runs),
        **_totals(layers),
        "reformats": {"count": len(reformats), **_totals(reformats)},
        "layers": layers,
    }


def parse_inspector(text: str) -> List[Dict[str, Any]]:
    """Return the layers of the inspector's JSON: name, type, precision, bytes moved, tactic, inputs, outputs.

    Precision is that of the first input, which is the layer's own; bytes are those of all inputs and outputs, without
    padding, None if a format is unknown. For layers without details only the name is known. Raises ModelError.
    """
    try:
        layers = json.loads(text, strict=False)["Layers"]  # names of TensorRT 8.6 on hold control characters
        return [_parse_layer({"Name": layer} if isinstance(layer, str) else layer) for layer in layers]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError("TensorRT's engine inspector returned no list of layers in JSON") from error


def count_int8(layers: List[Dict[str, Any]]) -> int:
    """Return how many of ``parse_inspector``'s layers compute in INT8; reformats compute nothing."""
    return sum(layer["precision"] == "int8" and layer["type"] != "Reformat" for layer in layers)


def merge(layers: List[Dict[str, Any]], runs: List[Dict[str, float]]) -> List[Dict[str, Any]]:
    """Return the layers with ``median_ms`` and ``mean_ms`` over the runs, None if a layer was not timed.

    A timed name that matches no layer becomes a layer of its own, so that the times are complete.
    """
    times: Dict[str, List[float]] = {}
    for run in runs:
        for name, ms in run.items():
            times.setdefault(name, []).append(ms)
    merged = []
    for layer in layers:
        merged.append({**layer, **_statistics(times.pop(layer["name"], []))})  # of two layers of one name, the first
    return merged + [{**_parse_layer({"Name": name}), **_statistics(own)} for name, own in times.items()]


def write_profile(document: Dict[str, Any], path: Path) -> List[str]:
    """Write the document as JSON and, with matplotlib, as a plot beside it; return lines to print. Raises FileError."""
    write_json(path, document)
    reformats = document["reformats"]
    lines = [
        f"wrote {path}: {len(document['layers'])} layers, {document['median_ms']:.2f} ms, of which "
        f"{reformats['count']} reformats {reformats['median_ms']:.2f} ms"
    ]
    picture = path.with_suffix(".png")
    try:
        draw_profile(document, picture)
    except ImportError:
        return [*lines, f"no plot: matplotlib is not installed; once it is, run `{PROGRAM} {path}`"]
    return [*lines, f"wrote {picture}"]


def read_profile(path: Path) -> Dict[str, Any]:
    """Return the document that ``write_profile`` wrote. Raises FileError."""
    try:
        document = parse_json(read_bytes(path, "profile", LARGEST_JSON))
        complete = (
            all(isinstance(document[name], str) for name in TEXTS)
            and all(type(side) is int for side in document["size"])
            and len(document["size"]) == 2
            and _is_time(document["median_ms"])
            and all(
                isinstance(layer["name"], str)
                and isinstance(layer["precision"], (str, type(None)))
                and (layer["median_ms"] is None or _is_time(layer["median_ms"]))
                for layer in document["layers"]
            )
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        complete = False
    if not complete:
        raise FileError(f"not a profile of an engine's layers: {path}; build_engine.py --profile writes one")
    return document


def draw_profile(document: Dict[str, Any], output: Path) -> None:
    """Draw the slowest layers as bars, coloured by precision. Raises FileError, and ImportError without matplotlib."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    timed = [layer for layer in document["layers"] if layer["median_ms"] is not None]
    slowest = sorted(timed, key=lambda layer: layer["median_ms"], reverse=True)[:BARS]
    figure = Figure(figsize=(11, 1.2 + 0.24 * len(slowest)))
    axis = figure.add_subplot(1, 1, 1)
    colours = [COLOURS.get(layer["precision"], OTHER_COLOUR) for layer in slowest]
    axis.barh(range(len(slowest)), [layer["median_ms"] for layer in slowest], color=colours)
    axis.set_yticks(range(len(slowest)))
    axis.set_yticklabels([_shortened(layer["name"]) for layer in slowest], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("median of a run, ms")
    height, width = document["size"]
    axis.set_title(
        f"{document['engine']}: the {len(slowest)} slowest of {len(timed)} layers, {document['median_ms']:.2f} ms in "
        f"all\n{document['precision'].upper()} {height}x{width}, TensorRT {document['tensorrt_version']}, "
        f"{document['gpu_name']}",
        fontsize=9,
    )
    kinds = list(dict.fromkeys(layer["precision"] or "unknown" for layer in slowest))
    axis.legend(handles=[Patch(color=COLOURS.get(kind, OTHER_COLOUR), label=kind) for kind in kinds], loc="lower right")
    save_figure(figure, output, dpi=110, bbox_inches="tight")


def main(argv: Optional[List[str]] = None) -> int:
    """Draw a profile; return the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Draw what build_engine.py --profile measured.")
    parser.add_argument("profile", type=Path, help="JSON that build_engine.py --profile wrote")
    parser.add_argument("-o", "--output", type=Path, metavar="PNG", help="picture to write (default: beside it)")
    arguments = parser.parse_args(argv)

    def draw() -> int:
        document = read_profile(arguments.profile)
        output = arguments.output or arguments.profile.with_suffix(".png")
        check_outputs([output], [arguments.profile])
        try:
            draw_profile(document, output)
        except ImportError as error:
            raise FileError("matplotlib is not installed: pip install 'irvis[workstation]'") from error
        print(f"wrote {output}")
        return 0

    return guarded(PROGRAM, draw)


def _parse_layer(layer: Dict[str, Any]) -> Dict[str, Any]:
    inputs, outputs = ([_parse_tensor(tensor) for tensor in layer.get(side, [])] for side in ("Inputs", "Outputs"))
    tensors = [*inputs, *outputs]
    sizes = [tensor["bytes"] for tensor in tensors]
    return {
        "name": layer["Name"],
        "type": layer.get("LayerType", "unknown"),
        "precision": tensors[0]["precision"] if tensors else None,
        "bytes": None if not tensors or None in sizes else sum(sizes),
        "tactic": layer.get("TacticName"),
        "inputs": inputs,
        "outputs": outputs,
    }


def _parse_tensor(tensor: Dict[str, Any]) -> Dict[str, Any]:
    form = tensor.get("Format/Datatype") or f"{tensor.get('DataType', '')} {tensor.get('Format', '')}".strip()
    shape = tensor.get("Dimensions", [])
    words = re.findall(r"[a-z]+[0-9]*", form.lower())
    precision, itemsize = next((TYPES[word] for word in words if word in TYPES), (None, None))
    return {
        "name": tensor.get("Name", ""),
        "shape": shape,
        "format": form,
        "precision": precision,
        "bytes": None if itemsize is None else itemsize * math.prod(shape),
    }


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15


def _statistics(times_ms: List[float]) -> Dict[str, Optional[float]]:
    if not times_ms:
        return {"median_ms": None, "mean_ms": None}
    return {"median_ms": round(float(np.median(times_ms)), 5), "mean_ms": round(float(np.mean(times_ms)), 5)}


def _totals(layers: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return the sum of the layers' medians, and of the known bytes moved."""
    return {
        "median_ms": round(sum(layer["median_ms"] or 0.0 for layer in layers), 5),
        "bytes": sum(layer["bytes"] or 0 for layer in layers),
    }


def _shortened(name: str, length: int = 72) -> str:
    name = re.sub(r"[^\x20-\x7e]+", " ", name)
    return name if len(name) <= length else f"{name[: length // 2 - 2]}...{name[-length // 2 + 1 :]}"


if __name__ == "__main__":
    sys.exit(main())
