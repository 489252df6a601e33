"""
The seen cache: which message ids have been here.

Ids are remembered for a window of *arrival*, by our own monotonic clock: what a sender
claims about time decides nothing here. Looking one up is a single probe of a set, and
forgetting is done bucket by bucket, never by scanning.

Times are in seconds. Source: docs/design.rst, "Delivery"; faults B10.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: How long an id is remembered: twice the ten minutes that messages are kept.
WINDOW: Final = 20 * 60.0

#: How many ids are remembered at most: four times the 20,000 messages that are kept.
#: At about 130 bytes each this is some 10 MiB.
CAPACITY: Final = 80_000

_BUCKETS: Final = 64


class SeenCache:
    """
    A bounded set of ids.

    :ivar ids: the set itself, for a lookup without a call on the hot path. Read only.
    """

    __slots__ = ("_bucket", "_capacity", "_counts", "_order", "_window", "ids")

    def __init__(self, window: float = WINDOW, capacity: int = CAPACITY) -> None:
        self.ids: set[bytes] = set()
        self._window = window
        self._capacity = capacity
        self._bucket = window / _BUCKETS
        self._order: deque[bytes] = deque()
        # [first arrival, how many], oldest first
        self._counts: deque[list[float]] = deque()

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, ident: bytes) -> bool:
        return ident in self.ids

    def add(self, ident: bytes, now: float) -> bool:
        """
        Remember an id.

        :return: whether it is new.
        """
        ids = self.ids
        if ident in ids:
            return False
        ids.add(ident)
        self._order.append(ident)
        counts = self._counts
        if counts and now - counts[-1][0] < self._bucket:
            counts[-1][1] += 1
            if len(ids) > self._capacity:
                self._drop(1)
        else:
            counts.append([now, 1])
            self._expire(now)
        return True

    def _expire(self, now: float) -> None:
        """Called once per bucket: drop the buckets whose youngest id is past the window."""
        counts = self._counts
        while len(counts) > 1 and now - counts[1][0] >= self._window:
            self._drop(int(counts[0][1]))
        if len(self.ids) > self._capacity:
            self._drop(len(self.ids) - self._capacity)

    def _drop(self, number: int) -> None:
        counts, order, ids = self._counts, self._order, self.ids
        for _ in range(number):
            ids.discard(order.popleft())
        while number:
            oldest = counts[0]
            taken = min(number, int(oldest[1]))
            oldest[1] -= taken
            number -= taken
            if not oldest[1] and len(counts) > 1:
                counts.popleft()
