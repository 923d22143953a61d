"""Where fused frames go: a window, a video file, the live view in a browser."""

from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Protocol

import cv2

from irvis.runtime.errors import IrvisError, one_line
from irvis.runtime.loop import FusedFrame

if TYPE_CHECKING:
    from irvis.runtime.web.live_view import LiveView

TITLE = "irvis"
QUIT_KEYS = (ord("q"), 27)  # 27: Escape
LONGEST_GAP_S = 2.0  # that a recording fills by repeating frames

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
