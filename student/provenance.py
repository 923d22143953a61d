"""What a checkpoint records of how it was made, and whether an existing one was made as is now wanted."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Sequence

import torch

from irvis.runtime.errors import FileError
from irvis.runtime.files import parse_json
from irvis.runtime.pairs import Pair
from irvis.student.checkpoint import read_metadata
from irvis.student.datasets import draw_crops
from irvis.student.recipes import TrainConfig
from irvis.student.teacher_cache import digest_of
from irvis.student.teachers.load import Teacher
from irvis.student.trainer import Trainer


def data_of(pairs: Sequence[Pair]) -> Dict[str, Any]:
    """Return a description of the pairs that a run was trained on."""
    folders = sorted({"/".join(pair.infrared.resolve().parts[-4:-1]) for pair in pairs})
    return {"pairs": len(pairs), "data": folders}


def crops_sha256(pairs: Sequence[Pair], config: TrainConfig) -> str:
    """Return the SHA-256, as a checkpoint records it, of the crops that a run would draw from these pairs."""
    return digest_of(draw_crops(pairs, config.crops, config.crop_side, config.seed).crops)


def provenance(trainer: Trainer, data: Dict[str, Any], teachers: Sequence[Teacher]) -> Dict[str, Any]:
    """Return what the checkpoint records of how it was made."""
    return {
        **asdict(trainer.config),
        **data,
        "crops_sha256": trainer.identity["crops"],
        "teachers": {teacher.name: teacher.digest for teacher in teachers},
        "init": trainer.identity["init"],
        "processes": trainer.among.world,
        "device": trainer.among.device.type,
        "torch": torch.__version__,
        **({"downstream": asdict(trainer.downstream.config)} if trainer.downstream else {}),
    }


def check_provenance(checkpoint: Path, config: TrainConfig, pairs: Sequence[Pair]) -> None:
    """Raise FileError unless a checkpoint was trained with these options on these pairs, as far as it records them."""
    try:
        found = dict(parse_json(read_metadata(checkpoint)["training"].encode()))
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"not a checkpoint of irvis train: {checkpoint}; remove it") from error
    # Old checkpoints record no more of their pairs than the folders' names.
    wanted = asdict(config) if "crops_sha256" in found else {**asdict(config), **data_of(pairs)}
    other = [f"{name} {found[name]}" for name in wanted if name in found and found[name] != wanted[name]]
    if not other and "crops_sha256" in found:
        other = ["other pairs"] if found["crops_sha256"] != crops_sha256(pairs, config) else []
    if other:
        raise FileError(f"{checkpoint} was trained with {', '.join(other)}; remove it, or give another --output")
