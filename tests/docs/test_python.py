"""Python on a page compiles and imports what is there; a block that needs nothing beside it is run."""

import ast
import builtins
import importlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("markdown_it")
pages = runpy.run_path(str(Path(__file__).with_name("pages.py")))
BLOCKS = [block for page in pages["PAGES"] for block in pages["blocks"](page) if block.kind == "python"]
EXAMPLES = pages["ROOT"] / "examples"


def names_it_lacks(tree):
    """Return the names that a block reads and neither makes nor imports, such as a robot's."""
    made = {*dir(builtins), *(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))}
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (made if isinstance(node.ctx, ast.Store) else read).add(node.id)
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            made.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            made.update((each.asname or each.name).partition(".")[0] for each in node.names)
    return read - made


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module, each.name) for each in node.names)
        elif isinstance(node, ast.Import):
            yield from ((each.name, None) for each in node.names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the tutorials' commands have made before their Python runs, in small: scenes/ and registration.json."""
    from irvis.runtime.registration import Registration
    from irvis.runtime.samples import write_samples

    folder = tmp_path_factory.mktemp("tutorial")
    write_samples(folder / "scenes", 96, 128)
    Registration(np.diag([0.2, 0.2, 1.0]), (480, 640), (96, 128), "points").save(folder / "registration.json")
    return folder


def check_what_it_takes_of_irvis(tree):
    for module, name in imported(tree):
        if module.startswith("irvis."):
            assert name is None or hasattr(importlib.import_module(module), name), f"{module} has no {name}"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda example: example.name)
def test_an_example_finds_what_it_takes_of_irvis(example):
    """Also where its other imports are missing, such as ROS."""
    check_what_it_takes_of_irvis(ast.parse(example.read_text(encoding="utf-8"), example.name))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_of_python_works(block, folder, monkeypatch):
    tree = ast.parse(block.text, block.place)
    check_what_it_takes_of_irvis(tree)
    if names_it_lacks(tree):
        return
    for module, _ in imported(tree):
        if not module.startswith("irvis."):
            pytest.importorskip(module)
    monkeypatch.chdir(folder)
    exec(compile(tree, block.place, "exec"), {"__name__": "__main__"})


def test_most_of_the_tutorials_python_is_run():
    run = [block.page.stem for block in BLOCKS if not names_it_lacks(ast.parse(block.text))]
    assert {"first_fusion", "own_teacher", "calibrate"} <= set(run)


def test_the_tutorials_teacher_teaches(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    from irvis.runtime.cli import main

    (text,) = (block.text for block in BLOCKS if "class ToyTeacher" in block.text)
    (tmp_path / "toy_teacher.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "toy_teacher", None)  # another test's, which comes back after this one
    del sys.modules["toy_teacher"]
    assert main(["teachers", "--check", "toy_teacher:build,feature=decoder"]) == 0
    assert capsys.readouterr().out.startswith("toy_teacher:build: feature 16 x 128 x 128, ")
