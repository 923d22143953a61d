"""Numbers that cannot drift: the samples and what the shipped students make of them, kept in ``golden/``.

The same on every Python, numpy, OpenCV and ONNX Runtime that irvis is for (``make test-oldest test-newest``), by one
thread and by many. A student or a scene that is meant to be another is kept by ``python tests/runtime/test_golden.py``.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from irvis.runtime.fuser import Fuser
from irvis.runtime.images import read_image, write_image
from irvis.runtime.samples import SCENES, make_scene
from irvis.runtime.shipped import NAMES

FOLDER = Path(__file__).with_name("golden")
HASHES = FOLDER / "sha256.json"
SIZE = (96, 128)
# A sum in another order may round to the other side: of 8-bit values one in a thousand, and by one level.
LEVELS, SHARE = 1, 1e-3


def digest(frame):
    return hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()


def frames_of(scene):
    return dict(zip(("infrared", "visible"), make_scene(scene, *SIZE)))


def fuse(model, frames, threads):
    with Fuser(model, providers=("CPUExecutionProvider",), threads=threads, infrared_smoothing=0) as fuser:
        return fuser(frames["infrared"], frames["visible"]).copy()


def kept_fused(model, scene):
    return FOLDER / (f"{scene}.png" if model == "student" else f"{scene}_{model}.png")


@pytest.mark.parametrize("scene", SCENES)
def test_the_samples_are_the_same_to_the_bit(scene):
    kept = json.loads(HASHES.read_text())
    assert {name: digest(frame) for name, frame in frames_of(scene).items()} == kept[scene]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("model", NAMES)
def test_the_fused_frames_are_the_same_but_for_rounding(model, scene, threads):
    fused, kept = fuse(model, frames_of(scene), threads), read_image(kept_fused(model, scene))
    difference = np.abs(fused.astype(int) - kept)
    assert difference.max() <= LEVELS
    assert (difference > 0).mean() <= SHARE


@pytest.mark.parametrize("threads", [1, 4])
def test_one_machine_gives_the_same_bits_each_time(threads):
    frames = frames_of("street")
    assert digest(fuse(None, frames, threads)) == digest(fuse(None, frames, threads))


if __name__ == "__main__":
    kept = {}
    for name in SCENES:
        made = frames_of(name)
        kept[name] = {kind: digest(frame) for kind, frame in made.items()}
        for model in NAMES:
            write_image(kept_fused(model, name), fuse(model, made, 1))
    HASHES.write_text(json.dumps(kept, indent=1) + "\n")
