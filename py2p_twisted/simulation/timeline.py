"""
Virtual time: a heap of what is to happen, and a clock that jumps from one to the next.

An event is a function and one argument, so that no closure is made for the hundreds of
thousands of them. Events of one instant happen in the order in which they were scheduled; nothing
here depends on hashes or on the machine, so the same inputs give the same run.

Times are in seconds since the simulation began.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

#: When it happens, a number that keeps the order of equals, what happens, and to what.
Event = tuple[float, int, Callable[[Any], Any], Any]


class Timeline:
    """
    What will happen, in order.

    :ivar now: what time it is.
    :ivar heap: the events that are still to come; hot paths push to it themselves.
    :ivar serial: numbers for them.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.heap: list[Event] = []
        self.serial = count()

    def at(self, when: float, action: Callable[[Any], Any], argument: Any = None) -> None:
        """Have ``action(argument)`` called at a time."""
        heappush(self.heap, (when, next(self.serial), action, argument))

    def run_to(self, end: float) -> None:
        """Let everything happen until a time, that instant included."""
        heap = self.heap
        while heap and heap[0][0] <= end:
            when, _, action, argument = heappop(heap)
            self.now = when
            action(argument)
        self.now = max(self.now, end)
