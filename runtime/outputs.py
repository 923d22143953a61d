"""Where fused frames go: a window, a video file, the live view in a browser; and where their figures go meanwhile."""

import contextlib
import select
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Protocol

import cv2
from tqdm import tqdm

from irvis.runtime.cameras.reader import ROLES
from irvis.runtime.errors import IrvisError, one_line
from irvis.runtime.latencies import PERCENTILES, Latencies
from irvis.runtime.loop import FusedFrame

if TYPE_CHECKING:
    from irvis.runtime.web.live_view import LiveView

TITLE = "irvis"
QUIT_KEYS = (ord("q"), 27)  # 27: Escape
LONGEST_GAP_S = 2.0  # that a recording fills by repeating frames
BAR_S, JOURNAL_S = 1.0, 60.0  # between two reports of the figures

Status = Callable[[], Dict[str, Any]]


class Output(Protocol):
    """Takes each fused frame, in the thread that runs the loop."""

    def show(self, frame: FusedFrame, status: Status) -> bool:
        """Take a frame, valid during the call; return False to end the run."""

    def idle(self, status: Status) -> bool:
        """Called when no frame came for a while; return False to end the run."""


class Window:
    """Shows the fused frames in a window; q, Escape or closing it ends the run. Raises IrvisError without a screen."""

    def __init__(self) -> None:
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise IrvisError(
                f"OpenCV cannot open a window here: {one_line(error, 120)}; it needs a screen (DISPLAY) and the "
                "system's python3-opencv (a Jetson's libopencv-python), not opencv-python-headless; or use --web, "
                "which needs neither"
            ) from error

    def show(self, frame: FusedFrame, status: Status) -> bool:
        """Show a frame."""
        cv2.imshow(TITLE, frame.fused)
        return self.idle(status)

    def idle(self, status: Status) -> bool:
        """Let the window process its events."""
        pressed = cv2.waitKey(1) & 0xFF
        return pressed not in QUIT_KEYS and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1


class Recording:
    """Writes a video that plays at the speed of the scene: its rate is fixed, so frames are repeated or left out.

    Args:
        write: appends a frame to the video.
        fps: the video's frame rate.
        every: write each frame once, whatever its stamp.
    """

    def __init__(self, write: Callable[[Any], None], fps: float, every: bool) -> None:
        self._write, self._fps, self._every = write, fps, every
        self._start_s: Optional[float] = None
        self._written = 0

    def show(self, frame: FusedFrame, status: Status) -> bool:
        """Write a frame as many times as its stamp requires."""
        if self._start_s is None:
            self._start_s = frame.stamp_s
        wanted = self._written + 1
        if not self._every:
            wanted = round((frame.stamp_s - self._start_s) * self._fps) + 1
            most = self._written + max(1, round(LONGEST_GAP_S * self._fps))
            if wanted > most:  # a camera was gone: go on from here rather than record a still
                self._start_s += (wanted - most) / self._fps
                wanted = most
        while self._written < wanted:
            self._write(frame.fused)
            self._written += 1
        return True

    def idle(self, status: Status) -> bool:
        """Wait for the next frame."""
        return True


class Web:
    """Passes each frame to the live view."""

    def __init__(self, view: "LiveView") -> None:
        self._view = view

    def show(self, frame: FusedFrame, status: Status) -> bool:
        """Send a frame to the viewers."""
        if self._view.viewers:
            figures = {"index": frame.number, "stamp_s": frame.stamp_s, "latency_ms": frame.latency_ms}
            self._view.publish(frame.infrared, frame.visible, frame.fused, {**status(), **figures})
        else:  # the chart of the next viewer starts with the latest latencies
            self._view.publish_latency(frame.latency_ms)
        return True

    def idle(self, status: Status) -> bool:
        """Send the status of the cameras to the viewers."""
        if self._view.viewers:
            self._view.publish_status(status())
        return True


class Bar:
    """Counts the frames on a terminal, with the worst latencies so far."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        self._bar, self._told_s = bar, time.monotonic()

    def show(self, frame: FusedFrame, status: Status) -> bool:
        """Count a frame."""
        self._bar.update()
        if time.monotonic() - self._told_s > BAR_S:
            self._told_s = time.monotonic()
            figures = status()
            self._bar.set_postfix(
                p99=f"{figures['latency_p99_ms']:.1f} ms", missed=figures["missed_deadlines"], refresh=False
            )
        return True

    def idle(self, status: Status) -> bool:
        """Wait for the next frame."""
        return True


def stderr_takes_a_line(*_: object) -> bool:
    """Return whether stderr takes a line at once, as a pipe that nobody empties does not; also a filter for logging."""
    try:
        return bool(select.select([], [sys.stderr], [], 0)[1])
    except OSError:  # a stream in memory
        return True


class Journal:
    """Writes a line a minute on stderr, where nobody watches a bar: for the journal of a service."""

    def __init__(self, deadline_ms: float) -> None:
        self._latencies, self._since_s = Latencies(deadline_ms), time.monotonic()

    def show(self, frame: FusedFrame, status: Status) -> bool:
        """Count a frame."""
        self._latencies.add(frame.latency_ms)
        return self.idle(status)

    def idle(self, status: Status) -> bool:
        """Write the figures of the last minute, if it is over."""
        now_s = time.monotonic()
        seconds = now_s - self._since_s
        if seconds >= JOURNAL_S:
            figures = {**status(), **self._latencies.status()}
            self._latencies, self._since_s = Latencies(self._latencies.deadline_ms), now_s
            cameras = [f"{role} {figures[role]['state']}" for role in ROLES]
            lines = [" ".join(line.split()) for line in (*fused_lines(figures, seconds), *cameras)]
            if stderr_takes_a_line():
                with contextlib.suppress(OSError):  # a log on a full disk does not end the fusing
                    print("; ".join(lines), file=sys.stderr, flush=True)
        return True


def fused_lines(status: Dict[str, Any], seconds: float) -> List[str]:
    """Return how many pairs were fused and how fast, of ``FusionLoop.status()``; no latencies if there are none."""
    fused, missed = status["fused"], status["missed_deadlines"]
    lines = [f"fused     {fused} pairs in {seconds:.1f} s, {fused / max(seconds, 1e-9):.2f} a second"]
    if fused and status["realtime"]:  # otherwise frames queue, and a latency only tells the length of the queue
        percentiles = "  ".join(f"p{percent} {status[f'latency_p{percent}_ms']:.1f}" for percent in PERCENTILES)
        lines += [
            f"latency   {percentiles}  max {status['latency_max_ms']:.1f} ms, from the older capture to the frame",
            f"deadline  of {status['deadline_ms']:g} ms missed by {missed} ({100 * missed / fused:.1f} %)",
        ]
    return lines
