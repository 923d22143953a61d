"""What the tests of the runtime share."""

import os
import signal

import pytest


@pytest.fixture
def in_a_fork():
    """A function that gives what a function raises in a fork of this process, or "nothing"."""

    def run(body):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            signal.alarm(60)
            try:
                body()
                told = "nothing"
            except BaseException as error:
                told = f"{type(error).__name__}: {error}"
            os.write(writing, told.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read().decode()
        assert os.waitpid(child, 0)[1] == 0
        return told

    return run


@pytest.fixture
def small_model(tmp_path):
    """The shipped student for frames of 24x32 alone."""
    onnx = pytest.importorskip("onnx")
    from irvis.runtime.shipped import SHIPPED_MODEL

    model = onnx.load(str(SHIPPED_MODEL))
    for tensor in model.graph.input:
        height, width = tensor.type.tensor_type.shape.dim[2:]
        height.dim_value, width.dim_value = 24, 32
    path = tmp_path / "small.onnx"
    onnx.save(model, str(path))
    return path


@pytest.fixture
def cut_avi():
    """A function that cuts an AVI of MJPEG off behind so many frames, as a copy that was broken off; it gives its path.

    Its header still tells of all.
    """

    def cut(path, count):
        parts = path.read_bytes().split(b"00dc")  # which the header has once
        path.write_bytes(b"00dc".join(parts[: count + 2]))
        return path

    return cut
