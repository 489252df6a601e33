"""
The seen cache: which message ids have been here.

Ids are remembered for a window of *arrival*, by our own monotonic clock: what a sender
claims about time decides nothing here. Looking one up is a single probe of a dict, and
forgetting is done bucket by bucket, never by scanning.

Times are in seconds. Source: docs/design.rst, "Delivery".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

#: How long an id is remembered: as long as a copy of the message can be accepted, from
#: 20 minutes before its stamp (`clock.ACCEPTED`) to 20 minutes after.
WINDOW: Final = 40 * 60.0

#: How many ids are remembered at most: four times the 20,000 messages that are kept.
#: At about 230 bytes each this is some 18 MiB.
CAPACITY: Final = 80_000

#: Bytes by which mesh-ext knows a message. Source: docs/protocol/mesh-ext.rst, "Ids".
SHORT: Final = 16

_BUCKETS: Final = 64

#: Of so many ids at most one is that of a message of no use.
_REFUSED: Final = 16


class SeenCache:
    """
    A bounded set of ids.

    :ivar ids: the ids themselves, as the keys of a dict, for a lookup without a call on the hot
        path. Who adds to it tells `added` at the end of the same read. (A dict of plain bytes the
        garbage collector passes over; in a set it would look at each, again and again.)
    :ivar shorts: the same ids as mesh-ext knows them, by their first 16 bytes; complete at the
        end of a read. (A set: of whole announcements it knows fastest whether all is known.)
    :ivar capacity: how many ids it holds.
    """

    __slots__ = (
        "_bucket",
        "_count",
        "_dropped",
        "_marks",
        "_next_mark",
        "_order",
        "_refused",
        "_window",
        "capacity",
        "ids",
        "shorts",
    )

    def __init__(self, window: float = WINDOW, capacity: int = CAPACITY) -> None:
        self.ids: dict[bytes, None] = {}
        self.shorts: set[bytes] = set()
        self._window = window
        self.capacity = capacity
        self._bucket = window / _BUCKETS
        # the ids as they came together, oldest first, and how many they are
        self._order: deque[Sequence[bytes]] = deque()
        self._count = 0
        # those of messages of no use, in the same order
        self._refused: deque[bytes] = deque()
        # (when a bucket began, how many ids there had ever been by then), oldest first
        self._marks: deque[tuple[float, int]] = deque()
        self._next_mark = float("-inf")
        self._dropped = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def noted(self) -> int:
        """How many ids have ever been added."""
        return self._dropped + self._count

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
        if now >= self._next_mark or self._count >= self.capacity:
            self._tidy(now)
        ids[ident] = None
        self.shorts.add(ident[:SHORT])
        self._order.append((ident,))
        self._count += 1
        return True

    def refuse(self, ident: bytes) -> None:
        """
        Remember the id of a message that is of no use, so that its copies cost nothing.

        Of these there are few, and they displace each other alone: who sends thousands must not
        make us forget what we have delivered.
        """
        if ident in self.ids:
            return
        self.ids[ident] = None
        self.shorts.add(ident[:SHORT])
        self._refused.append(ident)
        if len(self._refused) > self.capacity // _REFUSED:
            oldest = self._refused.popleft()
            self.ids.pop(oldest, None)
            self.shorts.discard(oldest[:SHORT])

    def added(self, idents: Sequence[bytes], now: float) -> list[bytes]:
        """
        Take note of ids that a reader has put into `ids` itself, all of them new.

        :return: their short ones.
        """
        self._order.append(tuple(idents))
        self._count += len(idents)
        shorts = [ident[:SHORT] for ident in idents]
        self.shorts.update(shorts)
        if now >= self._next_mark or self._count >= self.capacity:
            self._tidy(now)
        return shorts

    def load(self, runs: Iterable[tuple[float, Sequence[bytes]]], now: float) -> None:
        """
        Remember what came before this node was started anew.

        :param runs: how many seconds ago ids came, and which; oldest first.
        """
        for age, idents in runs:
            fresh = tuple(one for one in dict.fromkeys(idents) if one not in self.ids)
            if not fresh:
                continue
            if now - age >= self._next_mark:
                self._marks.append((now - age, self._dropped + self._count))
                self._next_mark = now - age + self._bucket
            self.ids.update(dict.fromkeys(fresh))
            self.shorts.update([ident[:SHORT] for ident in fresh])
            self._order.append(fresh)
            self._count += len(fresh)
        if self._count > self.capacity:
            self._drop(self._count - self.capacity)

    def since(self, noted: int) -> list[bytes]:
        """
        The latest ids, in the order in which they came, as far as they are still remembered.

        :param noted: what `noted` was before them.
        """
        wanted = self.noted - noted
        runs: list[Sequence[bytes]] = []
        for together in reversed(self._order):
            if wanted <= 0:
                break
            runs.append(together[-wanted:])
            wanted -= len(together)
        return list(chain.from_iterable(reversed(runs)))

    def _tidy(self, now: float) -> None:
        """Once in a while: begin a bucket, forget those that are past the window, make room."""
        marks = self._marks
        if now >= self._next_mark:
            marks.append((now, self._dropped + self._count))
            self._next_mark = now + self._bucket
        # The ids of a bucket are younger than its own mark and older than the next one.
        while len(marks) > 1 and now - marks[1][0] >= self._window:
            marks.popleft()
            self._drop(marks[0][1] - self._dropped)
        if self._count >= self.capacity:
            # A batch at a time costs less than one by one.
            room = max(1, self.capacity // _BUCKETS)
            self._drop(self._count - self.capacity + room)

    def _drop(self, number: int) -> None:
        """Forget the oldest ids, so many of them."""
        order, ids, shorts = self._order, self.ids, self.shorts
        while number > 0:
            together = order.popleft()
            if len(together) > number:
                order.appendleft(together[number:])
                together = together[:number]
            for ident in together:
                ids.pop(ident, None)
            shorts.difference_update([ident[:SHORT] for ident in together])
            number -= len(together)
            self._count -= len(together)
            self._dropped += len(together)
