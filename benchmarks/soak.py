"""Long runs of the real commands, watched from outside: does memory stay level, is anything leaked, does latency drift?

    python -m irvis.benchmarks.soak run --minutes 60
    python -m irvis.benchmarks.soak fuse --frames 20000
    python -m irvis.benchmarks.soak plot run.csv fuse.csv -o soak.png

``run`` starts ``irvis run`` on two test sources with the live view on and watches it as a browser does, which reports
each frame's latency. ``fuse`` starts ``irvis fuse`` on two folders of that many pairs. Frames are small, so that a
small machine keeps up; leaks do not need large ones. Memory, descriptors, threads and processor time come from /proc.
"""

import argparse
import asyncio
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, get_type_hints

import aiohttp
import numpy as np

from irvis.benchmarks.csv_text import csv_text
from irvis.runtime.cli import INTERRUPTED, guarded
from irvis.runtime.errors import FileError, IrvisError
from irvis.runtime.files import check_outputs, legend_name, new_figure, read_bytes, save_figure, write_text
from irvis.runtime.images import write_image
from irvis.runtime.samples import make_scene

SIZE = (60, 80)
SAMPLE_S = 2.0
DISTINCT = 200  # pairs that are drawn; the others are hard links to them
SETTLING = 0.2  # share at the start of a run that is left out: buffers, caches and pools are created then
LEVEL = 0.01  # share of the memory that a run may rise or fall by after that and still be called level


class Sample(NamedTuple):
    """An interval of a run: what the process held at its end, and the cost of its frames."""

    seconds: float  # since the start
    frames: int  # so far
    memory_mb: float  # resident, 10^6 bytes
    descriptors: int
    threads: int
    processor_ms: float  # of all threads, per frame; NaN without a frame
    latency_ms: float  # median of the interval; NaN without a frame


Progress = Callable[[], Tuple[int, float]]  # frames since the last call, and their latency in milliseconds


def watch(process: "subprocess.Popen[str]", progress: Progress, samples: List[Sample]) -> None:
    """Append a sample every SAMPLE_S until the process ends."""
    started_s, due_s, frames, before_s = time.monotonic(), time.monotonic() + SAMPLE_S, 0, 0.0
    while True:
        try:
            process.wait(max(due_s - time.monotonic(), 0))
            del samples[-1:]  # the process may already have been ending
            return
        except subprocess.TimeoutExpired:
            due_s += SAMPLE_S
        try:
            memory_mb, descriptors, threads, processor_s = held_by(process.pid)
        except OSError:  # it ended meanwhile
            continue
        if not memory_mb:  # it ended too, but was not waited for yet
            continue
        new, latency_ms = progress()
        frames += new
        processor_ms = (processor_s - before_s) * 1e3 / new if new else np.nan
        before_s = processor_s
        samples.append(
            Sample(time.monotonic() - started_s, frames, memory_mb, descriptors, threads, processor_ms, latency_ms)
        )


def held_by(pid: int) -> Tuple[float, int, int, float]:
    """Return a process's resident memory (10^6 bytes), descriptors, threads and processor time (s). Raises OSError."""
    folder = Path("/proc") / str(pid)
    descriptors = len(os.listdir(folder / "fd"))
    memory_mb = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    fields = (folder / "stat").read_text().rpartition(")")[2].split()  # from the third on: the name may hold spaces
    ticks, threads = int(fields[11]) + int(fields[12]), int(fields[17])
    return memory_mb, descriptors, threads, ticks / os.sysconf("SC_CLK_TCK")


