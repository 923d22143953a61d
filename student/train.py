"""Train a student, with teachers or without: ``irvis train MSRS/train --teacher SHIP=SHIP.pth -o student.safetensors``.

On several GPUs or machines: ``torchrun --nproc-per-node 4 -m irvis.runtime.cli train ...``.
"""

import argparse
import signal
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from irvis.runtime.errors import IrvisError
from irvis.runtime.files import check_writable
from irvis.runtime.locks import claimed
from irvis.runtime.pairs import Pair, match_folders, pairs_of
from irvis.student.checkpoint import save_student
from irvis.student.datasets import Draw, draw
from irvis.student.distributed import Processes, processes
from irvis.student.downstream import Downstream, DownstreamConfig, check_task, open_task, save_task
from irvis.student.downstream_targets import targets_of
from irvis.student.network import Student, StudentConfig
from irvis.student.recipes import RECIPES, TrainConfig
from irvis.student.run_log import RunLog
from irvis.student.teacher_cache import TeacherMaps, cached_maps
from irvis.student.teachers.load import Teacher, open_teacher
from irvis.student.trainer import ALONE, Trainer
from irvis.student.validation import spread, validate
from irvis.student.weighting import TEACHER_WEIGHTINGS, WEIGHTINGS


class RunOptions(NamedTuple):
    """What does not change the result of a run, but for rounding."""

    cache: Optional[Path] = None  # of the teachers' outputs; None: default_cache()
    save_every: int = 200  # steps
    validation: Sequence[Pair] = ()
    validate_every: int = 2000  # steps
    amp: Optional[bool] = None  # the student's forward in bfloat16; None: on a GPU that has it
    compiled: bool = False
    graph: bool = True  # one CUDA graph of the step, on a GPU that is alone in the run
    tensorboard: bool = True


DEFAULT = RunOptions()


class Stop:
    """Turns the first SIGINT or SIGTERM into a flag, so that a step is never cut in two."""

    def __enter__(self) -> "Stop":
        self.asked = False
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def train(
    pairs: Sequence[Pair],
    output: Path,
    config: TrainConfig,
    teachers: Sequence[Teacher] = (),
    init: Optional[Path] = None,
    options: RunOptions = DEFAULT,
    among: Processes = ALONE,
    network: StudentConfig = StudentConfig(),  # noqa: B008, it is frozen
    downstream: Optional[DownstreamConfig] = None,
) -> Optional[Student]:
    """Train on the pairs and write ``output``; give the student, or None where stopped before the end.

    Beside it stand ``OUTPUT.csv``, the losses of each step, what RunLog says, and until the end ``OUTPUT.state``,
    from which the same call goes on after Ctrl-C, SIGTERM or a kill. A downstream task that learnt is written to
    ``OUTPUT.downstream.safetensors``. Raises IrvisError.
    """
    check_writable(output)
    with claimed(output) if among.is_first else nullcontext():
        drawn = draw(pairs, config.crops, config.crop_side, config.seed)
        crops = drawn.crops
        joint = _joint(downstream, pairs, drawn, config, among) if downstream else None
        maps = _maps_of(teachers, crops, options.cache, among)
        cuda = among.device.type == "cuda"
        amp = cuda and torch.cuda.is_bf16_supported() if options.amp is None else options.amp
        trainer = Trainer(
            config, crops, maps, init, among, amp, options.compiled, network, options.graph, downstream=joint
        )
        state_path = output.with_name(output.name + ".state")
        if state_path.exists():
            trainer.restore(state_path)
        among.wait()  # no one saves before all have read
        with RunLog(output, trainer.step, options.tensorboard) if among.is_first else nullcontext() as log:
            finished = _loop(trainer, log, state_path, options)
        if not finished:
            return None
        if among.is_first:
            if joint and any(parameter.requires_grad for parameter in joint.task.parameters()):
                save_task(output.with_name(output.name + ".downstream.safetensors"), joint)
            save_student(output, trainer.best, provenance(trainer, data_of(pairs), teachers))
            state_path.unlink(missing_ok=True)
        among.wait()  # the file may be what the others start from next
        return trainer.best


def _joint(
    config: DownstreamConfig, pairs: Sequence[Pair], drawn: Draw, run: TrainConfig, among: Processes
) -> Downstream:
    """Make the task with its targets on the crops, and try it on the first of them."""
    task = open_task(config.spec, run.seed)
    joint = Downstream(config, task, targets_of(task.labels, task.classes, pairs, drawn))
    check_task(joint, drawn.crops[: run.batch], among.device)
    return joint


def _maps_of(
    teachers: Sequence[Teacher], crops: Tensor, cache: Optional[Path], among: Processes
) -> Dict[str, TeacherMaps]:
    """Have the first process run the teachers where that was not done before, then give all the maps."""
    maps: Dict[str, TeacherMaps] = {}
    for first in (True, False):
        if among.is_first == first:
            maps = {f"{teacher.name} {teacher.digest[:16]}": cached_maps(teacher, crops, cache) for teacher in teachers}
        among.wait()
    return maps


