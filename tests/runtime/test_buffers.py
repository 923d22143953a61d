import numpy as np

from irvis.runtime.buffers import Buffers


def test_memory_is_used_again_until_another_kind_is_asked_for():
    buffers = Buffers()
    first = buffers("a", (4, 5))
    assert first.dtype == np.uint8
    assert buffers("a", (4, 5)) is first
    assert buffers("b", (4, 5)) is not first
    assert buffers("a", (4, 6)).shape == (4, 6)
    assert buffers("a", (4, 6), np.float32).dtype == np.float32


def test_what_is_kept_is_given_again():
    buffers, array = Buffers(), np.zeros((2, 3), np.uint8)
    assert buffers.latest("a") is None
    assert buffers.keep("a", array) is array
    assert buffers.latest("a") is array
    assert buffers("a", (2, 3)) is array
