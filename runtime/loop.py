"""From two cameras to fused frames: grabbing, preparing, inferring and handing over run concurrently."""

import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np

from irvis.runtime.at_exit import close_at_exit
from irvis.runtime.backend import Backend
from irvis.runtime.cameras.matcher import FramePair
from irvis.runtime.cameras.nvidia import load_dispatch
from irvis.runtime.cameras.pairing import SLOP_S, PairedSources
from irvis.runtime.engine_cache import is_building
from irvis.runtime.exclusive import Birthplace, exclusive
from irvis.runtime.fuser import Fuser
from irvis.runtime.latencies import Latencies
from irvis.runtime.mailbox import Mailbox
from irvis.runtime.work import StageTimes, Work

DEADLINE_MS = 33.0
OPENING_S = 10.0  # that ``close`` waits for a model that is being opened, unless that is an engine being built
WORKS = 6  # one in preparation, one prepared, one in the model, one inferred, one with the caller, one to follow it


class FusedFrame(NamedTuple):
    """A result of the loop, valid until the next one is taken."""

    fused: np.ndarray  # uint8 BGR (H, W, 3), or grey (H, W) if the visible was
    infrared: np.ndarray  # as it was fused: uint8 (H, W), registered to the visible, scaled from 16 bits
    visible: np.ndarray  # uint8 BGR (H, W, 3) or grey (H, W)
    number: int  # counts the fused frames, from 0
    stamp_s: float  # of the visible's capture, by time.monotonic()
    skew_ms: float  # by how much the infrared was captured later
    latency_ms: float  # from the older of the two captures to now
    times: StageTimes


class _Job(NamedTuple):
    """A pair in progress, and its memory."""

    pair: FramePair
    work: Work


