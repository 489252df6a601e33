"""
A heap of deadlines.

The core has no clock: it says when it wants to be woken next, and whoever drives it
calls `Timers.due` with the time. One timer in the driver serves them all.

Times are in seconds on the driver's monotonic clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Timer:
    """A deadline that can be called off."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], None] | None) -> None:
        self.when = when
        self.action = action

    @property
    def active(self) -> bool:
        """Whether it is still to come."""
        return self.action is not None

    def cancel(self) -> None:
        """Call it off; calling it off twice does no harm."""
        self.action = None


class Timers:
    """
    Deadlines in the order in which they come.

    :ivar now: the time that the driver last named.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Have ``action`` called once ``when`` has come."""
        timer = Timer(when, action)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, timer))
        return timer

    def next(self) -> float | None:
        """When the next deadline is, or ``None`` if there is none."""
        heap = self._heap
        while heap and not heap[0][2].active:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> None:
        """Carry out everything whose time has come, in order."""
        self.now = now
        while True:
            when = self.next()
            if when is None or when > now:
                return
            timer = heapq.heappop(self._heap)[2]
            action, timer.action = timer.action, None
            if action is not None:
                action()
