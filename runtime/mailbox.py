"""Hands items from one thread to another, preferring the newest."""

import threading
import time
from typing import Generic, Optional, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Holds one item. A newer one replaces it or, with ``every``, waits until it has been taken."""

    def __init__(self, every: bool = False) -> None:
        self.replaced = 0  # items that a newer one replaced
        self._every = every
        self._item: Optional[Item] = None
        self.closed = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> Optional[Item]:
        """Put an item; return the one that nobody will take: the older one, if any, or this one after ``close``."""
        with self._changed:
            if self._every:
                self._changed.wait_for(lambda: self._item is None or self.closed)
            if self.closed:
                return item
            replaced, self._item = self._item, item
            self.replaced += replaced is not None
            self._changed.notify_all()
            return replaced

    def take(self, timeout_s: Optional[float] = None) -> Optional[Item]:
        """Wait for an item; return None on timeout, or if there is none after ``close``."""
        limit_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._item is None and not self.closed:
                left_s = None if limit_s is None else limit_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                self._changed.wait(left_s)
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    @property
    def ended(self) -> bool:
        """Whether it is closed and its last item was taken."""
        with self._changed:
            return self.closed and self._item is None

    def close(self) -> None:
        """Accept no more items; one that is already there may still be taken."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
