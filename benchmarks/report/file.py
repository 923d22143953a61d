"""Reports as files: JSON that is checked against ``schema.json`` before it is used."""

import json
import reprlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from irvis.benchmarks.report.report import SCHEMA_VERSION
from irvis.runtime.errors import FileError
from irvis.runtime.files import LARGEST_JSON, parse_json, read_bytes, write_json

SCHEMA = Path(__file__).with_name("schema.json")
TYPES = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def write_report(path: Path, document: Dict[str, Any]) -> None:
    """Write a report atomically. Raises FileError."""
    write_json(path, document, allow_nan=False)


def read_report(path: Path) -> Dict[str, Any]:
    """Return a report that ``Report.to_json`` made. Raises FileError if the file is not one, or has another schema."""
    try:
        document = parse_json(read_bytes(path, "report", LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise FileError(f"report is not JSON: {path}; make one with bench.py --json") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version == 1:
        raise FileError(
            f"{path} is of schema 1, which does not record clocks, throttling and drift; measure it again with bench.py"
        )
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise FileError(f"{path} is of schema {version}, this irvis knows {SCHEMA_VERSION}; update irvis")
    wrong = find_fault(document, load_schema())
    if wrong is not None:
        raise FileError(f"{path} is not a report of bench.py: {wrong}")
    strange = next((text for text in _texts(document) if not text.isprintable()), None)
    if strange is not None:  # texts are printed, and a terminal obeys some control characters
        raise FileError(f"{path} is not a report of bench.py: it has {reprlib.repr(strange)}")
    return document


def load_schema() -> Dict[str, Any]:
    """Return the JSON Schema of a report."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def find_fault(
    value: Any, schema: Dict[str, Any], where: str = "it", root: Optional[Dict[str, Any]] = None
) -> Optional[str]:
    """Return the first way in which ``value`` violates a JSON Schema; None if it conforms.

    Supports what ``schema.json`` uses: type, const, minimum, minItems, required, properties, additionalProperties,
    items, anyOf and $ref to definitions.
    """
    root = root or schema
    if "$ref" in schema:
        return find_fault(value, root["definitions"][schema["$ref"].rsplit("/", 1)[1]], where, root)
    if "anyOf" in schema:
        faults = [find_fault(value, choice, where, root) for choice in schema["anyOf"]]
        return None if None in faults else faults[-1]
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(_is_a(value, name) for name in names):
        return f"{where} must be {' or '.join(names)}. Got {type(value).__name__}"
    if "const" in schema and value != schema["const"]:
        return f"{where} must be {schema['const']!r}. Got {reprlib.repr(value)}"
    if _is_a(value, "number") and value < schema.get("minimum", value):
        return f"{where} must be {schema['minimum']} or more. Got {value}"
    return _fault_inside(value, schema, where, root)


def _fault_inside(value: Any, schema: Dict[str, Any], where: str, root: Dict[str, Any]) -> Optional[str]:
    parts: List[Tuple[Any, Dict[str, Any], str]] = []
    if isinstance(value, dict):
        missing = [key for key in schema.get("required", []) if key not in value]
        if missing:
            return f"{where} lacks {missing[0]}"
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for key, part in value.items():
            inner = properties.get(key, others)
            if inner is False:
                return f"{where} has {key}, which is not known"
            parts.append((part, inner, key if where == "it" else f"{where}.{key}"))
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            return f"{where} must have {schema['minItems']} items or more. Got {len(value)}"
        parts = [(part, schema.get("items", {}), f"{where}[{index}]") for index, part in enumerate(value)]
    return next((fault for fault in (find_fault(*part, root) for part in parts) if fault is not None), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in parts:
        yield from _texts(part)


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, (int, float)) and not abs(value) < 1e18:
        return False  # NaN, infinite, or a whole number that is too large for a float
    return isinstance(value, TYPES[name]) or (name == "integer" and isinstance(value, float) and value.is_integer())
