"""docs/reliability.md: each row has a promise, and each test that it names is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line.replace(r"\|", "") for line in TABLE.splitlines() if line.startswith("|")]
ROWS = [row for row in ROWS if not row.startswith(("|---", "| fault |"))]


def functions_of(path):
    if not (ROOT / path).exists():
        return set()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_has_a_fault_a_promise_and_a_test():
    assert len(ROWS) > 40
    for row in ROWS:
        fault, promise, shown_by = (cell.strip() for cell in row.strip("|").split("|"))
        assert fault
        assert promise
        assert re.search(r"`tests/[a-z_0-9/]+\.py::test_\w+`", shown_by), row


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[^`:]+)::(\w+)`", "\n".join(ROWS))
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    assert missing == []


def test_every_command_stands_in_the_tests_of_faults():
    from irvis.runtime.cli import SUBCOMMANDS

    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    # tests/runtime/ros has the first two, tests/benchmarks/doctor the third; the others read no file.
    others = {"ros1", "ros2", "doctor", "complexity", "samples"}
    lacking = {name for name in SUBCOMMANDS if not re.search(rf'["\[ ]{name} ', text)} - others
    assert lacking == set()
