"""
The recent messages: what this node can still give to others.

Every broadcast that is sent or relayed is kept for the *retention*, the least of an age, a
number and a sum of bytes, and can be asked for by its short id. What has gone from here
stays known by its id (`seen`), so it cannot come back as new.

::

    oldest                                                   newest
    |-- forgotten by age, or to make room --|---- held, by short id ----|

Kept are the messages themselves, with the bytes they came in: giving one to a peer is what
relaying it is. Sizes are in bytes as `message.weigh` counts them, times in seconds.
Source: docs/protocol/mesh-ext.rst, "Retention".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice

from py2p_twisted.core.message import Message, weigh
from py2p_twisted.core.seen import SHORT

#: Seconds that a bucket lasts, and shares of all messages that are forgotten at a time.
_BUCKET = 1.0
_SHARES = 64

#: Bytes of a frame around its body, at most.
_AROUND = 64


class RecentMessages:
    """
    A bounded store of messages.

    :ivar held: the messages by short id, oldest first. Read it, do not change it.
    :ivar size: bytes that they take.
    :ivar version: changes with every message that comes or goes.
    """

    __slots__ = (
        "_bucket",
        "_marks",
        "_most",
        "_next_mark",
        "_number",
        "_room",
        "_weights",
        "_window",
        "held",
        "size",
        "version",
    )

    def __init__(self, window: float, most: int, room: int) -> None:
        """
        :param window: how long a message is kept.
        :param most: how many are.
        :param room: bytes that they may take together.
        """
        self.held: dict[bytes, Message] = {}
        self.size = 0
        self.version = 0
        self._window = window
        self._most = most
        self._room = room
        self._bucket = min(_BUCKET, window / _SHARES)
        #: Weights in the order of ``held``.
        self._weights: deque[int] = deque()
        #: (when a bucket began, how many messages there had ever been by then).
        self._marks: deque[tuple[float, int]] = deque()
        self._next_mark = float("-inf")
        self._number = 0

    def __len__(self) -> int:
        return len(self.held)

    def hold(self, messages: Sequence[Message], via: bytes, now: float) -> None:
        """
        Keep messages that nobody has brought before.

        :param via: the id of the neighbour that brought them; empty for our own.
        """
        held, weights = self.held, self._weights
        for message in messages:
            message.via = via
            body = message.body
            if isinstance(body, memoryview) and memoryview(body.obj).nbytes > len(body) + _AROUND:
                # It must not keep everything else alive that came with it.
                message.body = bytes(body)
            held[message.id[:SHORT]] = message
            weights.append(weight := weigh((message,)))
            self.size += weight
        self.version += 1
        if now >= self._next_mark:
            self._tidy(now)
        if len(held) > self._most or self.size > self._room:
            self._make_room()

    def get(self, short: bytes) -> Message | None:
        """A message by its short id, if it is still held."""
        return self.held.get(short)

    def after(self, when: float, most: int) -> list[Message]:
        """
        The latest messages, oldest first.

        :param when: none that came before this, give or take a second.
        :param most: how many at most.
        """
        count = self._number + len(self.held)
        first = next((number for began, number in self._marks if began >= when), count)
        # The mark before stands for a bucket that may reach beyond.
        earlier = [number for began, number in self._marks if began < when]
        if earlier:
            first = min(first, earlier[-1])
        number = min(most, count - first)
        latest = list(islice(reversed(self.held.values()), number))
        latest.reverse()
        return latest

    def tidy(self, now: float) -> None:
        """Forget what is too old; called now and then, since in silence nothing else does it."""
        if self._marks:
            self._tidy(now)

    def _tidy(self, now: float) -> None:
        marks = self._marks
        count = self._number + len(self.held)
        if now >= self._next_mark:
            marks.append((now, count))
            self._next_mark = now + self._bucket
        # What came in a bucket is younger than its own mark and older than the next one.
        while len(marks) > 1 and now - marks[1][0] >= self._window:
            marks.popleft()
            self._forget(marks[0][1] - self._number)

    def _make_room(self) -> None:
        """A batch at a time costs less than one by one."""
        surplus = len(self.held) - self._most
        if surplus > 0:
            self._forget(surplus + self._most // _SHARES)
        size, number = self.size, 0
        for weight in self._weights:
            if size <= self._room:
                break
            size -= weight
            number += 1
        self._forget(number)

    def _forget(self, number: int) -> None:
        if number <= 0:
            return
        held, popleft = self.held, self._weights.popleft
        for short in list(islice(held, number)):
            del held[short]
            self.size -= popleft()
            self._number += 1
        self.version += 1

    # --- what a digest is made of -----------------------------------------------------

    def sums(self, buckets: int) -> list[bytes]:
        """
        What is held, in a few bytes.

        :param buckets: how many; a power of two, 256 at most.
        :return: for every bucket 16 bytes that are equal for equal sets of messages.
        """
        sorted_in: list[list[bytes]] = [[] for _ in range(buckets)]
        mask = buckets - 1
        for short in self.held:
            sorted_in[short[0] & mask].append(short)
        # Not a sum or an exclusive or of hashes: an attacker could choose messages that
        # together amount to nothing.
        return [sha256(b"".join(sorted(shorts))).digest()[:SHORT] for shorts in sorted_in]

    def in_buckets(self, wanted: set[int], buckets: int) -> Iterator[bytes]:
        """The short ids in some of so many buckets."""
        mask = buckets - 1
        return (short for short in self.held if short[0] & mask in wanted)
