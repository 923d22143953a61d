"""The variants of the paper's Table 3: the method without some of its parts, as a student's shape and a run's options.

The table's ticks say which parts a row has, and so what its name means: "w/o MLKD" has none of the three distillation
terms, and "w/o DB" (dual branch) has neither branch, rather than one in place of the two. The ticks do not say what
replaces a missing branch. Here nothing does: a branch is removed together with its half of the 1x1 convolution of
eq. 14, which serves to bring the channels back to C; without both branches, F_0 goes straight into that convolution and
the RSTB behind it. (F_0 in place of both branches would express the same functions with more weights:
W_g F_0 + W_l F_0 = (W_g + W_l) F_0.)
"""

from dataclasses import replace
from typing import Any, Dict, NamedTuple, Tuple

from irvis.student.network import StudentConfig
from irvis.student.recipes import TrainConfig

# Part -> option of TrainConfig, or field of StudentConfig, which is 0 if the part is missing.
DISTILLATION = {"RD": "lambda_out", "AFD": "lambda_att", "SFD": "lambda_sim"}
BRANCHES = {"GMB": "global_blocks", "LPB": "local_blocks"}
PARTS = (*DISTILLATION, *BRANCHES)


class Variant(NamedTuple):
    """A row of Table 3."""

    name: str
    lacks: Tuple[str, ...] = ()  # of PARTS

    @property
    def slug(self) -> str:
        """The name as part of a file name."""
        return self.name.replace("w/o ", "without-").replace("+", "-and-").lower()

    @property
    def distils(self) -> bool:
        """Whether it needs a teacher."""
        return not set(DISTILLATION) <= set(self.lacks)

    @property
    def network(self) -> StudentConfig:
        """The shape of its student."""
        return StudentConfig(**self._zeros(BRANCHES))

    def config(self, base: TrainConfig) -> TrainConfig:
        """Return the options of its run: ``base`` without the terms that it lacks."""
        return replace(base, **self._zeros(DISTILLATION))

    def _zeros(self, names: Dict[str, str]) -> Dict[str, Any]:
        return {name: 0 for part, name in names.items() if part in self.lacks}


FULL = Variant("full")
VARIANTS = (
    Variant("w/o MLKD+DB", PARTS),
    Variant("w/o MLKD", tuple(DISTILLATION)),
    Variant("w/o RD", ("RD",)),
    Variant("w/o AFD", ("AFD",)),
    Variant("w/o SFD", ("SFD",)),
    Variant("w/o DB", tuple(BRANCHES)),
    Variant("w/o GMB", ("GMB",)),
    Variant("w/o LPB", ("LPB",)),
    FULL,
)