def _loop(trainer: Trainer, log: Optional[RunLog], state_path: Path, options: RunOptions) -> bool:
    """Take the steps that are left; tell whether all were taken. Only the first process has a ``log``."""
    steps, among = trainer.config.steps, trainer.among
    # Reading a loss waits for the GPU, so it is done now and then there; always before weights are saved or looked at.
    read_every = 25 if among.device.type == "cuda" else 1
    rows: List[Dict[str, float]] = []
    with Stop() as stop, tqdm(total=steps, initial=trainer.step, desc="training", unit="step", disable=not log) as bar:
        while trainer.step < steps:
            ends = (read_every, options.save_every, options.validate_every)
            count = min(steps - trainer.step, *(every - trainer.step % every for every in ends))
            trainer.launch(count)
            rows += trainer.read()
            bar.set_postfix(loss=f"{rows[-1]['loss']:.4f}", refresh=False)
            bar.update(count)
            last = among.any(stop.asked) or trainer.step == steps
            save = last or trainer.step % options.save_every == 0
            if log is not None:
                if options.validation and (trainer.step % options.validate_every == 0 or trainer.step == steps):
                    log.add_validation(trainer.step, *validate(trainer.best, options.validation))
                if save:
                    log.add_steps(rows)
                    rows.clear()
                    trainer.save(state_path)
            if last:
                break
    return trainer.step == steps


def data_of(pairs: Sequence[Pair]) -> Dict[str, Any]:
    """Say what pairs a run was trained on."""
    folders = sorted({"/".join(pair.infrared.resolve().parts[-4:-1]) for pair in pairs})
    return {"pairs": len(pairs), "data": folders}


def provenance(trainer: Trainer, data: Dict[str, Any], teachers: Sequence[Teacher]) -> Dict[str, Any]:
    """What the checkpoint tells of how it was made."""
    return {
        **asdict(trainer.config),
        **data,
        "teachers": {teacher.name: teacher.digest for teacher in teachers},
        "init": trainer.identity["init"],
        "processes": trainer.among.world,
        "device": trainer.among.device.type,
        "torch": torch.__version__,
        **({"downstream": asdict(trainer.downstream.config)} if trainer.downstream else {}),
    }


HELP = {
    "crops": "crops drawn from the pairs",
    "crop_side": "side of a crop in pixels",
    "batch": "crops a step, over all processes",
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
    "warmup": "share of the steps over which beta-grad rises from 0",
    "correlation": "weight of the correlation loss; the paper has none",
    "fidelity": "weight of the fidelity loss; the paper has none",
    "weighting": f"weights of the distillation terms over time: {', '.join(WEIGHTINGS)}",
    "teacher_weighting": f"shares of several teachers: {', '.join(TEACHER_WEIGHTINGS)}",
    "augment": "turn and flip the crops, teacher maps included",
    "ema": "decay of the averaged weights that are saved; 0 saves the last ones",
    "seed": "seed of the draw, the order and the initial weights",
}

