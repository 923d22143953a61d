"""The options that a training run depends on, besides its pairs and teachers, and the runs that have a name."""

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from irvis.runtime.errors import IrvisError
from irvis.runtime.sizes import MINIMUM
from irvis.student.weighting import TEACHER_WEIGHTINGS, WEIGHTINGS


@dataclass(frozen=True)
class TrainConfig:
    """The options of a run. The defaults are the paper's (section 4.1.2), except ``warmup``."""

    crops: int = 1600
    crop_side: int = 128
    batch: int = 4
    steps: int = 80_000  # 200 epochs of 1600 crops
    learning_rate: float = 1e-4  # peak of OneCycleLR
    learning_rate_start: float = 1e-5
    learning_rate_end: float = 1e-6
    rise: float = 0.3  # share of the steps until the peak
    beta_grad: float = 10.0  # eq. 20
    alpha_kd: float = 1.0  # eq. 16
    lambda_att: float = 1.0  # eq. 21, with the next two
    lambda_sim: float = 1.0
    lambda_out: float = 1.0
    lambda_grad: float = 10.0  # eq. 8
    # Share of the steps over which beta_grad rises from 0; with any, a guard against negatives is on throughout, see
    # ``guarded_gradient_loss``. 0 is as in the paper.
    warmup: float = 0.05
    correlation: float = 0.0  # weight of the correlation loss; it and the next are not in the paper
    fidelity: float = 0.0
    weighting: str = "fixed"  # of the distillation terms
    teacher_weighting: str = "mean"  # of several teachers
    augment: bool = False
    ema: float = 0.0  # decay of the averaged weights that are saved; 0 saves the last ones
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("crops", self.batch), ("crop_side", MINIMUM)):
            self._check(name, getattr(self, name) >= least, f"{least} or more")
        self._check("seed", 0 <= self.seed < 2**63, "0 or more and below 2^63")
        for name in ("learning_rate", "learning_rate_start", "learning_rate_end"):
            self._check(name, 0 < getattr(self, name) < math.inf, "positive")
        for name in ("learning_rate_start", "learning_rate_end"):
            self._check(name, getattr(self, name) <= self.learning_rate, f"at most the peak, {self.learning_rate}")
        for name in (
            "beta_grad",
            "alpha_kd",
            "lambda_att",
            "lambda_sim",
            "lambda_out",
            "lambda_grad",
            "correlation",
            "fidelity",
        ):
            self._check(name, 0 <= getattr(self, name) < math.inf, "0 or more")
        for name in ("warmup", "rise"):
            self._check(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._check("ema", 0 <= self.ema < 1, "0 or more and below 1")
        self._check("weighting", self.weighting in WEIGHTINGS, f"one of {', '.join(WEIGHTINGS)}")
        self._check(
            "teacher_weighting",
            self.teacher_weighting in TEACHER_WEIGHTINGS,
            f"one of {', '.join(TEACHER_WEIGHTINGS)}",
        )

    def _check(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise IrvisError(f"--{name.replace('_', '-')} must be {wanted}. Got {getattr(self, name)}")


class Recipe(NamedTuple):
    """A named run: its options, and its teachers and initial student unless the command names others."""

    summary: str
    config: TrainConfig
    teachers: Tuple[str, ...] = ()  # published networks, whose weights must be given; shipped students need not be
    base: Optional[str] = None  # recipe whose student it starts from, trained first
    init: Optional[str] = None  # shipped student that it starts from
    strides: Mapping[str, int] = MappingProxyType({})  # of StudentConfig


SHIPPED = TrainConfig(
    crops=800,
    steps=1500,
    learning_rate=1e-3,
    learning_rate_start=1e-4,
    learning_rate_end=1e-5,
    rise=0.1,
    warmup=0.0,
    beta_grad=20.0,
    alpha_kd=0.3,
    correlation=4.0,
    fidelity=10.0,
    weighting="balance",
    teacher_weighting="confidence",
    augment=True,
    ema=0.99,
)

RECIPES: Dict[str, Recipe] = {
    "paper": Recipe("section 4.1.2, with any teacher or none", TrainConfig()),
    # A step takes a second on two cores: hence fewer steps, at a learning rate that makes up for it.
    "base": Recipe(
        "the task alone, 3000 steps at ten times the paper's rate",
        TrainConfig(steps=3000, learning_rate=1e-3, learning_rate_start=1e-4, learning_rate_end=1e-5),
    ),
    "shipped": Recipe(
        "the student that irvis ships: base, then 1500 steps with three teachers and two losses of our own",
        SHIPPED,
        teachers=("SHIP", "SeAFusion", "PFCFuse"),
        base="base",
    ),
    "fast": Recipe(
        "a student whose blocks see the frame at half its sides, started from the shipped one and taught by it: the "
        "first 3000 of the 12,400 steps of the fast student that irvis ships",
        replace(SHIPPED, steps=3000, alpha_kd=1.0),
        teachers=("student",),
        init="student",
        strides=MappingProxyType({"global_stride": 2, "fusion_stride": 2}),
    ),
}
