"""A teacher's outputs on the training crops, computed once and cached on disk, so that a step runs only the student.

Of the feature, only what the losses use is kept: the mean over its channels at full size (eq. 1) and the unit vectors
at 32 x 32 (eq. 3), the latter as float16: their components are at most 1, so S changes by less than 1e-3.
"""

import hashlib
import json
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Literal, NamedTuple, Optional

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from irvis.runtime.errors import FileError, ModelError
from irvis.runtime.files import user_cache, write_json
from irvis.runtime.locks import lock
from irvis.student.datasets import to_unit
from irvis.student.losses import attention_map, similarity_samples, unit_rows
from irvis.student.progress import progress
from irvis.student.teachers.load import Teacher, beyond_unit, repeatable_output

FORMAT = "1"  # changes whenever the stored content does
BATCH = 4  # crops that go through the teacher together
INDEX = "index.json"
ROUNDING = 1e-4  # of a map's largest value: allowed difference for another device or number of threads

logger = logging.getLogger("irvis.teachers")


class TeacherMaps(NamedTuple):
    """A teacher's outputs for B crops, row by row."""

    fused: Tensor  # float32 (B, 1, H, W)
    attention: Tensor  # attention_map of the feature: float32 (B, 1, h, w)
    samples: Tensor  # unit_rows of its similarity_samples: float16 (B, C, 32, 32)


def digest_of(crops: Tensor) -> str:
    """Return the SHA-256 of the crops' bytes."""
    return hashlib.sha256(crops.numpy().tobytes()).hexdigest()


def teacher_maps(teacher: Teacher, infrared: Tensor, visible: Tensor) -> TeacherMaps:
    """Run the teacher on (B, 1, H, W) planes in [0, 1], so that another run gives the same, as a cache needs.

    Raises ModelError if an output is misshaped or not finite.
    """
    feature, fused = repeatable_output(teacher, infrared, visible)
    if fused.shape != infrared.shape or feature.ndim != 4 or len(feature) != len(infrared):
        raise ModelError(
            f"{teacher.name} must return a fused {tuple(infrared.shape)} and a feature (B, C, h, w). "
            f"Got {tuple(fused.shape)} and {tuple(feature.shape)}"
        )
    feature, fused = feature.float(), fused.float()
    if not (feature.isfinite().all() and fused.isfinite().all()):
        raise ModelError(f"{teacher.name} gives NaN or infinity on the training crops; check its weights")
    return TeacherMaps(fused, attention_map(feature), unit_rows(similarity_samples(feature)).half())


def cached_maps(teacher: Teacher, crops: Tensor, folder: Optional[Path] = None) -> TeacherMaps:
    """Return the teacher's maps on all crops, uint8 (N, 2, H, W), as tensors memory-mapped from disk.

    Missing outputs are computed and written below ``folder``, keyed by teacher, weights and crops; if stopped, this
    continues where it was. No digest covers everything that a user's own teacher may depend on, so it runs on the first
    crops at every start, and if its outputs differ from the cached ones, all are computed again. Raises FileError or
    ModelError.
    """
    key = hashlib.sha256("\n".join((FORMAT, teacher.name, teacher.digest, digest_of(crops))).encode()).hexdigest()
    place = (folder or user_cache("teachers")) / f"{_plain(teacher.name)}-{key[:16]}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place):
            arrays = _open(place, crops)
            done = _done(place) if arrays else 0
            if arrays and done and not _still_gives(teacher, crops[:BATCH], arrays):
                logger.warning("%s has changed: its cached outputs are computed again", teacher.name)
                done = 0
            if done == 0:
                arrays = None  # files without a checked output may have other shapes than the teacher's outputs
            if done < len(crops):
                arrays = _fill(place, teacher, crops, arrays, done)
    except OSError as error:
        raise FileError(f"cannot cache teacher outputs at {place}: {error.strerror or error}; give --cache") from error
    assert arrays is not None
    maps = TeacherMaps(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    beyond = beyond_unit(maps.fused)
    if beyond:
        logger.warning("%s: %s", teacher.name, beyond)
    return maps


def _fill(
    place: Path, teacher: Teacher, crops: Tensor, arrays: Optional[Dict[str, np.ndarray]], done: int
) -> Dict[str, np.ndarray]:
    starts: List[int] = list(range(done, len(crops), BATCH))
    with progress(total=len(crops), initial=done, desc=f"outputs of {teacher.name}", unit="crop") as bar:
        for start in starts:
            infrared, visible = to_unit(crops[start : start + BATCH])
            maps = teacher_maps(teacher, infrared, visible)
            if arrays is None:
                arrays = _create(place, maps, len(crops))
            for name, tensor in maps._asdict().items():
                arrays[name][start : start + len(tensor)] = tensor.cpu().numpy()
            bar.update(len(infrared))
            if (start // BATCH) % 16 == 15 or start == starts[-1]:
                for array in arrays.values():
                    array.flush()  # type: ignore[attr-defined]
                _note(place, start + len(infrared))
    assert arrays is not None
    return arrays


def _still_gives(teacher: Teacher, crops: Tensor, arrays: Dict[str, np.ndarray]) -> bool:
    """Return whether the teacher's outputs on the first crops equal the cached ones, up to rounding."""
    for name, tensor in teacher_maps(teacher, *to_unit(crops))._asdict().items():
        found, kept = tensor.cpu(), torch.from_numpy(arrays[name][: len(crops)])
        if found.shape != kept.shape:
            return False
        tolerance = max(ROUNDING, torch.finfo(kept.dtype).eps) * kept.float().abs().max()
        if not (found.float() - kept.float()).abs().max() <= tolerance:
            return False
    return True


def _create(place: Path, maps: TeacherMaps, count: int) -> Dict[str, np.ndarray]:
    _note(place, 0)  # before the files of another format are replaced
    _remove(place)  # not overwritten: another run may be reading them
    arrays: Dict[str, np.ndarray] = {}
    try:
        for name, tensor in maps._asdict().items():
            dtype = np.float16 if tensor.dtype == torch.float16 else np.float32
            path, shape = place / f"{name}.npy", (count, *tensor.shape[1:])
            arrays[name] = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            if hasattr(os, "posix_fallocate"):  # macOS has none
                with path.open("r+b") as stream:  # a write to memory without blocks on a full disk ends the process
                    os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    except OSError:
        _remove(place)
        raise
    return arrays


def _remove(place: Path) -> None:
    for name in TeacherMaps._fields:
        (place / f"{name}.npy").unlink(missing_ok=True)


def _open(place: Path, crops: Tensor) -> Optional[Dict[str, np.ndarray]]:
    """Return the arrays of an earlier run, None if they are missing or unusable."""
    try:
        # Copy on write: torch wants writable memory, and no change to it may reach the file.
        mode: Literal["r+", "c"] = "r+" if _done(place) < len(crops) else "c"
        return {name: np.load(place / f"{name}.npy", mmap_mode=mode) for name in TeacherMaps._fields}
    except Exception:  # of damaged files: NumPy, zipfile and json raise exceptions with no common base class
        return None


def _done(place: Path) -> int:
    return int(json.loads((place / INDEX).read_text())["done"])


def _note(place: Path, done: int) -> None:
    write_json(place / INDEX, {"done": done})


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Keep a second run from filling the same cache at the same time."""
    with (place / "lock").open("w") as stream:
        lock(stream)
        yield


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)
