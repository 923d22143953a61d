"""Train a queue of students on a machine that has a GPU, but neither the pairs nor much time.

``python -m irvis.benchmarks.gpu_train pack crops.npz MSRS/train`` draws the crops on a machine that has the pairs;
``python -m irvis.benchmarks.gpu_train run crops.npz OUT --teachers FOLDER --seconds 240`` trains on the GPU. Run again
with the same contents in OUT, it resumes.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Container, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from irvis.runtime.cli import guarded
from irvis.runtime.errors import FileError, IrvisError, one_line
from irvis.runtime.files import check_outputs, parse_json, read_bytes, write_json
from irvis.runtime.pairs import files_of, pairs_of
from irvis.runtime.shipped import NAMES, find_model
from irvis.runtime.sizes import parse_count
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
from irvis.student.validation import why_not_to_use

CHUNK = 200  # steps between two reads of the losses
SAVE_S = 15.0  # between two saves of a state
TEACHER_BATCH = 32  # crops that go through a teacher together
PROGRESS = "progress.json"
DESCRIBED = ".json"  # suffix of a file that describes runs


class Run(NamedTuple):
    """One student to train."""

    name: str
    config: TrainConfig
    teachers: Sequence[str] = ()  # names of runs, of shipped students and of published networks
    init: str = ""  # name of the run, or of the shipped student, that it starts from
    network: Optional[StudentConfig] = None  # None: that of ``init``, else the paper's


def named_runs(name: str) -> List[Run]:
    """Return ``paper-TEACHER``, the paper's run with a published network, or a recipe's run after those it starts from.

    Raises IrvisError if ``name`` is neither.
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
    """Return the queue of runs that are named, or described in ``.json`` files: each once, in order.

    A file holds a list of objects: ``name`` and, optionally, ``recipe``, ``options`` (of TrainConfig, overriding the
    recipe's), ``teachers``, ``init`` and ``network`` (of StudentConfig). ``init`` is required if the recipe starts from
    another's student: the name of a run, or "" for random weights. A teacher may also be a run. Raises IrvisError.
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
        raise FileError(f"{path} is not JSON: {one_line(error, 200)}") from error


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
            f"{name} uses recipe {recipe}, which starts from {base.base}; set init to the name of a run of {base.base}"
        )
    used = base.teachers if teachers is None else teachers
    shape = StudentConfig(**{**base.strides, **(network or {})}) if base.strides or network else None
    return Run(name, replace(base.config, **(options or {})), used, base.init or "" if init is None else init, shape)


class Active:
    """A run in progress, and its record in the progress file."""

    def __init__(self, run: Run, trainer: Trainer, teachers: Sequence[Teacher], record: Dict[str, Any]) -> None:
        self.run, self.trainer, self.teachers, self.record = run, trainer, teachers, record
        self._began = (0.0, -1)  # time and step of the first read: after recording and compilation
        record.update(status="running", steps=trainer.step, of=run.config.steps)
        record["losses"] = [row for row in record.get("losses", []) if row["step"] <= trainer.step]

    def launch(self) -> None:
        """Launch the next steps on the GPU."""
        self.trainer.launch(min(CHUNK, self.run.config.steps - self.trainer.step))

    def read(self) -> bool:
        """Record the launched steps; return whether they were the last. Raises IrvisError if a loss is not finite."""
        rows = self.trainer.read()
        means = {name: float(f"{fmean(row[name] for row in rows):.6g}") for name in rows[0]}
        self.record["losses"].append({**means, "step": self.trainer.step})
        now, step = time.monotonic(), self.trainer.step
        if self._began[1] < 0:
            self._began = now, step
        else:
            self.record["steps_per_s"] = round((step - self._began[1]) / (now - self._began[0]), 2)
        self.record.update(steps=step, graph=self.trainer.replays)
        return step == self.run.config.steps

    def judge(self) -> None:
        """Record whether the student is of use, in time to stop a long run of which it is not."""
        self.record["fault"] = why_not_to_use(self.trainer.best, self.trainer.crops)


class Queue:
    """The runs to train into ``out``, several at a time."""

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
        """Start the runs that can start, up to ``together`` at once; ``options`` are passed to the Trainer."""
        for run in list(self.waiting):
            record = self.progress["runs"][run.name]
            before = {name: self._status(name) for name in (run.init, *run.teachers) if self._is_run(name, run)}
            failed = [name for name, status in before.items() if status.startswith("failed")]
            if student_path(self.out, run.name).exists():
                self.waiting.remove(run)
                record["status"] = "done"
            elif failed:
                self.waiting.remove(run)
                record["status"] = f"failed: {failed[0]} did"
            elif len(self.active) < together and set(before.values()) <= {"done"}:
                try:
                    self.active.append(self._started(run, record, options))
                except (IrvisError, RuntimeError) as error:
                    record["status"] = f"failed: {one_line(error)}"
                self.waiting.remove(run)

    def step(self) -> None:
        """Take some steps of every active run, all at once."""
        for work in (Active.launch, self._read):
            for active in list(self.active):
                try:
                    work(active)
                except (IrvisError, RuntimeError) as error:
                    active.record["status"] = f"failed: {one_line(error)}"
                    self.active.remove(active)

    def save(self) -> None:
        """Write the states of the active runs, and the progress."""
        for active in self.active:
            active.trainer.save(state_path(self.out, active.run.name))
            active.judge()
        write_json(self.out / PROGRESS, self.progress)

    def _is_run(self, name: str, of: Run) -> bool:
        return is_run(name, of, self.progress["runs"])

    def _status(self, name: str) -> str:
        return str(self.progress["runs"][name]["status"])

    def _read(self, active: Active) -> None:
        if active.read():
            name, trainer = active.run.name, active.trainer
            made_by = provenance(trainer, self.pack.source, active.teachers)
            save_student(student_path(self.out, name), trainer.best, made_by)
            state_path(self.out, name).unlink(missing_ok=True)
            self.active.remove(active)
            active.record["status"] = "done"
            active.judge()

    def _started(self, run: Run, record: Dict[str, Any], options: Dict[str, Any]) -> Active:
        crops = self.pack.crops_of(run.config)
        taught = [self._taught(self._spec(name, run), key_of(run.config), crops) for name in run.teachers]
        maps = {f"{teacher.name} {teacher.digest[:16]}": maps for teacher, maps in taught}
        init = self._init(run) if run.init else None
        trainer = Trainer(run.config, crops, maps, init=init, among=self.among, network=run.network, **options)
        if state_path(self.out, run.name).exists():
            trainer.restore(state_path(self.out, run.name))
        return Active(run, trainer, [teacher for teacher, _ in taught], record)

    def _spec(self, name: str, run: Run) -> str:
        """Return how a teacher of ``run`` is opened."""
        return str(student_path(self.out, name)) if self._is_run(name, run) else teacher_spec(self.folder, name)

    def _taught(self, spec: str, key: str, crops: Tensor) -> Tuple[Teacher, TeacherMaps]:
        """Return a teacher and its maps on the crops, cached for later runs that use them."""
        if (spec, key) not in self._maps:
            teacher = open_teacher(spec, self.among.device)
            batches = crops.split(TEACHER_BATCH)
            parts = [teacher_maps(teacher, *to_unit(some.to(self.among.device))) for some in batches]
            self._maps[spec, key] = teacher, TeacherMaps(*(torch.cat(tensors) for tensors in zip(*parts)))
        return self._maps[spec, key]

    def _init(self, run: Run) -> Path:
        """Return the student that ``run`` starts from: another run's, or a shipped one."""
        is_run = self._is_run(run.init, run)
        return student_path(self.out, run.init) if is_run else find_model(run.init, ".safetensors")


