"""Train the student on the task loss, eq. 17 to 20, without a teacher: ``irvis train PAIRS -o student.safetensors``.

Adam and OneCycleLR as in section 4.1.2 of the paper. The run is a function of its options and the pairs: the order of
the crops depends on the seed and the epoch alone, and the state saved on Ctrl-C resumes to the same weights.
"""

import argparse
import csv
import hashlib
import math
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from tqdm import tqdm

from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import replacing
from irvis.runtime.sizes import MINIMUM
from irvis.student.channels_last import forward_channels_last
from irvis.student.checkpoint import save_student
from irvis.student.datasets import draw_crops, epoch_order, to_unit
from irvis.student.losses import gradient_loss, intensity_loss
from irvis.student.network import Student


@dataclass(frozen=True)
class TrainConfig:
    """The paper's recipe. The learning rate starts at a tenth of its peak and ends at a hundredth."""

    crops: int = 1600
    crop_side: int = 128
    batch: int = 4
    steps: int = 80_000
    learning_rate: float = 1e-4
    beta_grad: float = 10.0
    # Share of the steps over which beta_grad rises from 0. The gradient loss compares magnitudes, so it is as content
    # with a negative of the visible image: at full weight from the first step it can win that way, for good.
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("crops", self.batch), ("crop_side", MINIMUM), ("seed", 0)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise IrvisError(f"--{option} must be {least} or more. Got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise IrvisError(f"--learning-rate must be positive. Got {self.learning_rate}")
        if not 0 <= self.beta_grad < math.inf:
            raise IrvisError(f"--beta-grad must be 0 or more. Got {self.beta_grad}")
        if not 0 <= self.warmup <= 1:
            raise IrvisError(f"--warmup must be 0 to 1. Got {self.warmup}")


class Trainer:
    """The state of one run: student, optimiser, schedule and step."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.student = Student()
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=config.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.learning_rate, config.steps, div_factor=10, final_div_factor=10, cycle_momentum=False
        )
        self.step = 0

    def train_step(self, crops: torch.Tensor) -> Dict[str, float]:
        """One step on the crops, uint8 (N, 2, H, W). Raises IrvisError where the loss is not finite."""
        config = self.config
        epoch, index = divmod(self.step * config.batch, len(crops) // config.batch * config.batch)
        batch = crops[epoch_order(len(crops), config.seed, epoch)[index : index + config.batch]]
        infrared, visible = to_unit(batch)
        fused = forward_channels_last(self.student, infrared, visible)
        intensity, gradient = intensity_loss(fused, infrared, visible), gradient_loss(fused, infrared, visible)
        loss = intensity + self.beta_grad * gradient
        if not math.isfinite(loss.item()):
            raise IrvisError(f"the loss is {loss.item()} at step {self.step}; lower --learning-rate")
        self.optimizer.zero_grad()
        loss.backward()
        learning_rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return {
            "step": self.step,
            "loss": loss.item(),
            "intensity": intensity.item(),
            "gradient": gradient.item(),
            "learning_rate": learning_rate,
        }

    @property
    def beta_grad(self) -> float:
        """Weight of the gradient loss at the present step."""
        rise = self.config.warmup * self.config.steps
        return self.config.beta_grad * min(1.0, self.step / rise if rise else 1.0)

    def save(self, path: Path, crops: torch.Tensor) -> None:
        """Write all that a resumed run needs, whole or not at all. Raises FileError."""
        state = {
            "config": asdict(self.config),
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "crops": _digest(crops),
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def restore(self, path: Path, crops: torch.Tensor) -> None:
        """Take up a saved run. Raises FileError where the file is none, or was made with other options or crops."""
        try:
            state = torch.load(path, weights_only=True)
            if state["config"] != asdict(self.config):
                raise FileError(f"{path} was made with other options: {state['config']}; give the same, or remove it")
            if state["crops"] != _digest(crops):
                raise FileError(f"{path} was made on other pairs; give the same folder, or remove it")
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.step = state["step"]
        except IrvisError:
            raise
        except Exception as error:  # torch raises anything from EOFError to UnpicklingError here
            raise FileError(f"not the state of a training run: {path}; remove it to start anew") from error


def _digest(crops: torch.Tensor) -> str:
    return hashlib.sha256(crops.numpy().tobytes()).hexdigest()


class _Stop:
    """Turns the first SIGINT or SIGTERM into a flag, so that a step is never cut in two."""

    def __enter__(self) -> "_Stop":
        self.asked = False
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def train(folder: Path, output: Path, config: TrainConfig = TrainConfig(), save_every: int = 200) -> Optional[Student]:
    """Train on the pairs of ``folder`` and write ``output``; give the student, or None where stopped before the end.

    Beside it stand ``OUTPUT.csv``, the losses of each step, and until the end ``OUTPUT.state``, from which the same
    call goes on. Raises IrvisError.
    """
    if not output.name or output.is_dir():
        raise FileError(f"cannot write {output}: it is a folder")
    state_path, log_path = output.with_name(output.name + ".state"), output.with_name(output.name + ".csv")
    trainer = Trainer(config)
    crops = draw_crops(folder, config.crops, config.crop_side, config.seed)
    if state_path.exists():
        trainer.restore(state_path, crops)
    rows = _read_log(log_path, trainer.step)
    with _Stop() as stop, tqdm(total=config.steps, initial=trainer.step, desc="training", unit="step") as bar:
        while trainer.step < config.steps and not stop.asked:
            rows.append(trainer.train_step(crops))
            bar.set_postfix(loss=f"{rows[-1]['loss']:.4f}", refresh=False)
            bar.update()
            if trainer.step % save_every == 0 or stop.asked:
                trainer.save(state_path, crops)
                _write_log(log_path, rows)
    _write_log(log_path, rows)
    if trainer.step < config.steps:
        trainer.save(state_path, crops)
        return None
    training = {**asdict(config), "data": "/".join(folder.resolve().parts[-2:]), "loss": "task"}
    save_student(output, trainer.student, training)
    state_path.unlink(missing_ok=True)
    return trainer.student


def _write_log(path: Path, rows: list) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys() if rows else ["step"])
        writer.writeheader()
        writer.writerows(rows)


def _read_log(path: Path, steps: int) -> list:
    """Give the first ``steps`` rows of an earlier part of the run."""
    if not steps or not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))[:steps]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``irvis train``."""
    default = TrainConfig()
    parser.add_argument("folder", type=Path, help="folder with the training pairs, in ir/ and vi/")
    parser.add_argument("-o", "--output", type=Path, default=Path("student.safetensors"), help="checkpoint to write")
    for name, help_text in (
        ("steps", "optimiser steps"),
        ("batch", "crops a step"),
        ("crops", "crops drawn from the pairs"),
        ("crop_side", "side of a crop in pixels"),
        ("learning_rate", "peak learning rate"),
        ("beta_grad", "weight of the gradient loss, eq. 17"),
        ("warmup", "share of the steps over which that weight rises from 0"),
        ("seed", "seed of the draw, the order and the initial weights"),
    ):
        value = getattr(default, name)
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=type(value), default=value, help=f"{help_text} (default: %(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis train``; give the exit code: 0 when finished, 130 when stopped and resumable."""
    config = TrainConfig(**{name: getattr(arguments, name) for name in asdict(TrainConfig())})
    if train(arguments.folder, arguments.output, config) is None:
        print(f"stopped; the same command goes on from {arguments.output}.state")
        return 130
    print(f"wrote {arguments.output}")
    return 0
