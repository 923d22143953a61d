"""A source: a thread that grabs the frames of a camera or a recording and provides the newest."""

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Union

import cv2

from irvis.runtime.at_exit import close_at_exit
from irvis.runtime.cameras.frame import Frame, FramePool, each
from irvis.runtime.cameras.reader import Reader, open_reader
from irvis.runtime.cameras.uri import CAMERAS, SourceUri, parse_uri, without_passwords
from irvis.runtime.errors import EndedEarly, FileError, FrameError, IrvisError, one_line
from irvis.runtime.exclusive import Birthplace

STALLED_S = 0.7  # without a frame; for a slower camera, 2.5 of its intervals
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 1.0  # between attempts to reopen a lost camera
OPEN_S = 10.0
JOIN_S = 5.0  # then a camera that hangs in its driver is left to its thread, which dies with the process
AWAY = 10  # longer intervals count as this many usual ones: a camera that was away has not become slow
CHECK_S = 0.1  # between checks for a stall
OVERDUE_S = 0.1  # how late a frame of a recording may be before the next are passed over; a camera queues about as long
BEHIND_S, STILL_BEHIND = 1.0, 3  # this late, for so many frames although others were passed over, is reported
BAD_WAIT_S = 0.01  # after an unusable frame: a reader that returns only such must not occupy a whole core

STREAMING, STALLED, RECONNECTING, ENDED = "streaming", "stalled", "reconnecting", "ended"

logger = logging.getLogger("irvis.camera")


@dataclass
class SourceStatus:
    """The state of a source, and its counts since the start."""

    state: str = STREAMING  # or "stalled", "reconnecting", "ended"
    frames: int = 0  # received
    dropped: int = 0  # replaced by a newer one before they were read, without a partner, or of a recording and overdue
    bad: int = 0  # that could not be used; not counted in ``frames``
    reconnects: int = 0
    fps: float = 0.0  # recent, by the times of arrival


class Playhead:
    """From where to read recordings that cannot be decoded in time. Two that are paired share it.

    So both pass over the same frames: those that each had the time to decode would seldom be pairs.
    """

    def __init__(self) -> None:
        self._at_s = -math.inf
        self._lock = threading.Lock()

    def after(self, last_s: float, now_s: float) -> float:
        """Return the stamp before which frames are to be passed over, after a frame with the stamp ``last_s``."""
        with self._lock:
            if self._at_s <= last_s and now_s - last_s > OVERDUE_S:
                self._at_s = now_s
            return self._at_s


