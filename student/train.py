"""Train a student, with teachers or without: ``irvis train MSRS/train --teacher SHIP=SHIP.pth -o student.safetensors``.

On several GPUs or machines: ``torchrun --nproc-per-node 4 -m irvis.runtime.cli train ...``.
"""

import argparse
import logging
import signal
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from irvis.runtime.cli import leave_terminal
from irvis.runtime.errors import FileError, IrvisError, ModelError
from irvis.runtime.files import check_outputs, check_outputs_apart, write_bytes
from irvis.runtime.locks import claimed
from irvis.runtime.luminance import read_sizes
from irvis.runtime.pairs import Pair, files_of, pairs_of
from irvis.runtime.spread import spread_end_to_end
from irvis.student.checkpoint import save_student
from irvis.student.datasets import Draw, draw_crops
from irvis.student.distributed import Processes, processes
from irvis.student.downstream import Downstream, DownstreamConfig, check_task, open_task, save_task
from irvis.student.downstream_targets import targets_of
from irvis.student.network import Student, StudentConfig
from irvis.student.progress import progress
from irvis.student.provenance import check_provenance, data_of, provenance
from irvis.student.recipes import TrainConfig
from irvis.student.run_log import PICTURE, STEPS, VALIDATIONS, RunLog, beside
from irvis.student.teacher_cache import TeacherMaps, cached_maps
from irvis.student.teachers.load import Teacher
from irvis.student.train_options import (
    add_arguments,
    base_of,
    config_of,
    downstream_of,
    init_of,
    named_inputs,
    network_of,
    sources_of,
    teachers_of,
)
from irvis.student.trainer import ALONE, Trainer
from irvis.student.validation import validate, why_not_to_use

__all__ = ["RunOptions", "add_arguments", "main", "train"]

logger = logging.getLogger("irvis.train")


class RunOptions(NamedTuple):
    """Options that do not change the result of a run, except for rounding."""

    cache: Optional[Path] = None  # of the teachers' outputs; None: user_cache("teachers")
    save_every: int = 200  # steps
    validation: Sequence[Pair] = ()
    validate_every: int = 2000  # steps
    amp: Optional[bool] = None  # the student's forward in bfloat16; None: on a GPU that supports it
    compiled: bool = False
    graph: bool = True  # one CUDA graph of the step, on a GPU that is alone in the run
    tensorboard: bool = True


DEFAULT = RunOptions()
SUFFIX = ".safetensors"  # of an output
STATE, TASK = ".state", ".downstream.safetensors"  # of an unfinished run; of a trained downstream task