def report(samples: Sequence[Sample]) -> str:
    """Return what the samples show, as lines of text. Raises IrvisError if they are too few."""
    table = np.array(samples, np.float64).reshape(-1, len(Sample._fields))
    settled = table[table[:, 0] >= SETTLING * table[-1, 0]] if len(table) else table
    if len(settled) < 10:
        raise IrvisError(f"the run was too short to tell: {len(settled)} samples after its start; 10 are needed")
    column = dict(zip(Sample._fields, settled.T))
    hours, memory = column["seconds"] / 3600, column["memory_mb"]
    slope = round(float(np.polyfit(hours, memory, 1)[0]), 6) + 0.0  # not -0
    risen = slope * (hours[-1] - hours[0])
    level = "level" if abs(risen) <= LEVEL * memory.mean() else "NOT LEVEL"
    tenth = max(len(settled) // 10, 1)
    lines = [
        f"{samples[-1].frames} frames in {samples[-1].seconds:.0f} s; "
        f"the lines below leave out the first {100 * SETTLING:.0f} %",
        f"memory       {memory[0]:.1f} MB, at the end {memory[-1]:.1f}, at most {memory.max():.1f}; "
        f"slope {slope:+.2f} MB an hour, {risen:+.2f} MB in all: {level}",
    ]
    for name in ("descriptors", "threads"):
        first, last = column[name][:tenth], column[name][-tenth:]
        lines.append(
            f"{name:<12} {first.min():.0f} to {first.max():.0f} in the first tenth, "
            f"{last.min():.0f} to {last.max():.0f} in the last" + (": MORE" if last.min() > first.max() else "")
        )
    for name, what in (("latency_ms", "latency"), ("processor_ms", "processor")):
        values = column[name][np.isfinite(column[name])]
        if len(values):
            first, last = np.median(values[:tenth]), np.median(values[-tenth:])
            ratio = last / first if first else np.nan
            lines.append(f"{what:<12} {first:.2f} ms a frame in the first tenth, {last:.2f} in the last: {ratio:.3f}")
    return "\n".join(lines)


class Spectator(threading.Thread):
    """Watches a live view as a browser does, and collects the latency of each frame that the loop reports."""

    def __init__(self, url: str) -> None:
        super().__init__(name="spectator", daemon=True)
        self._url, self._lock = url, threading.Lock()
        self._latencies: List[float] = []

    def run(self) -> None:
        """Acknowledge each picture at once, until the view ends."""
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(self._url + "watch", max_msg_size=0) as view:
            async for message in view:
                if message.type == aiohttp.WSMsgType.BINARY:
                    await view.send_str("drawn")
                else:
                    with self._lock:
                        self._latencies += json.loads(message.data)["latencies"]

    def __call__(self) -> Tuple[int, float]:
        """Return how many frames came since the last call, and their median latency: a ``Progress``."""
        with self._lock:
            latencies, self._latencies = self._latencies, []
        return len(latencies), float(np.median(latencies)) if latencies else np.nan


class Written:
    """Counts the files added to a folder since the last call, and the time per file: a ``Progress``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count, self._asked_s = folder, 0, time.monotonic()

    def __call__(self) -> Tuple[int, float]:
        """Return the number of new files, and the milliseconds per file."""
        now_s = time.monotonic()
        count = sum(not entry.name.startswith(".") for entry in os.scandir(self._folder))
        new, passed_s = count - self._count, now_s - self._asked_s
        self._count, self._asked_s = count, now_s
        return new, passed_s * 1e3 / new if new else np.nan


def write_pairs(infrared: Path, visible: Path, count: int) -> None:
    """Fill two folders with ``count`` pairs: DISTINCT views of a scene under as many names as needed."""
    pictures = make_scene("street", *SIZE)
    for folder, picture in zip((infrared, visible), pictures):
        folder.mkdir()
        for index in range(count):
            path = folder / f"{index:06}.png"
            if index < DISTINCT:
                write_image(path, np.roll(picture, index, axis=1))
            else:
                os.link(folder / f"{index % DISTINCT:06}.png", path)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="irvis run on test://, with the live view")
    run.add_argument("--minutes", type=float, default=60.0, metavar="M", help="(default: %(default)g)")
    fuse = commands.add_parser("fuse", help="irvis fuse on two folders")
    fuse.add_argument("--frames", type=int, default=20_000, metavar="N", help="pairs (default: %(default)s)")
    for each in (run, fuse):
        each.add_argument("--csv", type=Path, metavar="FILE", help="write the samples there")
    plot = commands.add_parser("plot", help="plot what --csv wrote")
    plot.add_argument("runs", type=Path, nargs="+", metavar="CSV")
    plot.add_argument("-o", "--output", type=Path, default=Path("soak.png"), help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    return guarded("soak", lambda: _plot(arguments) if arguments.command == "plot" else _soak(arguments))


def _soak(arguments: argparse.Namespace) -> int:
    check_outputs([arguments.csv])
    samples: List[Sample] = []
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="irvis-soak-") as folder:
        if arguments.command == "run":
            process = _start(_run_command(arguments.minutes))
            progress: Progress = _spectator(process)
        else:
            paths = [Path(folder) / name for name in ("infrared", "visible", "fused")]
            write_pairs(paths[0], paths[1], arguments.frames)
            paths[2].mkdir()
            process = _start(["fuse", str(paths[0]), str(paths[1]), "-o", str(paths[2])])
            progress = Written(paths[2])
        try:
            watch(process, progress, samples)
        except KeyboardInterrupt:  # what was seen until then is worth reporting
            interrupted = True
            process.terminate()
        said, _ = process.communicate()
    if arguments.csv is not None:
        write_text(arguments.csv, csv_text(Sample._fields, samples))
    print(said.strip())
    print(report(samples), flush=True)
    if interrupted:
        return INTERRUPTED
    if process.returncode:
        raise IrvisError(f"irvis {arguments.command} ended with {process.returncode}")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    check_outputs([arguments.output], arguments.runs)
    draw({path.stem: read_samples(path) for path in arguments.runs}, arguments.output)
    print(f"wrote {arguments.output}")
    return 0


def read_samples(path: Path) -> List[Sample]:
    """Return the samples that ``--csv`` wrote. Raises FileError."""
    try:
        head, *rows = csv.reader(read_bytes(path, "samples").decode().splitlines())
        if head != list(Sample._fields) or not rows:
            raise ValueError(head)
        return [Sample(*(kind(text) for kind, text in zip(get_type_hints(Sample).values(), row))) for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise FileError(f"{path} has no samples of a soak; make one by soak run --csv {path}") from error


def draw(runs: Mapping[str, Sequence[Sample]], output: Path) -> None:
    """Plot what each run held and took over time, one colour each. Raises FileError, IrvisError without matplotlib."""
    figure = new_figure(figsize=(10, 6))
    shown = {
        "memory_mb": "memory, MB",
        "descriptors": "descriptors",
        "threads": "threads",
        "processor_ms": "processor, ms a frame",
    }
    for (name, label), axis in zip(shown.items(), figure.subplots(2, 2, sharex=True).flat):
        for run, samples in runs.items():
            table = np.array(samples, np.float64)
            column = table[:, Sample._fields.index(name)]
            axis.plot(table[:, 0] / 60, column, label=legend_name(run), linewidth=1)
        axis.set(ylabel=label, ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    figure.supxlabel("minutes")
    save_figure(figure, output, dpi=100)


def _run_command(minutes: float) -> List[str]:
    scene = f"test://street?height={SIZE[0]}&width={SIZE[1]}"
    seconds = f"{60 * minutes:g}"
    return ["run", "--infrared", scene + "&bits=16", "--visible", scene, "--web", "0", "--duration", seconds]


def _start(arguments: List[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "irvis.runtime.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _spectator(process: "subprocess.Popen[str]") -> Spectator:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("live view: "):
            spectator = Spectator(line.partition(": ")[2].strip())
            spectator.start()
            return spectator
    raise IrvisError(f"irvis run ended with {process.wait()} before its live view was up")


if __name__ == "__main__":
    sys.exit(main())