class FusionLoop:
    """Fuses the frames of two sources: the newest pair is fused, older ones are dropped and counted.

        with FusionLoop("v4l2:///dev/video1?format=Y16", "csi://0", "student.engine") as loop:
            for frame in loop:
                robot.see(frame.fused)

    While one pair is inferred, the next is prepared, further frames are grabbed, and the caller has the last result.
    Once every buffer has been used, nothing of a frame's size is allocated.

    Args:
        infrared: URI of the infrared source, see ``cameras.uri``.
        visible: URI of the visible one.
        model: a ``.engine`` or ``.onnx``; None is the student that irvis ships, ``"fast"`` its fast student.
        slop_s: the largest difference between the captures of a pair, in seconds.
        delays_s: latency of the infrared and of the visible frames before they arrive, in seconds.
        realtime: keep the newest pair, as a robot must. Otherwise every pair of two recordings is fused, at the loop's
            pace.
        deadline_ms: a longer latency is counted as a missed deadline.
        fuser_options: further arguments of Fuser: ``registration``, ``crop``, ``resize``, ``engine_cache``, ...

    Raises FileError or ModelError if a source or the model cannot be opened; while iterating, FrameError or ModelError
    if a pair cannot be fused, and EndedEarly, a FileError, after the last pair of a recording that is cut off. One
    thread at a time may read; a second concurrent call raises ModelError.
    """

    def __init__(
        self,
        infrared: str,
        visible: str,
        model: Union[str, Path, Backend, None] = None,
        *,
        slop_s: float = SLOP_S,
        delays_s: Tuple[float, float] = (0.0, 0.0),
        realtime: bool = True,
        deadline_ms: float = DEADLINE_MS,
        **fuser_options: Any,
    ) -> None:
        self.latencies = Latencies(deadline_ms)
        self.backend_name = ""
        self._realtime = realtime
        self._prepared: Mailbox[_Job] = Mailbox(every=not realtime)
        self._inferred: Mailbox[_Job] = Mailbox(every=not realtime)
        # New ones are taken first: all are used at the start, so that memory is constant from then on. After that, the
        # one released last, which is still in cache.
        self._free: List[Work] = []
        self._new = [Work(keeps=True) for _ in range(WORKS)]
        self._given: Optional[_Job] = None
        self._last_s = self._interval_s = 0.0
        self._skew_ms: Optional[float] = None
        self._failure: Optional[BaseException] = None
        self._birthplace = Birthplace("its threads do not survive a fork")
        self._opened = threading.Event()
        self._fuser: Optional[Fuser] = None
        self._pairs: Optional[PairedSources] = None
        load_dispatch()
        # Only the thread that opened an engine may run it.
        self._threads = [threading.Thread(target=self._infer, args=(model, fuser_options), name="infer", daemon=True)]
        close_at_exit(self)
        try:
            self._threads[0].start()
            self._opened.wait()
            self._raise_failure()
            self._pairs = PairedSources(infrared, visible, slop_s=slop_s, realtime=realtime, delays_s=delays_s)
            self._threads.append(threading.Thread(target=self._prepare, name="prepare", daemon=True))
            self._threads[1].start()
        except BaseException:
            self.close()
            raise

    @exclusive
    def read(self, timeout_s: Optional[float] = None) -> Optional[FusedFrame]:
        """Wait for the next fused frame, which makes the previous one invalid; return None at the end or on timeout.

        Raises FrameError or ModelError if a pair cannot be fused, EndedEarly after the last of a cut-off recording;
        either once all pairs before it were read.
        """
        self._birthplace.check("the loop")
        job = self._inferred.take(timeout_s)
        if job is None:
            if self.ended:  # otherwise pairs from before the failure are still in the model
                self._raise_failure()
            return None
        if self._given is not None:
            self._release(self._given)
        self._given = job
        return self._finish(job)

    @property
    def ended(self) -> bool:
        """Whether no more frames will come: all were read, the loop failed, or it was closed."""
        return self._inferred.ended

    @property
    def fps(self) -> Optional[float]:
        """Nominal rate at which pairs come, that of the slower source, if known."""
        sources = self._pairs.sources.values() if self._pairs else ()
        return min((source.fps for source in sources if source.fps), default=None)

    def status(self) -> Dict[str, Any]:
        """Return counts, rates and latencies so far, as plain numbers and strings.

        What has no value while nothing was fused, such as a latency, is None.
        """
        status = {
            "realtime": self._realtime,
            "skew_ms": self._skew_ms,
            "fps": 1 / self._interval_s if self._interval_s else 0.0,
            **self.latencies.status(),
        }
        if self._pairs is not None:
            status.update(self._pairs.status())
            status["skipped"] += self._prepared.replaced + self._inferred.replaced
        return status

    def close(self) -> None:
        """End the threads, and release the cameras and the model. May be called twice."""
        for mailbox in (self._prepared, self._inferred):
            mailbox.close()
        if self._pairs is not None:
            self._pairs.close()
        limit_s = time.monotonic() + OPENING_S
        for thread in self._threads:
            # A process that ends while libraries open the model crashes in them, but an engine is built for minutes.
            while thread.is_alive() and (self._opened.is_set() or not (is_building() or time.monotonic() > limit_s)):
                thread.join(0.1)
        self._inferred.take(0)  # the last result, which nobody may read any more

    def __iter__(self) -> Iterator[FusedFrame]:
        while True:
            frame = self.read()
            if frame is None:
                return
            yield frame

    def __enter__(self) -> "FusionLoop":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        """Make the model's inputs from the newest pair, in a thread of its own."""
        fuser, pairs = self._fuser, self._pairs
        assert fuser is not None  # both were opened before this thread was started
        assert pairs is not None
        try:
            for pair in iter(pairs.read, None):
                job = _Job(pair, (self._new or self._free).pop())
                fuser.prepare(pair.infrared.image, pair.visible.image, job.work)
                self._hand_on(self._prepared, job)
                if self._prepared.closed:
                    return
        except BaseException as error:
            if not self._prepared.closed:  # otherwise the Fuser is closed, and raises here too: not the cause
                self._failure = error
        finally:
            self._prepared.close()

    def _infer(self, model: Union[str, Path, Backend, None], options: Dict[str, Any]) -> None:
        """Open the model and run it, in a thread of its own."""
        try:
            with Fuser(model, **options) as fuser:
                self._fuser, self.backend_name = fuser, fuser.backend.name
                self._opened.set()
                for job in iter(self._prepared.take, None):
                    fuser.infer(job.work)
                    self._hand_on(self._inferred, job)
        except BaseException as error:
            self._failure = error
        finally:
            self._prepared.close()
            self._inferred.close()
            self._opened.set()

    def _finish(self, job: _Job) -> FusedFrame:
        """Make the caller's frame, in the caller's thread."""
        fuser = self._fuser
        assert fuser is not None
        started_s = time.perf_counter()
        work, (infrared, visible) = job.work, job.pair
        fused = fuser.finish(work, work.buffers("out", work.visible.shape))
        seen = work.infrared
        if seen.dtype != np.uint8:
            # As to_levels does without its buffer: ``prepare`` may use that at the model's size, and a buffer that
            # changes its size twice a frame is allocated anew each time. No value is negative here.
            seen = cv2.convertScaleAbs(seen, work.buffers("shown infrared", seen.shape), alpha=255.0)
        post_ms = (time.perf_counter() - started_s) * 1e3
        now_s = time.monotonic()
        # The stamps of a recording that is not played at its own pace are not from this clock.
        since_s = [frame.stamp_s if self._realtime else frame.grabbed_s for frame in (infrared, visible)]
        latency_ms = (now_s - min(since_s)) * 1e3
        number = self.latencies.count
        self.latencies.add(latency_ms)
        if number:
            interval_s = now_s - self._last_s
            self._interval_s += (interval_s - self._interval_s) * (0.1 if self._interval_s else 1.0)
        self._last_s, self._skew_ms = now_s, job.pair.skew_ms
        times = StageTimes(work.pre_ms, *work.device_ms, post_ms, work.pre_ms + work.infer_ms + post_ms)
        return FusedFrame(fused, seen, work.visible, number, visible.stamp_s, self._skew_ms, latency_ms, times)

    def _hand_on(self, mailbox: "Mailbox[_Job]", job: _Job) -> None:
        replaced = mailbox.put(job)
        if replaced is not None:
            self._release(replaced)

    def _release(self, job: _Job) -> None:
        job.pair.release()
        self._free.append(job.work)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