class Stop:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag, so that no step is interrupted halfway.

    SIGHUP, sent when an ssh connection drops, stays ignored if it was before, as under nohup.
    """

    def __enter__(self) -> "Stop":
        self.asked = False
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            heeded.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._ask) for number in heeded}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        if number == signal.SIGHUP:
            leave_terminal()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def train(
    pairs: Sequence[Pair],
    output: Path,
    config: TrainConfig,
    *,
    teachers: Sequence[Teacher] = (),
    init: Optional[Path] = None,
    options: RunOptions = DEFAULT,
    among: Processes = ALONE,
    network: Optional[StudentConfig] = None,
    downstream: Optional[DownstreamConfig] = None,
) -> Optional[Student]:
    """Train on the pairs and write ``output``; return the student, or None if stopped before the end.

    Beside it are written ``OUTPUT.csv``, the losses of each step, the other files of RunLog, and until the end
    ``OUTPUT.state``, from which the same call continues after a kill or a signal caught by Stop. A trained downstream
    task is written to ``OUTPUT.downstream.safetensors``. Raises IrvisError, also if one of these would overwrite an
    input, or if OUTPUT exists without a state.
    """
    with ExitStack() as held:
        among.first(lambda: _check_output(output, init, [*pairs, *options.validation]))
        among.first(lambda: held.enter_context(claimed(output)))
        _warn_of_trained_on(pairs, options.validation)
        with among.together():
            drawn = draw_crops(pairs, config.crops, config.crop_side, config.seed)
            crops = drawn.crops
            joint = _joint(downstream, pairs, drawn, config, among) if downstream else None
        maps = _maps_of(teachers, crops, options.cache, among)
        cuda = among.device.type == "cuda"
        amp = cuda and torch.cuda.is_bf16_supported() if options.amp is None else options.amp
        trainer = Trainer(
            config,
            crops,
            maps,
            init=init,
            among=among,
            amp=amp,
            compiled=options.compiled,
            network=network,
            graph=options.graph,
            downstream=joint,
        )
        state_path = beside(output, STATE)
        if among.first(state_path.exists):
            trainer.restore(state_path)
        with RunLog(output, trainer.step, options.tensorboard) if among.is_first else nullcontext() as log:
            finished = _loop(trainer, log, state_path, options)
        if not finished:
            return None
        with among.together():  # the others may start from this file next
            if among.is_first:
                fault = why_not_to_use(trainer.best, trainer.crops)
                if fault:
                    logger.warning("%s", fault)
                if joint and any(parameter.requires_grad for parameter in joint.task.parameters()):
                    save_task(beside(output, TASK), joint)
                save_student(output, trainer.best, provenance(trainer, data_of(pairs), teachers))
                state_path.unlink(missing_ok=True)
        return trainer.best


def _check_output(output: Path, init: Optional[Path], pairs: Sequence[Pair]) -> None:
    """Raise FileError if a run would overwrite one of its inputs, or a trained student."""
    written = [output, *(beside(output, ending) for ending in (STEPS, VALIDATIONS, PICTURE, STATE, TASK))]
    check_outputs(written, [init, *files_of(pairs)])
    if output.exists() and not beside(output, STATE).exists():
        raise FileError(f"{output} already exists; remove it to train anew, or give another --output")


def _warn_of_trained_on(pairs: Sequence[Pair], validation: Sequence[Pair]) -> None:
    if not validation:
        return
    trained_on = {file.resolve() for file in files_of(pairs)}
    count = sum(pair.visible.resolve() in trained_on for pair in validation)
    if count:
        logger.warning(
            "%d of the %d validation pairs are also trained on; their metrics do not show what new pairs will get",
            count,
            len(validation),
        )


def _joint(
    config: DownstreamConfig, pairs: Sequence[Pair], drawn: Draw, run: TrainConfig, among: Processes
) -> Downstream:
    """Open the task with its targets on the crops, and try it on the first of them."""
    task = open_task(config.spec, run.seed)
    joint = Downstream(config, task, targets_of(task.labels, task.classes, pairs, drawn))
    check_task(joint, drawn.crops[: run.batch], among.device)
    return joint


def _maps_of(
    teachers: Sequence[Teacher], crops: Tensor, cache: Optional[Path], among: Processes
) -> Dict[str, TeacherMaps]:
    """Compute missing maps in the first process, then return all maps in every process.

    A process on another machine, which has a cache of its own, computes them there.
    """
    maps: Dict[str, TeacherMaps] = {}
    for first in (True, False):
        with among.together():
            if among.is_first == first:
                maps = {f"{each.name} {each.digest[:16]}": cached_maps(each, crops, cache) for each in teachers}
    return maps


def _loop(trainer: Trainer, log: Optional[RunLog], state_path: Path, options: RunOptions) -> bool:
    """Take the remaining steps; return whether all were taken. Only the first process has a ``log``."""
    steps, among = trainer.config.steps, trainer.among
    # Reading a loss waits for the GPU, so there it is done only every so often, and before weights are saved or used.
    read_every = 25 if among.device.type == "cuda" else 1
    rows: List[Dict[str, float]] = []
    bar = progress(total=steps, initial=trainer.step, desc="training", unit="step", disable=not log)
    with Stop() as stop, bar:
        while trainer.step < steps:
            ends = (read_every, options.save_every, options.validate_every)
            count = min(steps - trainer.step, *(every - trainer.step % every for every in ends))
            try:
                trainer.launch(count)
            except (RuntimeError, ModelError) as error:
                if options.compiled and stop.asked:  # Ctrl-C in a terminal ends the compiler that is at work too
                    raise KeyboardInterrupt from error
                raise
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


def main(arguments: argparse.Namespace) -> int:
    """Run ``irvis train``; return the exit code: 0 when finished, 130 when stopped and resumable."""
    for name in ("save_every", "validate_every", "validation_pairs"):
        if getattr(arguments, name) < 1:
            raise IrvisError(f"--{name.replace('_', '-')} must be 1 or more. Got {getattr(arguments, name)}")
    config, downstream = config_of(arguments), downstream_of(arguments)
    with processes(arguments.device) as among:
        return _run(arguments, config, downstream, among)


def _run(
    arguments: argparse.Namespace, config: TrainConfig, downstream: Optional[DownstreamConfig], among: Processes
) -> int:
    with among.together():
        pairs = sources_of(arguments)
        held_out = pairs_of(arguments.validation) if arguments.validation and among.is_first else []
        validation = spread_end_to_end(held_out, arguments.validation_pairs)
        read_sizes(validation)  # a bad one would end the run at its first validation
        check_outputs_apart([arguments.output], named_inputs(arguments))
    among.first(lambda: _check_output(arguments.output, None, [*pairs, *held_out]))  # before a base is trained
    if arguments.output.suffix != SUFFIX:
        raise IrvisError(f"--output must end in {SUFFIX}, as other commands expect. Got {arguments.output}")
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
    with among.together():
        teachers = teachers_of(arguments, among.device)
        init, base = init_of(arguments), base_of(arguments)
    if base is not None and init is None:
        init = beside(arguments.output, f".{base.name}{SUFFIX}")
        if among.first(init.exists):
            among.first(lambda: check_provenance(init, base.config, pairs))
        elif train(pairs, init, base.config, options=options, among=among) is None:
            return _stopped(init, among)
        _spread(init, among)
    with among.together():
        network = network_of(arguments, init)
    student = train(
        pairs,
        arguments.output,
        config,
        teachers=teachers,
        init=init,
        options=options,
        among=among,
        network=network,
        downstream=downstream,
    )
    if student is None:
        return _stopped(arguments.output, among)
    if among.is_first:
        print(f"wrote {arguments.output}")
    return 0


def _spread(file: Path, among: Processes) -> None:
    """Copy a file of the first process to the machines that do not have it."""
    content = among.first(file.read_bytes)
    with among.together():
        if not file.exists():
            write_bytes(file, content)


def _stopped(output: Path, among: Processes) -> int:
    if among.is_first:
        print(f"stopped; run the same command again to resume from {beside(output, STATE)}")
    return 130
