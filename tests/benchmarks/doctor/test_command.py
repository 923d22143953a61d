import argparse
import json
import os
import subprocess
import sys

import pytest

from irvis.benchmarks.doctor.child import Answer
from irvis.benchmarks.doctor.command import add_arguments, main


@pytest.fixture
def doctor(capsys):
    """Run ``irvis doctor`` on a recorded machine; give the exit code and what was printed."""

    def run(place, *argv):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        return main(parser.parse_args([str(argument) for argument in argv]), place), capsys.readouterr().out

    return run


def test_each_item_is_an_aligned_line_with_what_mends_it_below(recorded, doctor):
    code, text = doctor(recorded.xavier(commands={"nvcc": None}, answers={"pycuda": recorded.missing}))
    assert code == 1
    lines = text.splitlines()
    assert "FAILURE   pycuda        not installed" in lines
    assert "ok        numpy         1.23.5" in lines
    assert lines[lines.index("FAILURE   pycuda        not installed") + 1].startswith(f"{'':<24}-> export PATH=")
    assert lines[-1] == "1 failure, 2 warnings"  # nvcc, and jtop whose service is not there
    assert "\x1b" not in text


def test_warnings_alone_are_no_failure(recorded, doctor):
    code, text = doctor(recorded.xavier(mode=7, locked=False))
    assert code == 0
    assert text.splitlines()[-1] == "0 failures, 3 warnings"


def test_the_report_has_every_item_and_names_nobody(recorded, doctor, machines, tmp_path, monkeypatch):
    for variable, value in (("HOME", "/home/alice"), ("USER", "alice"), ("LOGNAME", "alice"), ("SUDO_USER", "bob")):
        monkeypatch.setenv(variable, value)
    trouble = f"OSError: /home/alice/x, /media/alice/y, /home/carol/z, /x/home/y, /srv/bob, on rover-{machines.SERIAL}"
    code, text = doctor(recorded.xavier(answers={"numpy": Answer({}, trouble)}), "--json", tmp_path / "report.json")
    assert code == 1
    written = (tmp_path / "report.json").read_text(encoding="utf-8")
    report = json.loads(written)
    assert [item["name"] for item in report["items"]][:4] == ["Python", "environment", "JetPack", "numpy"]
    assert report["items"][3]["found"] == "OSError: ~/x, /media/USER/y, ~/z, /x/home/y, /srv/USER, on rover-SERIAL"
    assert {item["state"] for item in report["items"]} <= {"ok", "warning", "failure", "not here"}
    for word in (machines.SERIAL, "alice", "bob", "carol"):
        assert word not in written + text
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == ["report.json"]


def test_each_package_is_asked_once(recorded, doctor):
    asked = []
    place = recorded.xavier()
    ask = place.ask
    doctor(place._replace(ask=lambda *question: asked.append(question[0]) or ask(*question)))
    assert sorted(asked) == sorted(set(asked))


def test_with_a_numpy_that_kills_python_it_still_tells_the_rest(tmp_path):
    (tmp_path / "numpy.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    (tmp_path / "cv2.py").write_text("raise ImportError('numpy.core.multiarray failed to import')")
    result = subprocess.run(
        [sys.executable, "-m", "irvis.benchmarks.doctor.command", "--json", str(tmp_path / "report.json")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.stderr == ""
    assert result.returncode == 1
    items = {item["name"]: item for item in json.loads((tmp_path / "report.json").read_text())["items"]}
    assert items["numpy"]["found"] == "ended Python by SIGILL"
    assert items["OpenCV"]["found"] == "ImportError: numpy.core.multiarray failed to import"
    assert items["student"]["found"].startswith("not tried without numpy and OpenCV")
    assert items["memory"]["state"] in ("ok", "failure")