def is_run(name: str, of: Run, names: Container[str]) -> bool:
    """Return whether ``name``, given in ``of``, is another of the runs rather than a published or a shipped network."""
    return name != of.name and name in names


def student_path(out: Path, name: str) -> Path:
    """Return where a run's student is written."""
    return out / f"{name}.safetensors"


def state_path(out: Path, name: str) -> Path:
    """Return where the state of an unfinished run is saved."""
    return out / f"{name}.state"


def teacher_spec(folder: Path, name: str) -> str:
    """Return the spec that opens a teacher: a shipped student's name, or a published network's file in ``folder``."""
    return name if name in NAMES else f"{name}={folder / name}.safetensors"


def train_queue(queue: Queue, seconds: float, together: int, **options: Any) -> bool:
    """Train until all runs are done, the time is up, or a signal ends it; return whether none is left.

    ``Stop`` lets a step end first. The start of a run, minutes on a CPU, is interrupted at once.
    """
    began = saved = time.monotonic()
    asked = False
    try:
        queue.start(together, **options)
        while queue.active and not asked and time.monotonic() - began < seconds:
            with Stop() as stop:
                queue.step()
                if time.monotonic() - saved > SAVE_S:
                    queue.save()
                    saved = time.monotonic()
            asked = stop.asked
            if not asked:
                queue.start(together, **options)
    except KeyboardInterrupt:
        pass
    for active in queue.active:
        active.record["status"] = "stopped"
    queue.save()
    return not queue.active and not queue.waiting


