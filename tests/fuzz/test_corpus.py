"""Each file of the corpus, seeds and findings alike, through its target: what fuzzing found stays found."""

import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TARGETS = runpy.run_path(str(HERE / "targets.py"))["TARGETS"]


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_that_was_found_gives_more_than_a_line(name):
    try:
        run = TARGETS[name]()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    inputs = sorted((HERE / "corpus" / name).iterdir())
    assert inputs
    try:
        for path in inputs:
            run(path.read_bytes())
    finally:
        getattr(run, "close", lambda: None)()  # of the one that has servers


def test_each_folder_of_the_corpus_has_a_target():
    assert {path.name for path in (HERE / "corpus").iterdir()} == set(TARGETS)
