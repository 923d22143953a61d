import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from irvis.benchmarks.forms import largest_difference
from irvis.runtime.frames import join_luminance, split_luminance
from irvis.runtime.samples import make_scene

SIZE = (24, 40)


def test_frames_are_held_against_the_runtimes_own():
    infrared, visible = make_scene("street", *SIZE)
    fused = infrared.astype(np.float32) / 255
    frame = join_luminance(fused, split_luminance(visible))
    assert largest_difference(frame, fused, visible) == 0
    off = frame.copy()
    off[3, 5, 1] ^= 4
    assert largest_difference(off, fused, visible) == pytest.approx(4 / 255)
    for offset in (0.25, -0.25):
        assert largest_difference(fused + np.float32(offset), fused, visible) == pytest.approx(0.25, abs=1e-6)
