"""INT8's calibration: what TensorRT is fed, which ranges serve again, and what goes wrong on the way.

The GPU's memory is a stand-in that keeps what is copied to it; TensorRT's calibrator is a stand-in that calls back as
its documentation says. What TensorRT makes of it is for the tests marked ``gpu``.
"""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np
import pytest

from irvis.export.calibration import Calibration, calibration_key, make_batch, read_ranges, write_ranges
from irvis.export.sample_frames import read_frames, to_planes
from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.pairs import Pair, pairs_of

SIZE = (96, 128)


@pytest.fixture
def pairs(samples: Path) -> List[Pair]:
    return pairs_of(samples)


@pytest.mark.parametrize("size", [SIZE, (48, 64)])
def test_batches_are_what_the_engine_is_measured_on_too(pairs: List[Pair], size: Any) -> None:
    for pair in pairs:
        frames = read_frames(pair, size)
        for name, frame, plane in zip(("infrared", "visible"), frames, to_planes(frames)):
            for takes_frames, wanted in ((True, frame), (False, plane[None, None])):
                found = make_batch(pair, size, takes_frames)[name]
                np.testing.assert_array_equal(found, wanted)
                assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
                assert found.flags.c_contiguous


# The key and the file.


def test_the_key_changes_with_all_that_it_depends_on(pairs: List[Pair], tmp_path: Path) -> None:
    def key(**changes: Any) -> str:
        given = {"onnx_sha256": "0" * 64, "tensorrt_version": "8.5.2.2", "size": SIZE, "frames": True, "pairs": pairs}
        return calibration_key(**{**given, **changes})

    edited = tmp_path / "edited.png"
    edited.write_bytes(pairs[0].infrared.read_bytes() + b"\0")
    also_edited = tmp_path / "also_edited.png"
    also_edited.write_bytes(pairs[0].visible.read_bytes() + b"\0")
    keys = [
        key(),
        key(onnx_sha256="1" * 64),
        key(tensorrt_version="8.6.1"),
        key(size=(128, 96)),
        key(frames=False),
        key(pairs=pairs[:-1]),
        key(pairs=pairs[::-1]),
        key(pairs=[pairs[0]._replace(infrared=edited), *pairs[1:]]),
        key(pairs=[pairs[0]._replace(visible=also_edited), *pairs[1:]]),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]
    copied = tmp_path / "copied.png"
    copied.write_bytes(pairs[0].infrared.read_bytes())
    assert key(pairs=[pairs[0]._replace(infrared=copied), *pairs[1:]]) == keys[0]  # where a file lies is no matter


def test_the_key_of_files_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="image not found"):
        calibration_key("0", "8.5", SIZE, True, [Pair("a", tmp_path / "a.png", tmp_path / "b.png")])


RANGES = b"TRT-8502-EntropyCalibration2\ninfrared: 3c010a14\nfused: 3c008912\n"


def test_ranges_serve_for_their_own_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "student.engine.calibration"
    write_ranges(path, "a" * 64, RANGES)
    assert read_ranges(path, "a" * 64) == RANGES
    assert read_ranges(path, "b" * 64) is None
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", RANGES, b"irvis calibration " + b"a" * 64, b"irvis calibration aa\nx"])
def test_a_file_of_another_kind_is_no_range(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ranges"
    path.write_bytes(content)
    assert read_ranges(path, "a" * 64) is None


# What TensorRT calls.


class StandInCalibrator:
    pass


class StandInGpu:
    """Memory whose addresses are numbers, and which keeps what is copied to it."""

    def __init__(self) -> None:
        self.memory: Dict[int, Any] = {}
        self.depth = 0
        self.cuda = SimpleNamespace(mem_alloc=self._alloc, memcpy_htod=self._copy)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self.depth += 1
        yield
        self.depth -= 1

    def _alloc(self, size: int) -> int:
        assert self.depth == 1
        self.memory[len(self.memory) + 1] = size
        return len(self.memory)

    def _copy(self, address: int, array: np.ndarray) -> None:
        assert self.depth == 1
        self.memory[address] = array.copy()


def make(gpu: StandInGpu, pairs: Sequence[Pair], ranges: Optional[bytes] = None, steps: Any = None) -> Calibration:
    trt = SimpleNamespace(IInt8EntropyCalibrator2=StandInCalibrator)
    tell = (lambda text: None) if steps is None else steps.append
    return Calibration(trt, gpu, pairs, SIZE, False, ranges, tell)  # type: ignore[arg-type]


def test_each_pair_is_fed_once_in_the_order_of_the_names(pairs: List[Pair]) -> None:
    gpu, steps = StandInGpu(), []  # type: ignore[var-annotated]
    calibration = make(gpu, pairs, steps=steps)
    calibrator = calibration.calibrator
    assert calibrator.get_batch_size() == 1
    assert calibrator.read_calibration_cache() is None
    for pair in pairs:
        visible, infrared = calibrator.get_batch(["visible", "infrared"])
        batch = make_batch(pair, SIZE, frames=False)
        np.testing.assert_array_equal(gpu.memory[infrared], batch["infrared"])
        np.testing.assert_array_equal(gpu.memory[visible], batch["visible"])
    assert calibrator.get_batch(["visible", "infrared"]) == []
    assert len(gpu.memory) == 2  # made once, not for each pair
    assert steps == [f"calibrating, pair {index} of 3" for index in (1, 2, 3)]
    calibrator.write_calibration_cache(memoryview(RANGES))
    assert calibration.ranges == RANGES
    calibration.check()
    calibration.close()


def test_a_second_build_after_one_that_found_no_ranges_gets_all_pairs(pairs: List[Pair]) -> None:
    gpu, steps = StandInGpu(), []  # type: ignore[var-annotated]
    calibrator = make(gpu, pairs, steps=steps).calibrator
    for _ in range(2):
        assert calibrator.read_calibration_cache() is None
        while calibrator.get_batch(["infrared", "visible"]):
            pass
    assert steps == 2 * [f"calibrating, pair {index} of 3" for index in (1, 2, 3)]


def test_a_second_build_uses_the_ranges_of_the_first(pairs: List[Pair]) -> None:
    calibration = make(StandInGpu(), pairs)
    calibrator = calibration.calibrator
    calibrator.read_calibration_cache()
    calibrator.get_batch(["infrared", "visible"])
    calibrator.write_calibration_cache(RANGES)
    assert calibrator.read_calibration_cache() == RANGES


def test_kept_ranges_are_given_at_once(pairs: List[Pair]) -> None:
    assert make(StandInGpu(), pairs, RANGES).calibrator.read_calibration_cache() == RANGES


def test_a_pair_that_cannot_be_read_ends_it_and_is_raised_afterwards(pairs: List[Pair], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    calibration = make(StandInGpu(), [pairs[0]._replace(infrared=tmp_path / "bad.png"), *pairs[1:]])
    assert calibration.calibrator.get_batch(["infrared", "visible"]) == []
    assert calibration.calibrator.get_batch(["infrared", "visible"]) == []
    with pytest.raises(FileError, match=r"not an image .*bad\.png"):
        calibration.check()


def test_what_cuda_raises_is_raised_afterwards_as_one_line(pairs: List[Pair]) -> None:
    gpu = StandInGpu()

    def fail(size: int) -> int:
        raise RuntimeError("cuMemAlloc failed: out of memory")

    gpu.cuda.mem_alloc = fail
    calibration = make(gpu, pairs)
    assert calibration.calibrator.get_batch(["infrared", "visible"]) == []
    with pytest.raises(ModelError, match="the calibration failed: cuMemAlloc failed: out of memory"):
        calibration.check()
