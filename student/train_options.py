"""The options of ``irvis train``, and what is built from them."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import List, NamedTuple, Optional, Set, Tuple

import torch

from irvis.runtime.errors import IrvisError
from irvis.runtime.pairs import Pair, match_folders, pairs_of
from irvis.runtime.shipped import NAMES, find_model
from irvis.student.checkpoint import load_student
from irvis.student.downstream import DownstreamConfig
from irvis.student.network import STRIDES, StudentConfig
from irvis.student.recipes import RECIPES, TrainConfig
from irvis.student.teachers.load import Teacher, open_teachers, teacher_file
from irvis.student.weighting import TEACHER_WEIGHTINGS, WEIGHTINGS

HELP = {
    "crops": "crops drawn from the pairs",
    "crop_side": "side of a crop in pixels",
    "batch": "crops per step, over all processes",
    "steps": "optimiser steps",
    "learning_rate": "peak of the one-cycle schedule",
    "learning_rate_start": "learning rate of the first step",
    "learning_rate_end": "learning rate of the last step",
    "rise": "share of the steps until the peak",
    "beta_grad": "weight of the task's gradient loss, eq. 20",
    "alpha_kd": "weight of the distillation, eq. 16",
    "lambda_att": "weight of the attention loss, eq. 21",
    "lambda_sim": "weight of the similarity loss, eq. 21",
    "lambda_out": "weight of the response loss, eq. 21",
    "lambda_grad": "weight of the response's gradient, eq. 8",
    "warmup": "share of the steps while beta-grad rises from 0; 0: no guard from negatives either (the paper: none)",
    "correlation": "weight of the correlation loss; the paper has none",
    "fidelity": "weight of the fidelity loss; the paper has none",
    "weighting": f"weights of the distillation terms over time: {', '.join(WEIGHTINGS)}",
    "teacher_weighting": f"shares of several teachers: {', '.join(TEACHER_WEIGHTINGS)}",
    "augment": "turn and flip the crops, teacher maps included",
    "ema": "decay of the averaged weights that are saved; 0 saves the last ones",
    "seed": "seed of the draw, the order and the initial weights",
}

HELP_STRIDES = {
    "global_stride": "divisor of the frame's sides for the global branch's transformer blocks",
    "fusion_stride": "the same for the fusion's transformer block",
}

HELP_DOWNSTREAM = {
    "weight": "weight of the task's loss",
    "rate": "the task's learning rate as a multiple of the student's",
}


OF_THE_DRAW = ("crops", "crop_side", "seed")


class Base(NamedTuple):
    """A run that precedes another: the recipe's name and the options."""

    name: str
    config: TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``irvis train``."""
    parser.add_argument("folders", type=Path, nargs="*", help="data sets to train on, such as MSRS/train")
    parser.add_argument("--infrared", type=Path, help="folder of infrared images, instead of a data set")
    parser.add_argument("--visible", type=Path, help="folder of visible images with the same names")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("student.safetensors"), help="checkpoint to write (%(default)s)"
    )
    parser.add_argument(
        "--teacher",
        action="append",
        default=[],
        metavar="SPEC",
        help="NAME=WEIGHTS, or another form that `irvis teachers` lists; repeat",
    )
    parser.add_argument("--init", type=Path, help="checkpoint or shipped student to start from")
    summaries = "; ".join(f"{name}: {recipe.summary}" for name, recipe in RECIPES.items())
    parser.add_argument("--recipe", choices=RECIPES, default="paper", help=f"{summaries} (default: %(default)s)")
    options = parser.add_argument_group("options set by the recipe, each with the paper's value")
    for field in fields(TrainConfig):
        option, value = "--" + field.name.replace("_", "-"), field.default
        if isinstance(value, bool):
            options.add_argument(option, action="store_true", default=None, help=HELP[field.name])
        else:
            help_text = f"{HELP[field.name]} ({value})"
            options.add_argument(option, type=type(value), metavar=type(value).__name__.upper(), help=help_text)
    options.add_argument("--epochs", type=int, metavar="INT", help="passes over the crops, instead of --steps (200)")
    shape = parser.add_argument_group("shape of the student; --init may be a checkpoint with other strides")
    for name, help_text in HELP_STRIDES.items():
        shape.add_argument("--" + name.replace("_", "-"), type=int, choices=STRIDES, help=f"{help_text} (1)")
    joint = parser.add_argument_group("joint training with a downstream task, on pairs that have labels/")
    joint.add_argument(
        "--downstream", metavar="SPEC", help="boxes=CLASSES, masks=CLASSES or package.module:function[=ARGUMENT]"
    )
    for field in fields(DownstreamConfig)[1:]:
        option, help_text = "--downstream-" + field.name, f"{HELP_DOWNSTREAM[field.name]} ({field.default})"
        joint.add_argument(option, type=float, metavar="FLOAT", help=help_text)
    run = parser.add_argument_group("how the training runs")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(auto: a GPU if there is one)")
    run.add_argument("--amp", choices=("auto", "on", "off"), default="auto", help="bfloat16 forward (auto: on a GPU)")
    run.add_argument("--compile", action="store_true", help="torch.compile the forward and the losses")
    run.add_argument("--no-graph", action="store_true", help="launch a step's kernels one by one, not as a CUDA graph")
    run.add_argument("--cache", type=Path, help="folder for the teachers' outputs (default: ~/.cache/irvis/teachers)")
    run.add_argument("--save-every", type=int, default=200, metavar="STEPS", help="to resume from (%(default)s)")
    run.add_argument("--validation", type=Path, help="data set to validate on; never a test set of your tables")
    run.add_argument("--validation-pairs", type=int, default=8, metavar="N", help="how many of it (%(default)s)")
    run.add_argument("--validate-every", type=int, default=2000, metavar="STEPS", help="(default: %(default)s)")
    run.add_argument("--no-tensorboard", action="store_true", help="do not write OUTPUT.tensorboard")


def config_of(arguments: argparse.Namespace) -> TrainConfig:
    """Return the recipe's options, replaced by those on the command line. Raises IrvisError."""
    given = {field.name: getattr(arguments, field.name) for field in fields(TrainConfig)}
    config = RECIPES[arguments.recipe].config
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    if arguments.epochs is not None:
        if arguments.steps is not None:
            raise IrvisError("give --epochs or --steps, not both")
        if arguments.epochs < 1:
            raise IrvisError(f"--epochs must be 1 or more. Got {arguments.epochs}")
        config = replace(config, steps=arguments.epochs * (config.crops // config.batch))
    return config


def base_of(arguments: argparse.Namespace) -> Optional[Base]:
    """Return the run that the recipe's own starts from, on crops of the same draw; None if there is none."""
    name = RECIPES[arguments.recipe].base
    if name is None:
        return None
    given = {option: getattr(arguments, option) for option in OF_THE_DRAW}
    config = RECIPES[name].config
    return Base(name, replace(config, **{option: value for option, value in given.items() if value is not None}))


def init_of(arguments: argparse.Namespace) -> Optional[Path]:
    """Return the checkpoint to start from: ``--init``, else the recipe's; None for random weights."""
    init = arguments.init or RECIPES[arguments.recipe].init
    return find_model(init, ".safetensors") if init else None


def network_of(arguments: argparse.Namespace, init: Optional[Path]) -> StudentConfig:
    """Return the shape of ``init``, else the paper's, with the strides given or the recipe's. Raises IrvisError."""
    given = {name: getattr(arguments, name) for name in HELP_STRIDES}
    strides = {**RECIPES[arguments.recipe].strides, **{name: side for name, side in given.items() if side is not None}}
    return replace(load_student(init).config if init else StudentConfig(), **strides)


def downstream_of(arguments: argparse.Namespace) -> Optional[DownstreamConfig]:
    """Return the options of the downstream task, None without a task. Raises IrvisError."""
    given = {name: getattr(arguments, f"downstream_{name}") for name in HELP_DOWNSTREAM}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.downstream is None:
        if given:
            raise IrvisError(f"--downstream-{min(given)} needs a task; give --downstream")
        return None
    return DownstreamConfig(arguments.downstream, **given)


def sources_of(arguments: argparse.Namespace) -> List[Pair]:
    """Return all training pairs that the command line names. Raises IrvisError."""
    if (arguments.infrared is None) != (arguments.visible is None):
        raise IrvisError("--infrared and --visible go together")
    sources = [pairs_of(folder) for folder in arguments.folders]
    if arguments.infrared is not None:
        sources.append(match_folders(arguments.infrared, arguments.visible))
    if not sources:
        raise IrvisError("nothing to train on: give a data set's folder, or --infrared and --visible")
    taken: Set[Tuple[Path, Path]] = set()
    for pairs in sources:
        files = [(pair.infrared.resolve(), pair.visible.resolve()) for pair in pairs]
        twice = taken.intersection(files)
        if twice:
            raise IrvisError(f"the pairs of {min(twice)[0].parent} are given twice; give each folder once")
        taken.update(files)
    return [pair for pairs in sources for pair in pairs]


def named_inputs(arguments: argparse.Namespace) -> List[Optional[Path]]:
    """Return the files that the command line names besides pairs: initial student, teachers, downstream head."""
    head = (arguments.downstream or "").partition("=")[2]  # a file; or classes, which no output is called
    return [init_of(arguments), *map(teacher_file, _taught_by(arguments)), Path(head) if head else None]


def teachers_of(arguments: argparse.Namespace, device: torch.device) -> List[Teacher]:
    """Open the teachers that were named; if none was, the shipped students that the recipe learns from.

    Raises IrvisError, also if the recipe's published networks are not among them.
    """
    wanted = RECIPES[arguments.recipe].teachers
    teachers = open_teachers(_taught_by(arguments), device)
    names = [teacher.name for teacher in teachers]
    lacking = [name for name in wanted if name not in names and name not in NAMES]
    if lacking:
        options = " ".join(f"--teacher {name}=WEIGHTS" for name in lacking)
        raise IrvisError(f"the recipe {arguments.recipe} learns from {', '.join(lacking)} too; give {options}")
    return teachers


def _taught_by(arguments: argparse.Namespace) -> List[str]:
    return arguments.teacher or [name for name in RECIPES[arguments.recipe].teachers if name in NAMES]
