"""The core of the ROS nodes: takes pairs of messages, publishes fused ones and reports. Imports no ROS."""

import importlib
import math
import statistics
import threading
from time import monotonic
from typing import Any, Callable, List, Mapping, NamedTuple, Sequence, Tuple

from irvis.runtime.errors import FrameError, IrvisError, one_line
from irvis.runtime.frames import to_grey
from irvis.runtime.fuser import Fuser
from irvis.runtime.mailbox import Mailbox
from irvis.runtime.ros.image_message import fill, to_array
from irvis.runtime.ros.settings import Settings

NAME = "irvis"  # of the node; a remapping changes it
REPORT_S = 1.0
STALE_S = 1.0  # after this long without a pair, the report is a warning
WARN_S = 5.0  # between two log lines about refused pairs, since a bad camera sends 30 a second
LEVELS = ("OK", "WARN", "ERROR")


class Report(NamedTuple):
    """What a node reports once a second, in the fields of ``diagnostic_msgs/DiagnosticStatus``."""

    level: str  # of LEVELS
    message: str
    values: List[Tuple[str, str]]


class FusionCore:
    """Fuses the newest pair of image messages in one thread, while ROS's threads go on.

    Args:
        settings: the model, the registration and the limits.
        new_message: returns an empty ``sensor_msgs/Image``.
        publish: called with the fused message, in the thread of ``run``.
        now_s: returns the time of ROS's clock in seconds, which stamps are compared with.
        report: called with a Report each second, in a thread of its own.
        warn: called with a line for the log.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        new_message: Callable[[], Any],
        publish: Callable[[Any], None],
        now_s: Callable[[], float],
        report: Callable[[Report], None],
        warn: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.counts = {"infrared": 0, "visible": 0, "paired": 0, "fused": 0, "dropped": 0, "refused": 0}
        self._new_message, self._publish, self._now_s = new_message, publish, now_s
        self._report, self._warn = report, warn
        self._pairs: Mailbox[Tuple[Any, Any, float]] = Mailbox()  # infrared, visible, time of arrival
        self._stopped = threading.Event()
        self._is_open = False
        self._lock = threading.Lock()  # for the counts and all below
        self._came_s = dict.fromkeys(("infrared", "visible", "paired"), monotonic())
        self._reported_s, self._warned_s = monotonic(), -math.inf
        # Both since the last report; latencies from the older stamp and from arrival.
        self._latencies_ms: List[Tuple[float, float]] = []
        self._refusals: List[str] = []

    def saw(self, message: Any, name: str) -> None:
        """Count a message from the "infrared" or "visible" camera, paired or not. Call from any thread."""
        with self._lock:
            self._count(name)

    def put(self, infrared: Any, visible: Any) -> None:
        """Queue two ``sensor_msgs/Image`` to fuse, in place of a waiting pair. Returns at once. Call from any thread.

        Never raises: ROS's synchroniser would keep its lock after an exception, and never pair again.
        """
        with self._lock:
            self._count("paired")
            self.counts["dropped"] += self._pairs.put((infrared, visible, monotonic())) is not None

    def run(self) -> None:
        """Open the model and fuse in this thread until ``stop``. Raises IrvisError if the model cannot be used."""
        reporter = threading.Thread(target=self._report_each_second, name="irvis-report", daemon=True)
        reporter.start()
        settings = self.settings
        try:
            with Fuser(
                settings.engine or None,
                resize=settings.resize,
                registration=settings.registration or None,
                crop=settings.crop,
                engine_cache=settings.engine_cache or None,
            ) as fuser:
                self._is_open = True
                while not self._stopped.is_set():
                    pair = self._pairs.take()
                    if pair is not None:
                        self._fuse(fuser, *pair)
        finally:
            self.stop()
            reporter.join()

    def stop(self) -> None:
        """Make ``run`` return after the current frame. Call from any thread."""
        self._stopped.set()
        self._pairs.close()

    def diagnostics(self) -> Report:
        """Return a report: rate and latencies since the last call, counts since the start."""
        with self._lock:
            now_s = monotonic()
            period_s, self._reported_s = now_s - self._reported_s, now_s
            latencies, self._latencies_ms = self._latencies_ms, []
            refusals, self._refusals = self._refusals, []
            silent_s = {name: now_s - came_s for name, came_s in self._came_s.items() if now_s - came_s > STALE_S}
            counts = dict(self.counts)
        from_stamp, from_arrival = zip(*latencies) if latencies else ((math.nan,), (math.nan,))
        late = sum(latency > self.settings.deadline_ms for latency in from_stamp)
        problems = self._silence(silent_s)
        if not self._is_open:
            problems.append(f"opening {self.settings.engine or 'the model'}")
        if refusals:
            problems.append(f"{len(refusals)} pairs refused: {refusals[-1]}")
        if late:
            problems.append(f"{late} of {len(latencies)} frames later than {self.settings.deadline_ms:g} ms")
        level = "ERROR" if refusals and not latencies else "WARN" if problems else "OK"
        values = {
            **counts,
            "rate_hz": f"{len(latencies) / max(period_s, 1e-3):.1f}",
            "latency_median_ms": f"{statistics.median(from_stamp):.1f}",
            "latency_worst_ms": f"{max(from_stamp):.1f}",
            "since_arrival_median_ms": f"{statistics.median(from_arrival):.1f}",
            "late": late,
        }
        return Report(level, "; ".join(problems) or "fusing", [(key, str(value)) for key, value in values.items()])

    def _count(self, name: str) -> None:
        self.counts[name] += 1
        self._came_s[name] = monotonic()

    def _silence(self, silent_s: Mapping[str, float]) -> List[str]:
        """Return a line for each silent camera; if both send but no pairs come, a line that says so."""
        topics = {"infrared": self.settings.infrared_topic, "visible": self.settings.visible_topic}
        lines = [f"no {name} on {topics[name]} for {silent_s[name]:.1f} s" for name in topics if name in silent_s]
        if "paired" in silent_s and not lines:
            lines = [f"both cameras send, but no two stamps are within {self.settings.slop_s:g} s of each other"]
        return lines

    def _fuse(self, fuser: Fuser, infrared: Any, visible: Any, came_s: float) -> None:
        fused = self._new_message()
        try:
            fuse_messages(fuser, infrared, visible, fused)
        except FrameError as error:
            with self._lock:
                self.counts["refused"] += 1
                self._refusals.append(str(error))
            if monotonic() - self._warned_s >= WARN_S:
                self._warned_s = monotonic()
                self._warn(f"pair refused, {self.counts['refused']} so far: {error}")
            return
        self._publish(fused)
        older_s = min(stamp_s(message.header.stamp) for message in (infrared, visible))
        with self._lock:
            self.counts["fused"] += 1
            self._latencies_ms.append(((self._now_s() - older_s) * 1e3, (monotonic() - came_s) * 1e3))

    def _report_each_second(self) -> None:
        while not self._stopped.wait(REPORT_S):
            self._report(self.diagnostics())


def fuse_messages(fuser: Fuser, infrared: Any, visible: Any, fused: Any) -> None:
    """Fuse two ``sensor_msgs/Image`` into a third, with the stamp and frame ID of the visible. Raises FrameError."""
    heat = to_array(infrared, "infrared")
    fill(fused, fuser(to_grey(heat) if heat.ndim == 3 else heat, to_array(visible, "visible")))
    # Not the header object itself: rospy writes a sequence number into it when it publishes.
    fused.header.stamp, fused.header.frame_id = visible.header.stamp, visible.header.frame_id


def stamp_s(stamp: Any) -> float:
    """Return in seconds a stamp of ROS 1 (secs, nsecs), or of ROS 2 and rosbags (sec, nanosec)."""
    if hasattr(stamp, "nanosec"):
        return stamp.sec + stamp.nanosec * 1e-9
    return stamp.secs + stamp.nsecs * 1e-9


def diagnostic_array(types: Any, header: Any, report: Report) -> Any:
    """Return a Report as ``diagnostic_msgs/DiagnosticArray``; ``types`` is the module ``diagnostic_msgs.msg``."""
    status = types.DiagnosticStatus(
        level=getattr(types.DiagnosticStatus, report.level),  # a number in ROS 1, a byte in ROS 2
        name=f"{NAME}: fusion",
        message=report.message,
        hardware_id="",
        values=[types.KeyValue(key=key, value=value) for key, value in report.values],
    )
    return types.DiagnosticArray(header=header, status=[status])


def synchronise(message_filters: Any, infrared: Any, visible: Any, core: FusionCore) -> None:
    """Connect two ``message_filters.Subscriber`` to the core; the module's interface is the same in ROS 1 and 2."""
    infrared.registerCallback(core.saw, "infrared")
    visible.registerCallback(core.saw, "visible")
    settings = core.settings
    pairs = message_filters.ApproximateTimeSynchronizer([infrared, visible], settings.queue_size, settings.slop_s)
    pairs.registerCallback(core.put)


def ignoring_shutdown(publish: Callable[[Any], None], is_shut_down: Callable[[], bool]) -> Callable[[Any], None]:
    """Return ``publish`` with its exceptions ignored once ROS shuts down: topics may close at any moment then."""

    def published(message: Any) -> None:
        try:
            publish(message)
        except Exception:
            if not is_shut_down():
                raise

    return published


def import_ros(names: Sequence[str], hint: str) -> List[Any]:
    """Import modules by name. Raises IrvisError, with the hint, if one cannot be imported."""
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise IrvisError(f"ROS cannot be imported ({one_line(error)}): {hint}") from error
