"""Two sources in, synchronised pairs out."""

import logging
import math
import threading
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

import numpy as np

from irvis.runtime.cameras.bag import BagReader, align
from irvis.runtime.cameras.frame import Frame, each
from irvis.runtime.cameras.matcher import FramePair, Matcher
from irvis.runtime.cameras.reader import ROLES, Reader
from irvis.runtime.cameras.recording import FPS, FolderReader
from irvis.runtime.cameras.source import CHECK_S, Playhead, Source
from irvis.runtime.cameras.uri import SourceUri, parse_uri, positive_number
from irvis.runtime.errors import FrameError
from irvis.runtime.pairs import match_folders

SLOP_S = 0.02  # more than half the interval of a 30 Hz camera
WAITING = 2  # the most pairs that wait to be read while none may be dropped
DRIFT_S = 0.001  # by which the rounds of two loops may differ in length
NO_PAIR_S = 1.0  # after frames of both sides for so long without a pair, that is reported

logger = logging.getLogger("irvis.camera")


class PairedSources:
    """Pairs the frames of an infrared and a visible source by their stamps, and keeps the newest pair.

        with PairedSources("v4l2:///dev/video1?format=Y16", "csi://0") as pairs:
            for infrared, visible in pairs:
                fused = fuser(infrared.image, visible.image)  # valid until the next pair

    A source that stalls is logged within a second; the other goes on, its frames dropped and counted. So is, once, that
    both stream without a pair.

    Args:
        infrared: URI of the infrared source, see ``cameras.uri``.
        visible: URI of the visible source. If both are folders with the same frame rate, images are matched by name;
            if both are bags, by the clock of the recordings.
        slop_s: the largest difference between the stamps of a pair, in seconds.
        realtime: play recordings at their own pace and keep the newest pair. Otherwise every pair is returned, and the
            recordings wait until it is read.
        delays_s: latency of the infrared and of the visible frames before they arrive, subtracted from their stamps.

    Raises FileError if a source cannot be opened, FrameError for delays that are not two numbers.
    """

    def __init__(
        self,
        infrared: str,
        visible: str,
        *,
        slop_s: float = SLOP_S,
        realtime: bool = True,
        delays_s: Tuple[float, float] = (0.0, 0.0),
    ) -> None:
        if np.shape(delays_s) != (2,):
            raise FrameError(f"delays_s must be two times, the infrared's and the visible's. Got {delays_s!r}")
        self.skipped = 0  # pairs that a newer one replaced before they were read
        self._realtime = realtime
        self._matcher = Matcher(slop_s)
        self._changed = threading.Condition()
        self._ready: Deque[FramePair] = deque()
        self._closed = self._warned = False
        self.sources: Dict[str, Source] = {}
        try:
            playhead, uris = Playhead(), [parse_uri(uri) for uri in (infrared, visible)]
            for role, uri, opens, delay_s in zip(ROLES, uris, _openers(uris), delays_s):
                self.sources[role] = Source(
                    uri,
                    role,
                    realtime=realtime,
                    delay_s=delay_s,
                    open_again=opens,
                    sink=partial(self._take, role),
                    changed=self._changed,
                    playhead=playhead,
                )
            self._warn_of_drift()
            epoch_s = time.monotonic()
            for source in self.sources.values():
                source.start(epoch_s)
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: Optional[float] = None) -> Optional[FramePair]:
        """Wait for a new pair, which the caller must release; None at the end or after the timeout.

        If a source ended with an error, raises that error.
        """
        limit_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._closed:
                    return None
                self._advance()
                if self._ready:
                    pair = self._ready.popleft()
                    self._changed.notify_all()
                    return pair
                self._raise_failure()
                left_s = limit_s - time.monotonic()
                if self.ended or left_s <= 0:
                    return None
                self._changed.wait(min(CHECK_S, left_s))
                for source in self.sources.values():
                    source.check()

    def _raise_failure(self) -> None:
        """Raise the error that ended a source, if any; that of a truncated recording only after its last pair."""
        for source in self.sources.values():
            if source.failure is not None:
                raise source.failure
        for source in self.sources.values():
            if self.ended and source.cut_off is not None:
                raise source.cut_off

    @property
    def ended(self) -> bool:
        """Whether no more pairs will come."""
        with self._changed:  # a pair on its way from the matcher would be missed
            return self._closed or (self._matcher.finished and not self._ready)

    def status(self) -> Dict[str, Any]:
        """Return the counts and the status of each source, as plain numbers and strings."""
        matcher = self._matcher
        with self._changed:
            status: Dict[str, Any] = {
                "paired": matcher.paired,
                "skipped": self.skipped,
                "late": sum(matcher.late.values()),
            }
            for role, source in self.sources.items():
                source.check()
                status[f"dropped_{role}"] = dropped = matcher.dropped[role] + source.status.dropped
                status[role] = {**vars(source.status), "dropped": dropped, "late": matcher.late[role]}
        return status

    def close(self) -> None:
        """Close both sources. May be called twice."""
        with self._changed:
            self._closed = True
            while self._ready:
                self._ready.popleft().release()
            self._changed.notify_all()
        for source in self.sources.values():
            source.stop()  # both before either is awaited: two that hang cost the time of one
        for source in self.sources.values():
            source.close()
        self._matcher.clear()

    def __iter__(self) -> Iterator[FramePair]:
        return each(self.read)

    def __enter__(self) -> "PairedSources":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, role: str, frame: Frame) -> None:
        """Take a frame from a source's thread."""
        with self._changed:
            if not self._realtime:
                self._changed.wait_for(lambda: not self._matcher.is_full(role) or self._closed)
            self._matcher.add(role, frame)
            self._advance()

    def _advance(self) -> None:
        """Match the queued frames, and move the pairs found to where ``read`` takes them."""
        for role, source in self.sources.items():
            if source.ended:
                self._matcher.end(role)
        now_s = time.monotonic() if self._realtime else -math.inf
        while self._realtime or len(self._ready) < WAITING:
            pair = self._matcher.match(now_s)
            if pair is None:
                break
            if self._realtime and self._ready:
                self._ready.popleft().release()
                self.skipped += 1
            self._ready.append(pair)
        self._warn_without_pair()
        self._changed.notify_all()

    def _warn_of_drift(self) -> None:
        """Warn of two loops of unlike length: their stamps go on side by side, so that no count or skew shows it."""
        infrared, visible = self.sources.values()
        if infrared.loop_s and visible.loop_s and abs(infrared.loop_s - visible.loop_s) > DRIFT_S:
            logger.warning(
                "%s lasts %.2f s and %s %.2f s: from their second round on, frames of different moments are paired; "
                "cut both to one length",
                infrared.name,
                infrared.loop_s,
                visible.name,
                visible.loop_s,
            )

    def _warn_without_pair(self) -> None:
        matcher = self._matcher
        if self._warned or matcher.without_pair_s < NO_PAIR_S:
            return
        self._warned = True
        logger.warning(
            "no pair for %.1f s although both cameras send: their frames are at least %.1f ms apart and the slop is %g "
            "ms; raise the slop (--slop-ms) or set the delays (--infrared-delay-ms, --visible-delay-ms)",
            matcher.without_pair_s,
            matcher.nearest_s * 1e3,
            matcher.slop_s * 1e3,
        )


def _openers(uris: List[SourceUri]) -> Tuple[Optional[Callable[[], Reader]], ...]:
    """Return what opens each source: None, the default, unless they are two folders or bags, which go together."""
    if all(uri.scheme == "bag" for uri in uris):
        bags = [BagReader(uri, role) for uri, role in zip(uris, ROLES)]
        align(bags)
        return tuple(partial(_itself, bag) for bag in bags)
    if any(uri.scheme != "folder" for uri in uris):
        return (None, None)
    if len({uri.option("fps", positive_number, FPS) for uri in uris}) > 1:
        return (None, None)
    pairs = match_folders(*(uri.location for uri in uris))
    infrared, visible = ([Path(pair[half]) for pair in pairs] for half in (1, 2))
    return tuple(partial(FolderReader, uri, role, files) for uri, role, files in zip(uris, ROLES, (infrared, visible)))


def _itself(reader: Reader) -> Reader:
    return reader
