"""Training crops in one file, for a machine that has a GPU but not the pairs."""

import io
import json
import zipfile
from typing import Any, Dict, NamedTuple, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from irvis.runtime.errors import FileError
from irvis.runtime.files import PathLike, parse_json, read_bytes, write_bytes
from irvis.runtime.images import decode
from irvis.runtime.pairs import Pair
from irvis.student.datasets import draw_crops
from irvis.student.recipes import TrainConfig

SOURCE = "source"  # what the crops were drawn from, as JSON
LARGEST = 4 << 30  # bytes of all arrays: a file of a few megabytes may expand to terabytes of zeros


class CropPack(NamedTuple):
    """The crops of one or more runs, and where they come from."""

    crops: Dict[str, Tensor]  # by ``key_of``: uint8 (N, 2, H, W)
    source: Dict[str, Any]

    def crops_of(self, config: TrainConfig) -> Tensor:
        """Return the crops that a run draws. Raises FileError if the pack does not have them."""
        key = key_of(config)
        if key not in self.crops:
            raise FileError(f"the pack has crops {', '.join(self.crops)}. Wanted {key}; pack them too")
        return self.crops[key]


def key_of(config: TrainConfig) -> str:
    """Return a name for what the draw of crops depends on besides the pairs."""
    return f"{config.crops} of {config.crop_side} by seed {config.seed}"


def write_pack(path: PathLike, pairs: Sequence[Pair], configs: Sequence[TrainConfig], source: Dict[str, Any]) -> None:
    """Draw the crops of each run and write them to an ``.npz``, one PNG per draw. Raises IrvisError."""
    arrays: Dict[str, Any] = {SOURCE: np.frombuffer(json.dumps(source).encode(), np.uint8)}
    for config in {key_of(config): config for config in configs}.values():
        crops = draw_crops(pairs, config.crops, config.crop_side, config.seed).crops
        # Infrared beside visible, one crop below the other.
        arrays[key_of(config)] = cv2.imencode(".png", crops.transpose(1, 2).flatten(2).flatten(0, 1).numpy())[1].ravel()
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_bytes(path, stream.getvalue())


def read_pack(path: PathLike) -> CropPack:
    """Return the pack in a file that ``write_pack`` wrote. Raises FileError."""
    content = io.BytesIO(read_bytes(path, "crops"))
    try:
        with zipfile.ZipFile(content) as members:
            if sum(member.file_size for member in members.infolist()) > LARGEST:
                raise ValueError("too large")
        content.seek(0)
        with np.load(content, allow_pickle=False) as arrays:
            source = parse_json(arrays[SOURCE].tobytes())
            crops = {key: _crops(arrays[key]) for key in arrays.files if key != SOURCE}
        if not isinstance(source, dict):
            raise ValueError("no source")
    except Exception as error:  # zipfile, zlib, NumPy and OpenCV raise exceptions with no common base class
        raise FileError(f"not a pack of crops: {path}") from error
    return CropPack(crops, source)


def _crops(png: np.ndarray) -> Tensor:
    rows: Any = decode(png.tobytes())  # None if it is not an image
    side = rows.shape[1] // 2
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise ValueError("no planes of 8 bits")
    return torch.from_numpy(rows).view(-1, side, 2, side).transpose(1, 2).contiguous()
