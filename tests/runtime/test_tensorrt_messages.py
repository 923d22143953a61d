"""Which messages of TensorRT are kept by whom; they are logged here as its own logger would."""

import sys
import threading

import pytest

from irvis.runtime.errors import ModelError
from irvis.runtime.tensorrt_messages import TensorRTErrors, import_tensorrt, logger


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_library_that_tensorrt_cannot_load_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("import ctypes; ctypes.CDLL('libnvinfer_of_none.so.8')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(ModelError, match=r"cannot be imported \(libnvinfer_of_none\.so\.8: .*python3-libnvinfer"):
        import_tensorrt()


def test_the_first_error_or_else_the_last_warning_is_told():
    with TensorRTErrors() as errors:
        assert str(errors) == "TensorRT gave no reason"
        logger.warning("one")
        logger.warning("two")
        assert str(errors) == "two"
        logger.error("first\nline")
        logger.error("second")
    logger.error("after it")
    assert str(errors) == "first line"
    assert len(errors.errors) == 2
    with errors:
        assert str(errors) == "TensorRT gave no reason"


def test_two_threads_do_not_get_each_others():
    def other():
        with TensorRTErrors() as theirs:
            logger.error("theirs")
        told.append(str(theirs))

    told = []
    with TensorRTErrors() as mine:
        in_a_thread(other)
        logger.error("mine")
    assert told == ["theirs"]
    assert mine.errors == ["mine"]


@pytest.mark.parametrize("count", [1, 2])
def test_what_a_thread_of_tensorrts_own_says_is_kept_by_all_in_one_thread(count):
    """It builds in several threads, which open nothing of ours."""
    opened = [TensorRTErrors() for _ in range(count)]
    with opened[0], opened[-1]:
        in_a_thread(lambda: logger.error("a worker's"))
        logger.error("ours")
    for errors in opened:
        assert errors.errors[0] == "a worker's"
        assert errors.errors[-1] == "ours"
