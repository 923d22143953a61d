"""Which infrared frame belongs to which visible one: by their stamps, nearest first, each used once."""

import math
from collections import deque
from typing import Deque, Dict, NamedTuple, Optional, Tuple

from irvis.runtime.cameras.frame import Frame
from irvis.runtime.cameras.reader import INFRARED, ROLES, VISIBLE
from irvis.runtime.errors import FrameError

QUEUE = 12  # frames that wait for a partner at most, a side; 0.4 s of a camera of 30 Hz
SOONEST = 0.7  # of a camera's usual interval, before which its next frame does not come
SHORTER, LONGER = 0.5, 0.02  # weight of a new interval in the usual one


class FramePair(NamedTuple):
    """Two frames of about one moment."""

    infrared: Frame
    visible: Frame

    @property
    def skew_ms(self) -> float:
        """By how much the infrared was captured after the visible, milliseconds."""
        return (self.infrared.stamp_s - self.visible.stamp_s) * 1e3

    def release(self) -> None:
        """Give back the memory of both."""
        self.infrared.release()
        self.visible.release()


class Matcher:
    """Pairs frames that arrive in the order of their stamps, each side by itself.

    Two frames are a pair where neither has a nearer partner among those that are left, and they are at most ``slop_s``
    apart. Whether a nearer one is still to come is not waited for longer than it could come: by the usual interval of
    that camera, or by the clock.

    Args:
        slop_s: the most that a pair's stamps may differ, seconds.
    """

    def __init__(self, slop_s: float) -> None:
        if not (math.isfinite(slop_s) and slop_s > 0):
            raise FrameError(f"slop must be a time above 0. Got {slop_s} s")
        self.slop_s = slop_s
        self.paired = 0
        self.dropped: Dict[str, int] = dict.fromkeys(ROLES, 0)  # without a partner within the slop
        self.late: Dict[str, int] = dict.fromkeys(ROLES, 0)  # came after their partner was given up, or out of order
        self._queues: Dict[str, Deque[Frame]] = {role: deque() for role in ROLES}
        self._intervals_s: Dict[str, float] = dict.fromkeys(ROLES, 0.0)
        self._newest_s: Dict[str, float] = dict.fromkeys(ROLES, -math.inf)
        self._given_up_s: Dict[str, float] = dict.fromkeys(ROLES, -math.inf)
        self._ended = dict.fromkeys(ROLES, False)

    def is_full(self, role: str) -> bool:
        """Tell whether another frame of that side would cost the oldest."""
        return len(self._queues[role]) >= QUEUE

    def add(self, role: str, frame: Frame) -> None:
        """Take the next frame of a side; it is released where it finds no partner."""
        if frame.stamp_s <= self._newest_s[role]:
            self.late[role] += 1
            frame.release()
            return
        interval_s, known_s = frame.stamp_s - self._newest_s[role], self._intervals_s[role]
        if math.isfinite(interval_s):
            # Down fast, up slowly: of the shorter intervals, for lost frames make long ones.
            share = SHORTER if interval_s < known_s else LONGER
            self._intervals_s[role] = known_s + share * (interval_s - known_s) if known_s else interval_s
        self._newest_s[role] = frame.stamp_s
        if self.is_full(role):
            self._given_up_s[role] = self._queues[role][0].stamp_s
            self._drop(role)
        self._queues[role].append(frame)

    def end(self, role: str) -> None:
        """Say that no more frames come on a side."""
        self._ended[role] = True

    def match(self, now_s: float = -math.inf) -> Optional[FramePair]:
        """Give the next pair, oldest first, or None where more frames must come; ``now_s`` is time.monotonic()."""
        while all(self._queues.values()):
            role, other = self._earlier()
            queue, partner = self._queues[role], self._queues[other][0]
            gap_s = partner.stamp_s - queue[0].stamp_s
            if gap_s > self.slop_s or (len(queue) > 1 and abs(queue[1].stamp_s - partner.stamp_s) < gap_s):
                self._drop(role)
            elif len(queue) == 1 and self._may_come_nearer(role, queue[0], gap_s, now_s):
                return None
            else:
                self.paired += 1
                return FramePair(self._queues[INFRARED].popleft(), self._queues[VISIBLE].popleft())
        for role, other in (ROLES, ROLES[::-1]):
            while self._ended[role] and not self._queues[role] and self._queues[other]:
                self._drop(other)
        return None

    @property
    def finished(self) -> bool:
        """Whether a side has ended and its last frame is gone, so that there are no more pairs."""
        return any(self._ended[role] and not self._queues[role] for role in ROLES)

    def clear(self) -> None:
        """Release all frames that wait."""
        for queue in self._queues.values():
            while queue:
                queue.popleft().release()

    def _earlier(self) -> Tuple[str, str]:
        """Give the side whose next frame is the older, and the other."""
        infrared, visible = (self._queues[role][0].stamp_s for role in ROLES)
        return (INFRARED, VISIBLE) if infrared <= visible else (VISIBLE, INFRARED)

    def _may_come_nearer(self, role: str, frame: Frame, gap_s: float, now_s: float) -> bool:
        """Tell whether the frame after this one, which is not there yet, may be nearer to its partner.

        It would be captured less than two gaps after this one; it arrives as much later as this one did.
        """
        limit_s = frame.stamp_s + 2 * gap_s
        under_way_s = frame.grabbed_s - frame.stamp_s
        soonest_s = SOONEST * self._intervals_s[role]
        return not self._ended[role] and soonest_s < 2 * gap_s and now_s < limit_s + under_way_s

    def _drop(self, role: str) -> None:
        """Give up the oldest frame of a side."""
        frame = self._queues[role].popleft()
        other = VISIBLE if role == INFRARED else INFRARED
        missed = abs(frame.stamp_s - self._given_up_s[other]) <= self.slop_s
        counts = self.late if missed else self.dropped
        counts[role] += 1
        frame.release()