def pack(arguments: argparse.Namespace) -> int:
    """Draw the crops of the runs and write them; return the exit code."""
    pairs = [pair for folder in arguments.folders for pair in pairs_of(folder)]
    check_outputs([arguments.pack], [*files_of(pairs), *_described_in(arguments.runs)])
    write_pack(arguments.pack, pairs, [run.config for run in runs_of(arguments.runs)], data_of(pairs))
    print(f"wrote {arguments.pack}: {arguments.pack.stat().st_size / 1e6:.1f} MB")
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Train the runs; return the exit code: 0 when all are done, 1 if one failed, 130 when stopped and resumable."""
    runs = runs_of(arguments.runs)
    written = [path_of(arguments.out, run.name) for run in runs for path_of in (student_path, state_path)]
    names = [run.name for run in runs]
    teachers = [
        teacher_file(teacher_spec(arguments.teachers, name))
        for run in runs
        for name in run.teachers
        if not is_run(name, run, names)
    ]
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
        )
    for name, record in queue.progress["runs"].items():
        loss = record["losses"][-1]["loss"] if record.get("losses") else float("nan")
        print(
            f"{name:<18}{record.get('status', 'waiting')}, {record.get('steps', 0)} of {record.get('of', '?')} steps, "
            f"{record.get('steps_per_s', 0)} steps/s, loss {loss:.4f}"
        )
        if record.get("fault"):
            print(f"warning: {name}: {record['fault']}")
    if not done:
        return 130
    return int(any(queue.progress["runs"][run.name]["status"].startswith("failed") for run in runs))


def main() -> int:
    """Parse the command line and run; return the exit code."""
    parser = argparse.ArgumentParser(prog="gpu_train.py", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    packing = commands.add_parser("pack", help="draw the crops from the pairs")
    packing.add_argument("pack", type=Path, help="file to write")
    packing.add_argument("folders", type=Path, nargs="+", help="data sets to train on")
    packing.set_defaults(body=pack)
    running = commands.add_parser("run", help="train on the packed crops, or resume")
    running.add_argument("pack", type=Path, help="file that pack wrote")
    running.add_argument("out", type=Path, help="folder for students, states and progress.json")
    running.add_argument("--teachers", type=Path, default=Path(), help="folder with NAME.safetensors (default: here)")
    running.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long, to resume later")
    running.add_argument(
        "--together", type=parse_count, default=1, metavar="N", help="runs at once (default: %(default)s)"
    )
    running.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    running.add_argument("--amp", choices=("auto", "on", "off"), default="auto", help="bfloat16 (auto: on a GPU)")
    running.add_argument("--compile", action="store_true", help="torch.compile the forward and the losses")
    running.add_argument("--no-graph", action="store_true", help="launch a step's kernels one by one")
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
