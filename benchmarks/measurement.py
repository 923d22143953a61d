"""One run of an open model, with the machine monitored meanwhile."""

import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from tqdm import tqdm

from irvis.benchmarks.latency import Run, run_frames
from irvis.benchmarks.machine.board import Board
from irvis.benchmarks.machine.conditions import Lookout
from irvis.benchmarks.machine.energy import Energy, count_inside, mean_power_w
from irvis.benchmarks.machine.meters import find_meter
from irvis.benchmarks.machine.nvml import open_gpu
from irvis.benchmarks.machine.sampler import Sampler
from irvis.benchmarks.report.report import ColdStart
from irvis.benchmarks.report.stability import History
from irvis.runtime import Fuser
from irvis.runtime.samples import make_scene

POWER_HZ, CONDITIONS_HZ = 20.0, 5.0  # three looks at a run of 200 frames of 3 ms
IDLE_S = 3.0  # over which idle power is measured, if there is a meter
LEAST_READINGS = 5  # of power during a run; a counter needs none


class Plan(NamedTuple):
    """What to run."""

    size: Tuple[int, int]  # (H, W)
    iterations: int
    warmup: int
    rate_hz: Optional[float] = None  # of a camera; None: back to back


class Measured(NamedTuple):
    """The results of a run."""

    cold: ColdStart
    warmup: int  # frames before those of the run: the plan's, or more if the meter needed them
    run: Run
    history: History
    energy: Optional[Energy]
    why_no_energy: str  # "" if there is energy


def runs_on_gpu(backend: str) -> bool:
    """Return whether the backend of this name runs the model on a GPU."""
    return "TensorRT" in backend or "Tensorrt" in backend or "CUDA" in backend


def measure_model(fuser: Fuser, loaded_ms: float, plan: Plan, root: Path = Path("/")) -> Measured:
    """Time the first frame, measure idle power, warm up, and time the frames of the plan.

    With a meter that shows an average, idling and warming up (unless that is left out) last until it shows only that.

    Args:
        fuser: open, and not run yet.
        loaded_ms: how long opening it took.
        plan: what to run, on one pair of the generated street again and again.
        root: the folder whose ``sys`` is read.

    Raises IrvisError if the model fails.
    """
    frames = make_scene("street", *plan.size)
    with ExitStack() as stack:
        gpu = open_gpu() if runs_on_gpu(fuser.backend.name) else None
        if gpu is not None:
            stack.callback(gpu.close)
        meter, why_no_energy = find_meter(root, gpu)
        first = run_frames(fuser, *frames, 1)
        idle_w = None
        if meter is not None:
            time.sleep(meter.settles_s)
            with Sampler(meter.read, POWER_HZ) as idle:
                begin_s = time.monotonic()
                time.sleep(IDLE_S)
                end_s = time.monotonic()
            rails_w = mean_power_w(idle.samples, meter, begin_s, end_s)
            idle_w = sum(rails_w.values()) if rails_w is not None else None
        total = plan.warmup + plan.iterations
        bar = stack.enter_context(
            tqdm(total=total, unit="frame", desc="bench", leave=False, disable=None, file=sys.stderr)
        )
        # Before the warm-up, because the first reading may take as long as the chip averages, in which the GPU cools.
        power = stack.enter_context(Sampler(meter.read, POWER_HZ)) if meter is not None else None
        begin_s, warmup = time.monotonic(), plan.warmup
        run_frames(fuser, *frames, plan.warmup, plan.rate_hz, bar.update)
        while meter is not None and plan.warmup:
            left_s = begin_s + meter.settles_s - time.monotonic()
            if left_s <= 0:
                break
            more = math.ceil(left_s * plan.rate_hz) if plan.rate_hz else 1
            run_frames(fuser, *frames, more, plan.rate_hz)
            warmup += more
        looks = stack.enter_context(Sampler(Lookout(root, gpu).look, CONDITIONS_HZ))
        run = run_frames(fuser, *frames, plan.iterations, plan.rate_hz, bar.update)
    energy = None
    if meter is not None and power is not None:
        rails_w = mean_power_w(power.samples, meter, run.start_s, run.ends_s[-1])
        samples = count_inside(power.samples, run.start_s, run.ends_s[-1])
        if rails_w is None:
            why_no_energy = f"{meter.name} could not be read before and after the run"
        elif samples < LEAST_READINGS and not meter.is_counter:
            why_no_energy = f"{meter.name} gave {samples} readings in {run.seconds:.1f} s, too few: take more frames"
        else:
            energy = Energy(meter.name, POWER_HZ, samples, run.seconds, plan.iterations, rails_w, idle_w)
    cold = ColdStart(loaded_ms, first.calls_ms[0])
    return Measured(cold, warmup, run, looks.samples, energy, why_no_energy)


def changes_of(before: Board, after: Board) -> Tuple[str, ...]:
    """Return which of the machine's settings changed while the model ran."""
    changes = []
    if before.mode != after.mode:
        changes.append(f"the power mode changed from {before.mode} to {after.mode}")
    if before.clocks_locked != after.clocks_locked:
        changes.append("the clocks were locked or unlocked meanwhile")
    return tuple(changes)
