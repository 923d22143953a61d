"""The table of docs/architecture.md says exactly what each folder imports."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|([^|]*)\|$", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.MULTILINE
)


def imports(folder):
    """Return what a folder's import statements name: of irvis, and of others but Python's own."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
                names.add(node.module)
    stages = {name.split(".")[1] for name in names if name.startswith("irvis.")} - {folder}
    others = {name.split(".")[0] for name in names} - {"irvis", "__future__"} - set(sys.stdlib_module_names)
    return stages, others


def words(cell):
    return set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", cell)))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python 3.10 first names its own modules")
@pytest.mark.parametrize(("folder", "stages", "others"), ROWS, ids=[row[0] for row in ROWS])
def test_a_folder_imports_what_the_page_says(folder, stages, others):
    assert imports(folder) == (words(stages), words(others))


def test_the_page_has_each_folder():
    assert [row[0] for row in ROWS] == ["student", "export", "runtime", "benchmarks"]


@pytest.mark.parametrize(
    ("folder", "stage", "modules"),
    [
        ("student", "benchmarks", {"student/validation.py"}),
        ("export", "student", {"export/deploy.py", "export/to_onnx.py"}),
        ("runtime", "export", {"runtime/engine_cache.py"}),
    ],
)
def test_what_goes_against_the_flow_stays_where_it_is(folder, stage, modules):
    pattern = re.compile(rf"^\s*(?:from|import) irvis\.{stage}\b", re.MULTILINE)
    found = {path for path in (ROOT / folder).rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))}
    assert {str(path.relative_to(ROOT)) for path in found} == modules
