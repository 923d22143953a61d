"""Train a queue of students on a machine that has a GPU, but neither the pairs nor much time.

``python -m irvis.benchmarks.gpu_train pack crops.npz MSRS/train`` draws the crops where the pairs are;
``python -m irvis.benchmarks.gpu_train run crops.npz OUT --teachers FOLDER --seconds 240`` trains there. Called again
with what stood in OUT, it goes on.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from irvis.runtime.cli import guarded
from irvis.runtime.errors import FileError, IrvisError, one_line
from irvis.runtime.files import check_outputs, parse_json, read_bytes, write_json
from irvis.runtime.pairs import files_of, pairs_of
from irvis.runtime.shipped import NAMES, find_model
from irvis.student.checkpoint import save_student
from irvis.student.crop_pack import CropPack, key_of, read_pack, write_pack
from irvis.student.datasets import to_unit
from irvis.student.distributed import Processes, processes
from irvis.student.network import StudentConfig
from irvis.student.provenance import data_of, provenance
from irvis.student.recipes import RECIPES, TrainConfig
from irvis.student.teacher_cache import TeacherMaps, teacher_maps
from irvis.student.teachers.load import Teacher, open_teacher, teacher_file
from irvis.student.train import Stop
from irvis.student.trainer import Trainer

CHUNK = 200  # steps between two looks at the losses
SAVE_S = 15.0  # between two saves of a state
TEACHER_BATCH = 32  # crops that go through a teacher together
PROGRESS = "progress.json"
DESCRIBED = ".json"  # ends the name of a file of runs


class Run(NamedTuple):
    """One student to train."""

    name: str
    config: TrainConfig
    teachers: Sequence[str] = ()  # names of runs, of shipped students and of published networks
    init: str = ""  # name of the run, or of the shipped student, that it starts from
    network: Optional[StudentConfig] = None  # None: that of what it starts from, else the paper's


def named_runs(name: str) -> List[Run]:
    """Give ``paper-TEACHER``, the paper's run with a published network, or a recipe with what it starts from first.

    Raises IrvisError where it is neither.
    """
    if name.startswith("paper-"):
        return [Run(name, RECIPES["paper"].config, (name[len("paper-") :],))]
    if name not in RECIPES:
        raise IrvisError(f"no run is called {name}. There are paper-TEACHER, {', '.join(RECIPES)}, and JSON files")
    recipe = RECIPES[name]
    base = named_runs(recipe.base) if recipe.base else []
    network = StudentConfig(**recipe.strides) if recipe.strides else None
    return [*base, Run(name, recipe.config, recipe.teachers, recipe.base or recipe.init or "", network)]


def runs_of(names: Sequence[str]) -> List[Run]:
    """Give the queue of the runs that are named, or described in ``.json`` files; each once, in order.

    A file holds a list of objects: ``name``, and where wanted ``recipe``, ``options`` (of TrainConfig, over the
    recipe's), ``teachers``, ``init`` and ``network`` (of StudentConfig). ``init`` must be there where the recipe starts
    from another's student: the name of a run, or "" for random weights. A teacher may be a run too. Raises IrvisError.
    """
    runs: Dict[str, Run] = {}
    for name in names:
        found = _described(Path(name)) if name.endswith(DESCRIBED) else named_runs(name)
        runs.update((run.name, run) for run in found)
    for run in runs.values():
        if run.init and run.init not in (*runs, *NAMES):
            raise IrvisError(f"{run.name} starts from {run.init}, which is not among the runs: {', '.join(runs)}")
    return list(runs.values())


def _described_in(names: Sequence[str]) -> List[Path]:
    return [Path(name) for name in names if name.endswith(DESCRIBED)]


def _described(path: Path) -> List[Run]:
    try:
        return [_run_of(**one) for one in _read_json(path, "runs")]
    except (TypeError, ValueError, KeyError) as error:
        raise IrvisError(f"{path} must be a list of runs, each with a name: {one_line(error, 200)}") from error


def _read_json(path: Path, what: str) -> Any:
    try:
        return parse_json(read_bytes(path, what))
    except ValueError as error:
        raise FileError(f"{path} is no JSON: {one_line(error, 200)}") from error


def _run_of(
    name: str,
    recipe: str = "paper",
    options: Optional[Dict[str, Any]] = None,
    teachers: Optional[Sequence[str]] = None,
    init: Optional[str] = None,
    network: Optional[Dict[str, int]] = None,
) -> Run:
    base = RECIPES[recipe]
    if init is None and base.base:
        raise IrvisError(
            f"{name} is of the recipe {recipe}, which starts from {base.base}; give it init, the name of a run of that"
        )
    used = base.teachers if teachers is None else teachers
    shape = StudentConfig(**{**base.strides, **(network or {})}) if base.strides or network else None
    return Run(name, replace(base.config, **(options or {})), used, base.init or "" if init is None else init, shape)


class Active:
    """A run that is under way, and what is told of it."""

    def __init__(self, run: Run, trainer: Trainer, teachers: Sequence[Teacher], told: Dict[str, Any]) -> None:
        self.run, self.trainer, self.teachers, self.told = run, trainer, teachers, told
        self._began = (0.0, -1)  # time and step of the first look: after the recording and the compilation
        told.update(status="running", steps=trainer.step, of=run.config.steps)
        told["losses"] = [row for row in told.get("losses", []) if row["step"] <= trainer.step]

    def launch(self) -> None:
        """Have the GPU take the next steps."""
        self.trainer.launch(min(CHUNK, self.run.config.steps - self.trainer.step))

    def read(self) -> bool:
        """Take note of the steps; tell whether they were the last. Raises IrvisError where a loss is not finite."""
        rows = self.trainer.read()
        means = {name: float(f"{fmean(row[name] for row in rows):.6g}") for name in rows[0]}
        self.told["losses"].append({**means, "step": self.trainer.step})
        now, step = time.monotonic(), self.trainer.step
        if self._began[1] < 0:
            self._began = now, step
        else:
            self.told["steps_per_s"] = round((step - self._began[1]) / (now - self._began[0]), 2)
        self.told.update(steps=step, graph=self.trainer.replays)
        return step == self.run.config.steps


class Queue:
    """The runs that are to be trained into ``out``, ``together`` at a time."""

    def __init__(self, runs: Sequence[Run], pack: CropPack, out: Path, teachers: Path, among: Processes) -> None:
        self.waiting, self.pack, self.out, self.folder, self.among = list(runs), pack, out, teachers, among
        self.active: List[Active] = []
        self._maps: Dict[Tuple[str, str], Tuple[Teacher, TeacherMaps]] = {}
        self.progress: Dict[str, Any] = {"runs": {}}
        if (out / PROGRESS).exists():
            self.progress = _read_json(out / PROGRESS, "progress")
        for run in runs:
            self.progress["runs"].setdefault(run.name, {"status": "waiting"})
        self.progress.update(
            device=torch.cuda.get_device_name() if among.device.type == "cuda" else "cpu", torch=torch.__version__
        )

    def start(self, together: int, **options: Any) -> None:
        """Start what can be started; ``options`` go to the Trainer."""
        for run in list(self.waiting):
            told = self.progress["runs"][run.name]
            before = {name: self._status(name) for name in (run.init, *run.teachers)}
            failed = [name for name, status in before.items() if status.startswith("failed")]
            if student_path(self.out, run.name).exists():
                self.waiting.remove(run)
                told["status"] = "done"
            elif failed:
                self.waiting.remove(run)
                told["status"] = f"failed: {failed[0]} did"
            elif len(self.active) < together and set(before.values()) == {"done"}:
                self.waiting.remove(run)
                try:
                    self.active.append(self._started(run, told, options))
                except (IrvisError, RuntimeError) as error:
                    told["status"] = f"failed: {one_line(error)}"

    def step(self) -> None:
        """Take some steps of each run that is under way, all at once."""
        for work in (Active.launch, self._look):
            for one in list(self.active):
                try:
                    work(one)
                except (IrvisError, RuntimeError) as error:
                    one.told["status"] = f"failed: {one_line(error)}"
                    self.active.remove(one)

    def save(self) -> None:
        """Write the states of the runs under way, and the progress."""
        for one in self.active:
            one.trainer.save(state_path(self.out, one.run.name))
        write_json(self.out / PROGRESS, self.progress)

    def _status(self, name: str) -> str:
        """Give how far a run is; what is no run, as a published network, is there already."""
        told = self.progress["runs"].get(name, {"status": "done"})
        return str(told["status"])

    def _look(self, one: Active) -> None:
        if one.read():
            self.active.remove(one)
            save_student(
                student_path(self.out, one.run.name),
                one.trainer.best,
                provenance(one.trainer, self.pack.source, one.teachers),
            )
            state_path(self.out, one.run.name).unlink(missing_ok=True)
            one.told["status"] = "done"

    def _started(self, run: Run, told: Dict[str, Any], options: Dict[str, Any]) -> Active:
        crops = self.pack.crops_of(run.config)
        taught = [self._taught(name, key_of(run.config), crops) for name in run.teachers]
        maps = {f"{teacher.name} {teacher.digest[:16]}": maps for teacher, maps in taught}
        init = self._init(run.init) if run.init else None
        trainer = Trainer(run.config, crops, maps, init, self.among, network=run.network, **options)
        if state_path(self.out, run.name).exists():
            trainer.restore(state_path(self.out, run.name))
        return Active(run, trainer, [teacher for teacher, _ in taught], told)

    def _taught(self, name: str, key: str, crops: Tensor) -> Tuple[Teacher, TeacherMaps]:
        """Give a teacher and its maps on the crops, kept for the next run that wants them."""
        if (name, key) not in self._maps:
            is_run = name in self.progress["runs"]
            spec = str(student_path(self.out, name)) if is_run else teacher_spec(self.folder, name)
            teacher = open_teacher(spec, self.among.device)
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as exact as those that are cached
                parts = [
                    teacher_maps(teacher, *to_unit(some.to(self.among.device))) for some in crops.split(TEACHER_BATCH)
                ]
            self._maps[name, key] = teacher, TeacherMaps(*(torch.cat(tensors) for tensors in zip(*parts)))
        return self._maps[name, key]

    def _init(self, name: str) -> Path:
        """Give the student of a run, or the shipped one where no run has that name."""
        return student_path(self.out, name) if name in self.progress["runs"] else find_model(name, ".safetensors")


def student_path(out: Path, name: str) -> Path:
    """Give where a run's student is written."""
    return out / f"{name}.safetensors"


def state_path(out: Path, name: str) -> Path:
    """Give where a run that is not at its end is kept."""
    return out / f"{name}.state"


def teacher_spec(folder: Path, name: str) -> str:
    """Give how a teacher is opened: a shipped student by its name, a published network by its file in ``folder``."""
    return name if name in NAMES else f"{name}={folder / name}.safetensors"


def train_queue(queue: Queue, seconds: float, together: int, **options: Any) -> bool:
    """Train until all is done, the time is up, or a signal comes that ``Stop`` heeds; tell whether all is done."""
    began = saved = time.monotonic()
    with Stop() as stop:
        queue.start(together, **options)
        while queue.active and not stop.asked and time.monotonic() - began < seconds:
            queue.step()
            queue.start(together, **options)
            if time.monotonic() - saved > SAVE_S:
                queue.save()
                saved = time.monotonic()
        for one in queue.active:
            one.told["status"] = "stopped"
        queue.save()
    return not queue.active and not queue.waiting


def pack(arguments: argparse.Namespace) -> int:
    """Draw the crops of the runs and write them; give the exit code."""
    pairs = [pair for folder in arguments.folders for pair in pairs_of(folder)]
    check_outputs([arguments.pack], [*files_of(pairs), *_described_in(arguments.runs)])
    write_pack(arguments.pack, pairs, [run.config for run in runs_of(arguments.runs)], data_of(pairs))
    print(f"wrote {arguments.pack}: {arguments.pack.stat().st_size / 1e6:.1f} MB")
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Train the runs; give the exit code: 0 when all is done, 130 when stopped and resumable."""
    runs = runs_of(arguments.runs)
    written = [path_of(arguments.out, run.name) for run in runs for path_of in (student_path, state_path)]
    names = {name for run in runs for name in run.teachers} - {run.name for run in runs}
    teachers = [teacher_file(teacher_spec(arguments.teachers, name)) for name in sorted(names)]
    check_outputs([arguments.out / PROGRESS, *written], [arguments.pack, *teachers, *_described_in(arguments.runs)])
    crops = read_pack(arguments.pack)
    with processes(arguments.device) as among:
        cuda = among.device.type == "cuda"
        amp = cuda and torch.cuda.is_bf16_supported() if arguments.amp == "auto" else arguments.amp == "on"
        queue = Queue(runs, crops, arguments.out, arguments.teachers, among)
        done = train_queue(
            queue,
            arguments.seconds,
            arguments.together,
            amp=amp,
            compiled=arguments.compile,
            graph=not arguments.no_graph,
            channels_last=arguments.channels_last or None,
        )
    for name, told in queue.progress["runs"].items():
        loss = told["losses"][-1]["loss"] if told.get("losses") else float("nan")
        print(
            f"{name:<18}{told.get('status', 'waiting')}, {told.get('steps', 0)} of {told.get('of', '?')} steps, "
            f"{told.get('steps_per_s', 0)} steps/s, loss {loss:.4f}"
        )
    return 0 if done else 130


def main() -> int:
    """Parse the command line and run; give the exit code."""
    parser = argparse.ArgumentParser(prog="gpu_train.py", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    packing = commands.add_parser("pack", help="draw the crops where the pairs are")
    packing.add_argument("pack", type=Path, help="file to write")
    packing.add_argument("folders", type=Path, nargs="+", help="data sets to train on")
    packing.set_defaults(body=pack)
    running = commands.add_parser("run", help="train on the packed crops, or go on")
    running.add_argument("pack", type=Path, help="file that was packed")
    running.add_argument("out", type=Path, help="folder for students, states and progress.json")
    running.add_argument("--teachers", type=Path, default=Path(), help="folder with NAME.safetensors (default: here)")
    running.add_argument("--seconds", type=float, default=float("inf"), help="stop after these, to be resumed")
    running.add_argument("--together", type=int, default=1, metavar="N", help="runs at once (default: %(default)s)")
    running.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    running.add_argument("--amp", choices=("auto", "on", "off"), default="auto", help="bfloat16 (auto: on a GPU)")
    running.add_argument("--compile", action="store_true", help="torch.compile the forward and the losses")
    running.add_argument("--no-graph", action="store_true", help="launch a step's kernels one by one")
    running.add_argument("--channels-last", action="store_true", help="lay the student out with its channels last")
    running.set_defaults(body=run)
    for command in (packing, running):
        command.add_argument(
            "--runs",
            nargs="+",
            default=["paper-SHIP", "shipped", "paper-SeAFusion", "paper-PFCFuse"],
            help="paper-TEACHER, recipes, or JSON files (default: %(default)s)",
        )
    arguments = parser.parse_args()
    return guarded("gpu_train.py", lambda: arguments.body(arguments))


if __name__ == "__main__":
    sys.exit(main())