class Source:
    """Grabs frames in a thread of its own from ``start`` to ``close``; keeps the newest and drops older ones.

        with open_source("v4l2:///dev/video0", "visible") as source:
            for frame in source:
                look_at(frame.image)  # valid until the next frame

    Args:
        uri: what to read, see ``cameras.uri``.
        role: "infrared" or "visible".
        realtime: play a recording at its own pace, as a camera would; frames that cannot be decoded in time are passed
            over. Otherwise no frame is dropped: the source waits until each is read.
        delay_s: latency of a frame before it arrives, subtracted from its stamp.
        open_again: opens the source, at first and after a camera was lost; None opens ``uri``.
        sink: called with each frame, in the source's thread; None keeps the newest for ``read``.
        changed: notified of each new frame and of the end; None makes one.
        playhead: shared by recordings whose frames are paired; None makes one.

    Raises FileError if the source cannot be opened, FrameError for a delay that is not a number.
    """

    def __init__(
        self,
        uri: SourceUri,
        role: str,
        *,
        realtime: bool = True,
        delay_s: float = 0.0,
        open_again: Optional[Callable[[], Reader]] = None,
        sink: Optional[Callable[[Frame], None]] = None,
        changed: Optional[threading.Condition] = None,
        playhead: Optional[Playhead] = None,
    ) -> None:
        if not math.isfinite(delay_s):
            raise FrameError(f"the delay of the {role} frames must be a number of seconds. Got {delay_s}")
        self.uri, self.role = uri, role
        self.name = f"{role} {uri.text}"
        self.status = SourceStatus()
        self.ended = False
        self.failure: Optional[BaseException] = None  # the error that ended the source, if one did
        self.cut_off: Optional[EndedEarly] = None  # of a truncated recording: raised once all its frames were read
        self._birthplace = Birthplace("its thread does not survive a fork")
        self._open_again = open_again or (lambda: open_reader(uri, role))
        self._reader = _open_in_time(self._open_again, uri)
        self._realtime, self._delay_s = realtime, delay_s
        self._sink = sink or self._keep_newest
        self._changed = changed or threading.Condition()
        self._playhead, self._last_s = playhead or Playhead(), -delay_s  # stamp, since the start, of the last frame
        self._newest: Optional[Frame] = None
        self._pool = FramePool()
        self._stopping, self._join_by_s = threading.Event(), math.inf
        self._interval_s = 1 / self.fps if self.fps else 0.0  # between frames, smoothed
        self._epoch_s = self._alive_s = time.monotonic()
        self._behind = 0  # frames in succession that were BEHIND_S late
        self._thread = threading.Thread(target=self._run, name=f"grab {role}", daemon=True)

    @property
    def fps(self) -> Optional[float]:
        """Nominal frames per second, if known."""
        return self._reader.fps

    @property
    def loop_s(self) -> Optional[float]:
        """How long a round of a video or folder that is played in a loop lasts, in seconds; None for other sources."""
        length_s: Optional[float] = getattr(self._reader, "loop_s", None)
        return length_s

    def start(self, epoch_s: Optional[float] = None) -> "Source":
        """Start grabbing and return the source; ``epoch_s`` is when a recording starts, by time.monotonic()."""
        self._epoch_s = self._alive_s = time.monotonic() if epoch_s is None else epoch_s
        close_at_exit(self)
        try:
            self._thread.start()
        except BaseException:  # Ctrl-C among them
            self.close()
            raise
        return self

    def read(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """Wait for a new frame, which the caller must release; None at the end or after the timeout.

        If the source ended with an error, raises that error.
        """
        limit_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._newest is None:
                if self.failure is not None:
                    raise self.failure
                if self.ended and self.cut_off is not None:
                    raise self.cut_off
                left_s = limit_s - time.monotonic()
                if self.ended or left_s <= 0:
                    return None
                self._changed.wait(min(CHECK_S, left_s))
                self.check()
            frame, self._newest = self._newest, None
            self._changed.notify_all()
        return frame

    def check(self) -> str:
        """Return the state; log a warning when frames stop arriving."""
        self._birthplace.check(self.name)
        status = self.status
        silent_s = time.monotonic() - self._alive_s
        waits = not self._realtime  # for the consumer: then silence says nothing about the camera
        if status.state == STREAMING and not waits and silent_s > max(STALLED_S, 2.5 * self._interval_s):
            status.state = STALLED
            logger.warning("%s: no frame for %.1f s", self.name, silent_s)
        return status.state

    def stop(self) -> None:
        """Tell the thread to end, without waiting for it."""
        self._join_by_s = min(self._join_by_s, time.monotonic() + JOIN_S)
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread and release the camera. May be called twice."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(max(0.0, self._join_by_s - time.monotonic()))
            if self._thread.is_alive():
                logger.warning("%s: its driver does not return; its thread runs on until the process ends", self.name)
        elif self._thread.ident is None:
            self._reader.close()

    def __iter__(self) -> Iterator[Frame]:
        return each(self.read)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closing(self) -> bool:
        """Whether ``close`` was called, so that a waiting sink must give up."""
        return self._stopping.is_set()

    def _run(self) -> None:
        try:
            try:
                while not self.closing:
                    frame = self._pool.take()
                    if self._fill(frame):
                        self._count(frame)
                        self._sink(frame)
                        continue
                    frame.release()
                    if not (self._reader.live and self._reconnect()):
                        break
            finally:
                self._reader.close()  # also after an error, or the device would stay busy
        except BaseException as error:  # raised by ``read``: an error in this thread would go unnoticed
            self.failure = error
        finally:
            with self._changed:
                self.ended = True
                self.status.state = ENDED
                self._changed.notify_all()

    def _fill(self, frame: Frame) -> bool:
        """Read the next usable frame into ``frame``; return False if there are no more."""
        reading = None
        while not self.closing:
            try:
                if self._realtime and not self._reader.live:
                    self._skip_overdue()
                reading = self._reader.read(frame.buffers)
                break
            except EndedEarly as error:
                self.cut_off = error
                return False
            except (IrvisError, cv2.error) as error:
                self.status.bad += 1
                if self.status.bad in (1, 10, 100) or self.status.bad % 1000 == 0:
                    line = one_line(without_passwords(str(error)))  # OpenCV's may quote the whole pipeline
                    logger.warning("%s: %s (%d bad frames so far)", self.name, line, self.status.bad)
                self._stopping.wait(BAD_WAIT_S)
        if reading is None:
            return False
        frame.image = reading.image
        frame.stamp_s = reading.stamp_s - self._delay_s
        if not self._reader.live:
            self._last_s = frame.stamp_s
            frame.stamp_s += self._epoch_s
            if self._realtime:
                self._stopping.wait(max(0.0, self._epoch_s + reading.stamp_s - time.monotonic()))
        frame.grabbed_s = time.monotonic()
        return True

    def _skip_overdue(self) -> None:
        """Pass over the frames of a recording that are overdue, as a live camera would drop them."""
        late_s = time.monotonic() - self._epoch_s - self._delay_s - self._last_s
        at_s = self._playhead.after(self._last_s, self._last_s + late_s)
        if at_s > self._last_s:
            self.status.dropped += self._reader.skip(at_s + self._delay_s)
        self._behind = self._behind + 1 if late_s > BEHIND_S else 0
        if self._behind == STILL_BEHIND:
            advice = "it cannot be decoded in time; use --every-frame or a lower ?fps="
            logger.warning("%s: %.1f s late: %s", self.name, late_s, advice)

    def _count(self, frame: Frame) -> None:
        status = self.status
        if status.frames and status.state != RECONNECTING:
            interval_s = max(frame.grabbed_s - self._alive_s, 1e-6)
            if self._interval_s:
                interval_s = min(interval_s, AWAY * self._interval_s)
            self._interval_s += (interval_s - self._interval_s) * (0.1 if status.fps else 1.0)
            status.fps = 1 / self._interval_s
        if status.state != STREAMING:
            logger.warning("%s: frames again", self.name)
            status.state = STREAMING
        status.frames += 1
        self._alive_s = frame.grabbed_s

    def _reconnect(self) -> bool:
        """Reopen a lost camera, however long that takes; return False once the source is closed."""
        self.status.state = RECONNECTING
        logger.warning("%s: lost; trying to open it again", self.name)
        self._reader.close()
        wait_s = FIRST_WAIT_S
        while not self._stopping.wait(wait_s):
            try:
                self._reader = _open_in_time(self._open_again, self.uri)
            except (IrvisError, cv2.error):
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            self.status.reconnects += 1
            return True
        return False

    def _keep_newest(self, frame: Frame) -> None:
        with self._changed:
            if not self._realtime:
                self._changed.wait_for(lambda: self._newest is None or self.closing)
            if self._newest is not None:
                self._newest.release()
                self.status.dropped += 1
            self._newest = frame
            self._changed.notify_all()


def _open_in_time(opens: Callable[[], Reader], uri: SourceUri) -> Reader:
    """Open a source; a camera in a thread that can be abandoned, since OpenCV waits for some pipelines for ever."""
    if uri.scheme not in CAMERAS:
        return opens()
    result: List[Union[Reader, BaseException, None]] = []  # None: given up. Whichever comes first counts.

    def attempt() -> None:
        try:
            reader = opens()
            result.append(reader)
            if result[0] is not reader:
                reader.close()  # it opened too late, and must not block the camera for the next attempt
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=attempt, name=f"open {uri.text}", daemon=True)
    try:
        thread.start()
        thread.join(OPEN_S)
    finally:  # also after Ctrl-C
        result.append(None)
    found = result[0]
    if found is None:
        raise FileError(f"{uri.text} did not open within {OPEN_S:g} s; try the same with gst-launch-1.0 or v4l2-ctl")
    if isinstance(found, BaseException):
        raise found
    return found


def open_source(uri: str, role: str, *, realtime: bool = True, delay_s: float = 0.0) -> Source:
    """Open and start the source that a URI names, as "infrared" or "visible"; see Source. Raises FileError."""
    return Source(parse_uri(uri), role, realtime=realtime, delay_s=delay_s).start()
