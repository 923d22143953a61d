"""What bench.py itself costs per frame: its loop, its progress bar, and the threads that read power and temperature.

    python -m irvis.benchmarks.bench_cost

A wait of 5 ms stands in for the model, as for a GPU. The monitored run and a bare loop take turns. If the machine has
no power meter, six rails are read from plain files instead, which is faster than reading a chip over a bus.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import List, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from irvis.benchmarks.latency import run_frames
from irvis.benchmarks.loop_cost import NoNetwork
from irvis.benchmarks.machine.conditions import Lookout
from irvis.benchmarks.machine.meters import Meter, find_meter
from irvis.benchmarks.machine.sampler import Sampler
from irvis.benchmarks.measurement import CONDITIONS_HZ, POWER_HZ
from irvis.runtime import Fuser
from irvis.runtime.cli import guarded
from irvis.runtime.samples import make_scene
from irvis.runtime.sizes import parse_count

FRAME_MS = 5.0
RAILS = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")


class Waiting(NoNetwork):
    """Waits for 5 ms without using the processor, as for a GPU."""

    name = "a wait"

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Return the visible plane, float32 (H, W)."""
        time.sleep(FRAME_MS / 1e3)
        return visible


class Cost(NamedTuple):
    """The cost per frame, in microseconds."""

    between_us: float  # from the end of a call to the start of the next
    processor_us: float  # of the whole process, beyond a bare loop's
    wall_us: float  # beyond a bare loop's


def measure_cost(frames: int, meter: Meter) -> Cost:
    """Run a bare loop and a monitored one, each over ``frames`` frames."""
    infrared, visible = make_scene("street", 16, 16)
    with Fuser(Waiting()) as fuser:
        run_frames(fuser, infrared, visible, 20)
        bare = _times()
        for _ in range(frames):
            fuser(infrared, visible)
        watched = _times()
        with ExitStack() as stack:
            bar = stack.enter_context(tqdm(total=frames, desc="frames", leave=False, file=sys.stderr, disable=None))
            stack.enter_context(Sampler(Lookout().look, CONDITIONS_HZ))
            stack.enter_context(Sampler(meter.read, POWER_HZ))
            run = run_frames(fuser, infrared, visible, frames, progress=bar.update)
        extra = (_times() - watched) - (watched - bare)
    assert run.between_us is not None
    return Cost(run.between_us, *(float(value) / frames * 1e6 for value in extra))


def _times() -> np.ndarray:
    return np.array([time.process_time(), time.perf_counter()])


def _find_meter(folder: Path) -> Meter:
    meter, _ = find_meter()
    if meter is not None:
        return meter
    for number, rail in enumerate(RAILS):
        chip = folder / f"sys/bus/i2c/devices/1-004{number // 3}/hwmon/hwmon0"
        chip.mkdir(parents=True, exist_ok=True)
        channel = number % 3 + 1
        files = {
            "name": "ina3221",
            f"in{channel}_label": rail,
            f"in{channel}_input": "5000",
            f"curr{channel}_input": "900",
        }
        for name, text in files.items():
            (chip / name).write_text(text)
    planted, why = find_meter(folder)
    assert planted is not None, why
    return planted


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=parse_count, default=400, metavar="N", help="per round (default: %(default)s)")
    parser.add_argument("--rounds", type=parse_count, default=9, metavar="N", help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    return guarded("bench_cost", lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        meter = _find_meter(Path(folder))
        costs = [measure_cost(arguments.frames, meter) for _ in range(arguments.rounds)]
    print(f"medians of {arguments.rounds} rounds of {arguments.frames} frames of {FRAME_MS:g} ms; {meter.name}")
    for title, values in zip(("between two frames", "processor, more than bare", "wall, more than bare"), zip(*costs)):
        share, spread = median(values) / FRAME_MS / 1e3, f"{min(values):.1f} to {max(values):.1f}"
        print(f"{title:<26} {median(values):7.1f} µs a frame, {share:.2%} ({spread})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
