"""Coverage-guided fuzzing of one parser: ``python tests/fuzz TARGET [options of libFuzzer]``.

Needs ``pip install atheris`` beside the package. What it finds lies in the current folder as ``crash-...``; what
widened the coverage is kept in ``build/fuzz/TARGET`` between runs.
"""

import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Any, List

import atheris

with atheris.instrument_imports(include=["irvis"]):
    from targets import JSON, TARGETS  # type: ignore[import-not-found]

HERE = Path(__file__).resolve().parent
# What parsers stumble over: no numbers, numbers that are too large, truths for numbers, other kinds, hostile texts.
ODD: List[Any] = [
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e-320, 1e16, 1e308, float("inf"), float("nan"), 10**19, 10**400,
    "", "x", "\x1b[2J\n", "\ud800", "9" * 5000, [], {}, [[]], {"": {}}, [0, 0, 0],
]  # fmt: skip


def mutate_json(data: bytes, longest: int, seed: int) -> bytes:
    """Change one value of a JSON document, or its bytes where it is none: a document stays one, mostly."""
    draw = random.Random(seed)
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(data)
        places = [([document], 0)]
        for holder, key in places:
            value = holder[key]
            keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
            places += [(value, inner) for inner in keys]
        if draw.random() < 0.8:
            holder, key = draw.choice(places)
            kind = draw.random()
            if kind < 0.6:
                holder[key] = draw.choice(ODD)
            elif kind < 0.8:
                other, place = draw.choice(places)
                holder[key] = json.loads(json.dumps(other[place]))
            elif kind < 0.9 and isinstance(holder, dict):
                del holder[key]
            else:
                for _ in range(draw.choice((1, 10, 300, 900))):
                    holder[key] = [holder[key]]
            changed = json.dumps(places[0][0][0]).encode()
            if len(changed) <= longest:
                return changed
    return atheris.Mutate(data, longest)


def main() -> None:
    """Fuzz the target that the command line names; libFuzzer ends the program."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python tests/fuzz TARGET [-max_total_time=SECONDS ...]; targets: {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    kept = HERE.parents[1] / "build" / "fuzz" / name
    kept.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["irvis", "onnx"]):
        run = TARGETS[name]()
    options = [sys.argv[0], str(kept), str(HERE / "corpus" / name), "-max_len=65536", "-timeout=20", *sys.argv[1:]]
    mutator = {"custom_mutator": mutate_json} if name in JSON else {}
    atheris.Setup(options, run, **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
