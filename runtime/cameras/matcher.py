"""Match infrared frames to visible ones by their stamps: to the nearest, each frame used once."""

import math
from collections import deque
from typing import Deque, Dict, NamedTuple, Optional, Tuple

from irvis.runtime.cameras.frame import Frame
from irvis.runtime.cameras.reader import INFRARED, ROLES, VISIBLE
from irvis.runtime.errors import FrameError

QUEUE = 12  # the most frames per side that wait for a partner; 0.4 s of a 30 Hz camera
SOONEST = 0.7  # fraction of a camera's usual interval, before which its next frame does not come
CLEARLY = 0.2  # fraction of the usual interval by which a later frame must be nearer to replace an older one
SPARE = 1.5  # times the other camera's rate, from which a camera has frames to spare
SHORTER, LONGER = 0.5, 0.02  # weight of a new interval in the usual one, if it is shorter or longer


class FramePair(NamedTuple):
    """An infrared and a visible frame captured at about the same time."""

    infrared: Frame
    visible: Frame

    @property
    def skew_ms(self) -> float:
        """How long after the visible frame the infrared one was captured, in milliseconds."""
        return (self.infrared.stamp_s - self.visible.stamp_s) * 1e3

    def release(self) -> None:
        """Release both frames."""
        self.infrared.release()
        self.visible.release()


