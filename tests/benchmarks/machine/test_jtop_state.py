import sys

import pytest

from irvis.benchmarks.machine.jtop_state import JtopState, read_jtop, state_of

WORKING = """
from types import SimpleNamespace

class jtop:
    nvpmodel = SimpleNamespace(name="MAXN", id=0)
    jetson_clocks = True
    hardware = {"L4T": "35.4.1", "Jetpack": "5.1.2", "Module": "NVIDIA Jetson AGX Xavier", "Serial Number": "1"}
    board = {"hardware": hardware}
    def ok(self): return True
    def __enter__(self): return self
    def __exit__(self, *_): pass
"""
REFUSING = """
class JtopException(Exception): pass

class jtop:
    def __enter__(self): raise JtopException("The jtop.service is not active. Please run:\\nsudo jtop")
    def __exit__(self, *_): pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a module jtop of some source the one that is imported."""

    def make(source):
        (tmp_path / "jtop.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "jtop", raising=False)

    yield make
    sys.modules.pop("jtop", None)


def test_what_the_service_tells_is_read(install):
    install(WORKING)
    assert read_jtop() == JtopState("MAXN", 0, True, "NVIDIA Jetson AGX Xavier", "35.4.1", "5.1.2")


NOT_READY = WORKING.replace("def ok(self): return True", "def ok(self): return False")


@pytest.mark.parametrize("source", [REFUSING, NOT_READY, "raise ImportError('no curses')", "jtop = None"])
def test_a_service_that_is_not_there_tells_nothing(install, source):
    install(source)
    assert read_jtop() is None


def test_a_jetson_without_nvpmodel(machines):
    jetson = machines.open_jtop()
    jetson.nvpmodel = jetson.jetson_clocks = None
    assert state_of(jetson)[:3] == (None, None, None)