HELP_DOWNSTREAM = {
    "weight": "weight of the task's loss",
    "rate": "the task's learning rate as a multiple of the student's",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``irvis train``."""
    parser.add_argument("folders", type=Path, nargs="*", help="data sets to train on, such as MSRS/train")
    parser.add_argument("--infrared", type=Path, help="folder of infrared images, in place of a data set")
    parser.add_argument("--visible", type=Path, help="folder of visible images of the same names")
    parser.add_argument("-o", "--output", type=Path, default=Path("student.safetensors"), help="checkpoint to write")
    parser.add_argument(
        "--teacher",
        action="append",
        default=[],
        metavar="SPEC",
        help="NAME=WEIGHTS, or as `irvis teachers` says; repeat",
    )
    parser.add_argument("--init", type=Path, help="checkpoint to start from, in place of random weights")
    summaries = "; ".join(f"{name}: {recipe.summary}" for name, recipe in RECIPES.items())
    parser.add_argument("--recipe", choices=RECIPES, default="paper", help=f"{summaries} (default: %(default)s)")
    options = parser.add_argument_group("numbers of the recipe, each with the paper's value")
    for field in fields(TrainConfig):
        option, value = "--" + field.name.replace("_", "-"), field.default
        if isinstance(value, bool):
            options.add_argument(option, action="store_true", default=None, help=HELP[field.name])
        else:
            help_text = f"{HELP[field.name]} ({value})"
            options.add_argument(option, type=type(value), metavar=type(value).__name__.upper(), help=help_text)
    options.add_argument("--epochs", type=int, metavar="INT", help="in place of --steps: passes over the crops (200)")
    joint = parser.add_argument_group("joint training with a downstream task, on pairs that have labels/")
    joint.add_argument(
        "--downstream", metavar="SPEC", help="boxes=CLASSES, masks=CLASSES or package.module:function[=ARGUMENT]"
    )
    for field in fields(DownstreamConfig)[1:]:
        option, help_text = "--downstream-" + field.name, f"{HELP_DOWNSTREAM[field.name]} ({field.default})"
        joint.add_argument(option, type=float, metavar="FLOAT", help=help_text)
    run = parser.add_argument_group("how it runs")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    run.add_argument("--amp", choices=("auto", "on", "off"), default="auto", help="bfloat16 forward (auto: on a GPU)")
    run.add_argument("--compile", action="store_true", help="torch.compile the forward and the losses")
    run.add_argument("--no-graph", action="store_true", help="launch a step's kernels one by one, not as a CUDA graph")
    run.add_argument("--cache", type=Path, help="folder for the teachers' outputs (default: ~/.cache/irvis/teachers)")
    run.add_argument("--save-every", type=int, default=200, metavar="STEPS", help="(default: %(default)s)")
    run.add_argument("--validation", type=Path, help="data set to validate on; never a test set of your tables")
    run.add_argument("--validation-pairs", type=int, default=8, metavar="N", help="(default: %(default)s)")
    run.add_argument("--validate-every", type=int, default=2000, metavar="STEPS", help="(default: %(default)s)")
    run.add_argument("--no-tensorboard", action="store_true", help="leave OUTPUT.tensorboard away")


def config_of(arguments: argparse.Namespace) -> TrainConfig:
    """Give the recipe's options with what was given in their place. Raises IrvisError."""
    given = {field.name: getattr(arguments, field.name) for field in fields(TrainConfig)}
    config = RECIPES[arguments.recipe].config
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    if arguments.epochs is not None:
        if arguments.steps is not None:
            raise IrvisError("give --epochs or --steps, not both")
        config = replace(config, steps=arguments.epochs * (config.crops // config.batch))
    return config


def downstream_of(arguments: argparse.Namespace) -> Optional[DownstreamConfig]:
    """Give what was said of the downstream task. Raises IrvisError."""
    given = {name: getattr(arguments, f"downstream_{name}") for name in HELP_DOWNSTREAM}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.downstream is None:
        if given:
            raise IrvisError(f"--downstream-{min(given)} needs a task; give --downstream")
        return None
    return DownstreamConfig(arguments.downstream, **given)


def sources_of(arguments: argparse.Namespace) -> List[Pair]:
    """Give the training pairs of all that was named. Raises IrvisError."""
    if (arguments.infrared is None) != (arguments.visible is None):
        raise IrvisError("--infrared and --visible go together")
    pairs = [pair for folder in arguments.folders for pair in pairs_of(folder)]
    if arguments.infrared is not None:
        pairs += match_folders(arguments.infrared, arguments.visible)
    if not pairs:
        raise IrvisError("nothing to train on: give a data set's folder, or --infrared and --visible")
    return pairs


def teachers_of(arguments: argparse.Namespace, device: torch.device) -> List[Teacher]:
    """Open the teachers that were named. Raises IrvisError, also where the recipe's are not among them."""
    teachers = [open_teacher(spec, device) for spec in arguments.teacher]
    names = [teacher.name for teacher in teachers]
    lacking = [name for name in RECIPES[arguments.recipe].teachers if name not in names]
    if lacking:
        wanted = " ".join(f"--teacher {name}=WEIGHTS" for name in lacking)
        raise IrvisError(f"the recipe {arguments.recipe} learns from {', '.join(lacking)} too; give {wanted}")
    if len(set(names)) < len(names):
        raise IrvisError(f"a teacher was given twice: {', '.join(names)}")
    return teachers


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis train``; give the exit code: 0 when finished, 130 when stopped and resumable."""
    for name in ("save_every", "validate_every", "validation_pairs"):
        if getattr(arguments, name) < 1:
            raise IrvisError(f"--{name.replace('_', '-')} must be 1 or more. Got {getattr(arguments, name)}")
    config, downstream, pairs = config_of(arguments), downstream_of(arguments), sources_of(arguments)
    validation = spread(pairs_of(arguments.validation), arguments.validation_pairs) if arguments.validation else ()
    options = RunOptions(
        cache=arguments.cache,
        save_every=arguments.save_every,
        validation=validation,
        validate_every=arguments.validate_every,
        amp={"auto": None, "on": True, "off": False}[arguments.amp],
        compiled=arguments.compile,
        graph=not arguments.no_graph,
        tensorboard=not arguments.no_tensorboard,
    )
    with processes(arguments.device) as among:
        teachers = teachers_of(arguments, among.device)
        init, base = arguments.init, RECIPES[arguments.recipe].base
        if base is not None and init is None:
            init = arguments.output.with_name(f"{arguments.output.name}.{base}.safetensors")
            if not init.exists() and train(pairs, init, RECIPES[base].config, (), None, options, among) is None:
                return _stopped(init, among)
        student = train(pairs, arguments.output, config, teachers, init, options, among, downstream=downstream)
        if student is None:
            return _stopped(arguments.output, among)
        if among.is_first:
            print(f"wrote {arguments.output}")
    return 0


def _stopped(output: Path, among: Processes) -> int:
    if among.is_first:
        print(f"stopped; the same command goes on from {output}.state")
    return 130
