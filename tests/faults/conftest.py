"""What the tests of faults share: good files of every kind, and commands that are run in this process."""

import importlib
import os
import sys
import traceback
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from irvis.runtime.registration.homography import Registration
from irvis.runtime.samples import make_scene, write_samples
from irvis.runtime.shipped import SHIPPED_MODEL

SIZE = (48, 64)


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A good file of each kind that a command reads, by its suffix, and the folder of pairs that they belong to."""
    folder = tmp_path_factory.mktemp("good")
    write_samples(folder, *SIZE)
    video = cv2.VideoWriter(str(folder / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, SIZE[::-1])
    for _ in range(3):
        video.write(make_scene("street", *SIZE)[1])
    video.release()
    Registration.save(Registration(np.eye(3), SIZE, SIZE, "points"), folder / "a.json")
    (folder / "a.csv").write_text("infrared_x,infrared_y,visible_x,visible_y\n" + "1,2,3,4\n9,9,9,9\n40,3,41,5\n")
    files = {
        ".png": folder / "vi/street.png",
        ".avi": folder / "a.avi",
        ".json": folder / "a.json",
        ".csv": folder / "a.csv",
        ".onnx": SHIPPED_MODEL,
        ".safetensors": SHIPPED_MODEL.with_suffix(".safetensors"),
    }
    return SimpleNamespace(
        folder=folder, files=files, infrared=folder / "ir/street.png", visible=folder / "vi/street.png"
    )


@pytest.fixture(scope="session")
def fork():
    """A function that starts a command in a fork of this process and gives its number.

    ``prepare()`` is called there first; what is printed goes to the file ``messages``.
    """
    from irvis.runtime import cli

    def start(arguments, messages, prepare):
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            sys.stdout = sys.stderr = messages.open("w", buffering=1)
            prepare()
            code = cli.main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    return start


@pytest.fixture
def command(capsys, monkeypatch):
    """A function that runs a command in this process, and gives its exit code and the lines on stderr.

    It is a subcommand of ``irvis``, a program, or a module of irvis such as ``benchmarks.soak``.
    """
    from irvis.benchmarks import bench
    from irvis.export import build_engine
    from irvis.runtime import cli

    others = {"bench.py": bench.main, "build_engine.py": build_engine.main}

    def run(name, *arguments):
        argv = [str(argument) for argument in arguments]
        capsys.readouterr()
        try:
            if name.startswith("benchmarks."):
                monkeypatch.setattr(sys, "argv", [name, *argv])
                code = importlib.import_module(f"irvis.{name}").main()
            else:
                code = others[name](argv) if name in others else cli.main([name, *argv])
        except SystemExit as usage:
            code = usage.code
        return code, capsys.readouterr().err.splitlines()

    return run
