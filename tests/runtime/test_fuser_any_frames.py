"""Whatever arrays come, a Fuser gives the fused frame of their size, or says in one line why not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvis.runtime import FrameError, Fuser

DTYPES = "u1 u2 >u2 i1 i2 u4 i8 f2 f4 f8 c8 ? O S3 M8[s]".split()
SHAPES = [(32, 40), (32, 40, 3), (32, 40, 1), (32, 40, 4), (15, 40), ()]
VIEWS = {
    "whole": lambda frame: frame,
    "upside down": lambda frame: frame[::-1] if frame.ndim else frame,
    "mirrored": lambda frame: frame[:, ::-1] if frame.ndim > 1 else frame,
    "every second": lambda frame: frame[::2, ::2] if frame.ndim > 1 else frame,
    "other channels": lambda frame: frame[..., ::-1] if frame.ndim else frame,
    "columns first": np.asfortranarray,
    "transposed": lambda frame: frame.T,
    "one row for all": lambda frame: np.broadcast_to(frame[:1], frame.shape) if frame.ndim else frame,
    "read-only": lambda frame: (
        np.frombuffer(frame.tobytes(), frame.dtype).reshape(frame.shape) if frame.dtype.kind != "O" else frame
    ),
}


def random_frame(shape, dtype, seed, view):
    """Return an array in one of VIEWS; NaN and infinities are among its floats."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    data = np.random.default_rng(seed).integers(0, 256, count, np.uint8)
    frame = np.zeros(shape, dtype) if dtype == "O" else data.view(dtype).reshape(shape)
    return VIEWS[view](frame)


SEEDS, NAMES = st.integers(0, 2**32 - 1), st.sampled_from(sorted(VIEWS))
ANY = st.builds(
    random_frame,
    st.sampled_from(SHAPES) | st.lists(st.integers(0, 40), max_size=4).map(tuple),
    st.sampled_from(DTYPES),
    SEEDS,
    NAMES,
)


@pytest.fixture(scope="module")
def fuser():
    with Fuser(threads=1, infrared_smoothing=0) as fuser:
        yield fuser


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(["u1", "u2"]), shape=st.sampled_from(SHAPES[:2]), seed=SEEDS, names=st.tuples(NAMES, NAMES)
)
def test_a_view_is_fused_as_its_copy_is(fuser, dtype, shape, seed, names):
    infrared, visible = random_frame((32, 40), dtype, seed, names[0]), random_frame(shape, "u1", seed + 1, names[1])
    if infrared.shape != visible.shape[:2] or visible.shape[2:] not in ((), (3,)):
        with pytest.raises(FrameError):
            fuser(infrared, visible)
        return
    fused = fuser(infrared, visible)
    np.testing.assert_array_equal(fused, fuser(infrared.copy(), visible.copy()))
    assert not np.shares_memory(fused, visible)


@settings(max_examples=200)
@given(infrared=ANY | st.none() | st.just([[1]]), visible=ANY | st.just("frame"))
def test_any_arrays_are_fused_or_refused_in_one_line(fuser, infrared, visible):
    try:
        fused = fuser(infrared, visible)
    except FrameError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) < 300
    else:
        assert (fused.dtype, fused.shape) == (np.uint8, visible.shape)


@settings(max_examples=60)
@given(out=ANY | st.just(b"out"))
def test_any_out_is_filled_or_refused_in_one_line(fuser, out):
    frame = np.full((32, 40), 90, np.uint8)
    try:
        fused = fuser(frame, frame, out)
    except FrameError as error:
        line = str(error)
        assert line.startswith("out must be ")
    else:
        assert fused is out
