import io
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from irvis.runtime.errors import FileError
from irvis.runtime.pairs import pairs_of
from irvis.student import crop_pack
from irvis.student.crop_pack import read_pack, write_pack
from irvis.student.datasets import draw_crops
from irvis.student.recipes import TrainConfig

CONFIG = TrainConfig(crops=6, crop_side=20, batch=2)


@pytest.fixture(scope="module")
def pack(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "crops.npz"
    configs = [CONFIG, replace(CONFIG, crops=4, crop_side=32), replace(CONFIG, steps=7)]
    write_pack(path, pairs_of(samples), configs, {"pairs": 3})
    return path


def test_the_crops_come_back_as_a_run_draws_them(pack, samples):
    found = read_pack(pack)
    assert found.source == {"pairs": 3}
    assert len(found.crops) == 2
    for config in (CONFIG, replace(CONFIG, crops=4, crop_side=32)):
        wanted = draw_crops(pairs_of(samples), config.crops, config.crop_side, config.seed).crops
        assert torch.equal(found.crops_of(config), wanted)


def test_crops_that_were_not_packed_are_named(pack):
    with pytest.raises(FileError, match=r"has crops 6 of 20 by seed 0, .*\. Wanted 6 of 20 by seed 1; pack them too"):
        read_pack(pack).crops_of(replace(CONFIG, seed=1))


@pytest.mark.parametrize("content", [b"", b"no pack", "half", "other"])
def test_another_file_is_refused_in_one_line(pack, tmp_path, content):
    path = tmp_path / "crops.npz"
    if content == "other":
        np.savez(path, source=np.zeros(3, np.uint8), a=np.zeros(3))
    else:
        path.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2] if content == "half" else content)
    with pytest.raises(FileError, match=f"not a pack of crops: {path}"):
        read_pack(path)


def npz(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **{"source": np.frombuffer(b"{}", np.uint8), **arrays})
    return stream.getvalue()


def png(rows):
    return cv2.imencode(".png", rows)[1].ravel()


HOSTILE = {
    "objects": npz(a=np.array([{}], object)),
    "a source that is a list": npz(source=np.frombuffer(b"[]", np.uint8)),
    "a source without end": npz(source=np.frombuffer(b"[" * 100_000, np.uint8)),
    "a picture of 16 bits": npz(a=png(np.zeros((32, 32), np.uint16))),
    "a picture of one column": npz(a=png(np.zeros((32, 1), np.uint8))),
    "a picture in colour": npz(a=png(np.zeros((32, 32, 3), np.uint8))),
    "rows of no crop": npz(a=png(np.zeros((33, 32), np.uint8))),
    "what cannot be inflated": npz(a=np.zeros(999)).replace(b"\xed", b"\xee"),
    "four gigabytes and more": npz(a=np.zeros(9)).replace(struct.pack("<I", 9 * 8 + 128), b"\xff" * 4),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_one_is_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(crop_pack, "LARGEST", 1 << 30)
    (tmp_path / "crops.npz").write_bytes(HOSTILE[name])
    with pytest.raises(FileError, match="not a pack of crops"):
        read_pack(tmp_path / "crops.npz")


class MakesFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_in_one_is_run(tmp_path):
    path, proof = tmp_path / "crops.npz", tmp_path / "proof"
    path.write_bytes(npz(a=np.array([MakesFile(proof)], object)))
    with pytest.raises(FileError, match="not a pack of crops"):
        read_pack(path)
    assert not proof.exists()
    with np.load(path, allow_pickle=True) as arrays:  # the file does what it says where nothing stops it
        assert arrays["a"].shape == (1,)
    assert proof.exists()


def test_one_that_would_take_too_much_memory_is_refused(pack, monkeypatch):
    monkeypatch.setattr(crop_pack, "LARGEST", 1000)
    with pytest.raises(FileError, match="not a pack of crops"):
        read_pack(pack)


def test_no_file_is_said(tmp_path):
    with pytest.raises(FileError, match="crops not found"):
        read_pack(tmp_path / "none.npz")
