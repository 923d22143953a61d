"""What the loop itself costs per frame: everything but the network, replaced by a backend that does nothing.

    taskset -c 0 python -m irvis.benchmarks.loop_cost --frames 600
    python -m irvis.benchmarks.loop_cost --rate 30 --minutes 30 --csv soak.csv

The first runs as fast as it can; on one core, that is the cost of a frame. The second is a soak: it takes
frames at a camera's rate and records memory, descriptors and threads every ten seconds.
"""

import argparse
import csv
import os
import sys
import threading
import time
from pathlib import Path
from typing import List, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from irvis.runtime.cli import guarded
from irvis.runtime.files import check_outputs, replacing
from irvis.runtime.loop import FusionLoop
from irvis.runtime.registration.homography import Registration
from irvis.runtime.sizes import DEFAULT_SIZE, format_size, parse_count, parse_size

WARMUP = 30
SAMPLE_S = 10.0


class NoNetwork:
    """A backend that returns the visible luminance, so that only the loop is left."""

    name = "no network"
    size: Optional[Tuple[int, int]] = None
    takes_frames = False
    h2d_ms: Optional[float] = None
    compute_ms: Optional[float] = 0.0
    d2h_ms: Optional[float] = None

    def run(self, infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Return the visible plane, float32 (H, W)."""
        return visible

    def rebuild_command(self, size: Tuple[int, int]) -> str:
        """Return an empty command: any size is taken."""
        return ""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def open_loop(
    size: Tuple[int, int], bits: int = 8, fps: float = 30.0, registered: bool = False, realtime: bool = False
) -> FusionLoop:
    """Open a loop on two test sources of ``size`` (H, W), without a network."""
    scene = f"test://street?height={size[0]}&width={size[1]}&fps={fps:g}"
    turned = np.array([[1.01, 0.01, -4.0], [-0.01, 1.01, 3.0], [0.0, 0.0, 1.0]])
    registration = Registration(turned, size, size, "points") if registered else None
    return FusionLoop(f"{scene}&bits={bits}", scene, NoNetwork(), realtime=realtime, registration=registration)


def cost_ms(loop: FusionLoop, frames: int) -> Tuple[float, float]:
    """Fuse ``frames`` pairs as fast as possible; return wall and processor time per frame in milliseconds."""
    for _ in range(WARMUP):
        loop.read()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in tqdm(range(frames), desc="frames", leave=False, disable=None):
        loop.read()
    return (time.perf_counter() - wall_s) * 1e3 / frames, (time.process_time() - cpu_s) * 1e3 / frames


def memory_mb() -> float:
    """Return the resident memory of this process, in 10^6 bytes, from /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(loop: FusionLoop, minutes: float, rows: List[List[float]]) -> None:
    """Take frames for ``minutes``; append seconds, frames, MB, descriptors, threads and p99 every ten seconds."""
    started_s = time.monotonic()
    end_s, due_s = started_s + 60 * minutes, started_s + SAMPLE_S
    with tqdm(total=round(60 * minutes), desc="soak", unit="s", disable=None) as bar:
        while time.monotonic() < end_s:
            loop.read(1.0)
            now_s = time.monotonic()
            if now_s >= due_s:
                due_s += SAMPLE_S
                bar.update(round(now_s - started_s) - bar.n)
                descriptors = len(os.listdir("/proc/self/fd"))
                p99_ms = loop.latencies.percentile_ms(99) or np.nan
                row = [
                    now_s - started_s,
                    loop.latencies.count,
                    memory_mb(),
                    descriptors,
                    threading.active_count(),
                    p99_ms,
                ]
                rows.append([round(value, 3) for value in row])


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="loop_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=DEFAULT_SIZE, metavar="HEIGHTxWIDTH", help="(480x640)")
    parser.add_argument(
        "--frames", type=parse_count, default=600, metavar="N", help="frames to time (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="camera rate in a soak")
    parser.add_argument("--minutes", type=float, metavar="M", help="soak for this long instead")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the soak's figures there")
    arguments = parser.parse_args(argv)
    return guarded("loop_cost", lambda: _soak(arguments) if arguments.minutes else _costs(arguments))


def _costs(arguments: argparse.Namespace) -> int:
    cv2.setNumThreads(1)
    print(f"{format_size(arguments.size)}, {arguments.frames} frames, {len(os.sched_getaffinity(0))} core(s)")
    print("| infrared | registration | wall ms a frame | processor ms a frame |\n|---|---|---|---|")
    for bits in (8, 16):
        for registered in (False, True):
            with open_loop(arguments.size, bits, registered=registered) as loop:
                wall_ms, cpu_ms = cost_ms(loop, arguments.frames)
            print(f"| {bits} bits | {'applied' if registered else 'none'} | {wall_ms:.2f} | {cpu_ms:.2f} |", flush=True)
    return 0


def _soak(arguments: argparse.Namespace) -> int:
    check_outputs([arguments.csv])
    tqdm.monitor_interval = 0  # its thread would be counted
    threads = threading.active_count()
    rows: List[List[float]] = []
    with open_loop(arguments.size, 16, arguments.rate, registered=True, realtime=True) as loop:
        soak(loop, arguments.minutes, rows)
        status = loop.status()
    left = threading.active_count() - threads
    if arguments.csv is not None:
        with replacing(arguments.csv) as path, open(path, "w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["seconds", "frames", "memory_mb", "descriptors", "threads", "latency_p99_ms"])
            writer.writerows(rows)
    seconds, memory = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
    if len(rows) > 3:
        # Of the later half: memory rises in steps until every buffer that the threads may need at once is allocated.
        later = slice(len(rows) // 2, None)
        slope, _ = np.polyfit(seconds[later], memory[later], 1)
        print(f"memory {memory[0]:.1f} MB at first, {memory.max():.1f} at most; in the later half ", end="")
        print(f"{memory[later].mean():.1f} ± {memory[later].std():.2f}, slope {slope * 3600:+.2f} MB an hour")
    p99_ms, max_ms = (status[f"latency_{name}_ms"] or np.nan for name in ("p99", "max"))
    print(f"{status['fused']} frames, {status['skipped']} skipped, p99 {p99_ms:.2f} ms, max {max_ms:.1f} ms, ", end="")
    print(f"threads left after close: {left}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