class Matcher:
    """Pairs the frames of two sides, each of which arrives in the order of its stamps.

    Two frames are a pair if they are at most ``slop_s`` apart and neither has a clearly nearer partner among the frames
    left. For a camera with frames to spare, any nearer frame is clearly nearer. Otherwise giving up a frame costs a
    pair, so the other must be nearer by CLEARLY: two cameras of 30 Hz with 1 ms of jitter, half an interval apart,
    would give 23 pairs a second with a skew of 15.4 ms; so they give 30 with 16.6 ms. The matcher waits for a nearer
    frame only as long as one could still come, judged by the usual interval of that camera or by the clock.

    Args:
        slop_s: the largest difference between a pair's stamps, in seconds.
    """

    def __init__(self, slop_s: float) -> None:
        if not (math.isfinite(slop_s) and slop_s > 0):
            raise FrameError(f"slop must be a time above 0. Got {slop_s} s")
        self.slop_s = slop_s
        self.paired = 0
        self.dropped: Dict[str, int] = dict.fromkeys(ROLES, 0)  # without a partner within the slop
        self.late: Dict[str, int] = dict.fromkeys(ROLES, 0)  # arrived after their partner was evicted, or out of order
        self.nearest_s = math.inf  # the smallest difference between an infrared and a visible stamp since the last pair
        self._queues: Dict[str, Deque[Frame]] = {role: deque() for role in ROLES}
        self._intervals_s: Dict[str, float] = dict.fromkeys(ROLES, 0.0)
        self._newest_s: Dict[str, float] = dict.fromkeys(ROLES, -math.inf)
        self._given_up_s: Dict[str, float] = dict.fromkeys(ROLES, -math.inf)
        self._ended = dict.fromkeys(ROLES, False)
        # The first and last stamps of each side since the last pair.
        self._alone_s: Dict[str, Tuple[float, float]] = {}

    def is_full(self, role: str) -> bool:
        """Return whether another frame on that side would evict the oldest."""
        return len(self._queues[role]) >= QUEUE

    def add(self, role: str, frame: Frame) -> None:
        """Queue the next frame of a side; it is released if it finds no partner."""
        if frame.stamp_s <= self._newest_s[role]:
            self.late[role] += 1
            frame.release()
            return
        interval_s, known_s = frame.stamp_s - self._newest_s[role], self._intervals_s[role]
        if math.isfinite(interval_s):
            # Down fast, up slowly: this follows the shorter intervals, since lost frames cause long ones.
            share = SHORTER if interval_s < known_s else LONGER
            self._intervals_s[role] = known_s + share * (interval_s - known_s) if known_s else interval_s
        self._newest_s[role] = frame.stamp_s
        if self.is_full(role):
            self._given_up_s[role] = self._queues[role][0].stamp_s
            self._drop(role)
        self._queues[role].append(frame)

    def end(self, role: str) -> None:
        """Mark a side as ended: it gets no more frames."""
        self._ended[role] = True

    def match(self, now_s: float = -math.inf) -> Optional[FramePair]:
        """Return the next pair, oldest first, or None if more frames are needed; ``now_s`` is time.monotonic()."""
        while all(self._queues.values()):
            role, other = self._earlier()
            queue, partner = self._queues[role], self._queues[other][0]
            gap_s = partner.stamp_s - queue[0].stamp_s
            # A later frame of this side is clearly nearer to the partner if less than this apart from it.
            clearly_nearer_s = gap_s - self._margin_s(role, other)
            self.nearest_s = min(self.nearest_s, gap_s)
            if gap_s > self.slop_s or (len(queue) > 1 and abs(queue[1].stamp_s - partner.stamp_s) < clearly_nearer_s):
                self._drop(role)
            elif len(queue) == 1 and self._may_come_before(partner.stamp_s + clearly_nearer_s, role, now_s):
                return None
            else:
                self.paired += 1
                self.nearest_s = math.inf
                self._alone_s.clear()
                return FramePair(self._queues[INFRARED].popleft(), self._queues[VISIBLE].popleft())
        for role, other in (ROLES, ROLES[::-1]):
            while self._ended[role] and not self._queues[role] and self._queues[other]:
                self._drop(other)
        return None

    @property
    def finished(self) -> bool:
        """Whether a side has ended and its last frame is used or dropped, so that there are no more pairs."""
        return any(self._ended[role] and not self._queues[role] for role in ROLES)

    @property
    def without_pair_s(self) -> float:
        """For how long frames have come from both sides without a pair, by the stamps, in seconds."""
        spans_s = [last_s - first_s for first_s, last_s in self._alone_s.values()]
        return min(spans_s) if len(spans_s) == len(ROLES) else 0.0

    def clear(self) -> None:
        """Release all queued frames."""
        for queue in self._queues.values():
            while queue:
                queue.popleft().release()

    def _earlier(self) -> Tuple[str, str]:
        """Return the side whose next frame is older, then the other side."""
        infrared, visible = (self._queues[role][0].stamp_s for role in ROLES)
        return (INFRARED, VISIBLE) if infrared <= visible else (VISIBLE, INFRARED)

    def _margin_s(self, role: str, other: str) -> float:
        """Return by how much a later frame of this side must be nearer to a partner to replace an older one."""
        interval_s, others_s = self._intervals_s[role], self._intervals_s[other]
        return CLEARLY * interval_s if 0 < others_s < SPARE * interval_s else 0.0

    def _may_come_before(self, limit_s: float, role: str, now_s: float) -> bool:
        """Return whether the next frame of this side, not here yet, may have a stamp below ``limit_s``.

        It is taken to arrive as long after its stamp as the frame before it, the only one in the queue.
        """
        (frame,) = self._queues[role]
        soonest_s = frame.stamp_s + SOONEST * self._intervals_s[role]
        delay_s = frame.grabbed_s - frame.stamp_s
        return not self._ended[role] and soonest_s < limit_s and now_s < limit_s + delay_s

    def _drop(self, role: str) -> None:
        """Release the oldest frame of a side and count it as late or dropped."""
        frame = self._queues[role].popleft()
        self._alone_s[role] = (self._alone_s.get(role, (frame.stamp_s,))[0], frame.stamp_s)
        other = VISIBLE if role == INFRARED else INFRARED
        missed = abs(frame.stamp_s - self._given_up_s[other]) <= self.slop_s
        counts = self.late if missed else self.dropped
        counts[role] += 1
        frame.release()
