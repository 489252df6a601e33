"""
The recent messages: what this node can still give to others.

Every broadcast that is sent or relayed is kept for the *retention*, the least of an age, a
number and a sum of bytes, and can be asked for by its short id. What has gone from here
stays known by its id (`seen`), so it cannot come back as new.

::

    oldest                                                   newest
    |-- forgotten by age, or to make room --|---- held, by short id ----|

Kept are bytes, the body and who brought it: no relay asks more of a message, and what it says can be
read again. Sizes are in bytes, times in seconds.
Source: docs/protocol/mesh-ext.rst, "Retention".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice

from py2p_twisted.core import codec
from py2p_twisted.core.message import MAX_ID, Message, as_bytes
from py2p_twisted.core.seen import SHORT

#: Seconds that a bucket lasts, and shares of all messages that are forgotten at a time.
_BUCKET = 1.0
_SHARES = 64

#: What a message weighs besides its body: the objects that hold it, and its place in a dict.
#: (CPython 3.11, ``tracemalloc``: 125. Source: docs/delivery.rst, "Retention, to measure".)
WEIGHT = 192

#: Bytes of a body in which its main flag, sender and stamp are found: an id that is text takes up
#: to four for each character.
_HEAD = 4 * MAX_ID + 32


class RecentMessages:
    """
    A bounded store of messages.

    :ivar size: bytes that they take.
    :ivar version: changes with every message that comes or goes.
    """

    __slots__ = (
        "_bucket",
        "_forgotten",
        "_held",
        "_latest",
        "_marks",
        "_most",
        "_next_mark",
        "_number",
        "_room",
        "_window",
        "size",
        "version",
    )

    def __init__(self, window: float, most: int, room: int) -> None:
        """
        :param window: how long a message is kept.
        :param most: how many are.
        :param room: bytes that they may take together.
        """
        #: By short id the bringer, and the body. Just bytes: a dict of nothing else the garbage
        #: collector passes over. Of messages and tuples it took a quarter of a busy node's time
        #: (``python -m bench tree``).
        self._held: dict[bytes, bytes] = {}
        self.size = 0
        self.version = 0
        self._window = window
        self._most = most
        self._room = room
        self._bucket = min(_BUCKET, window / _SHARES)
        #: (when the last message of a bucket came, how many there had ever been by then).
        self._marks: deque[tuple[float, int]] = deque()
        self._next_mark = float("-inf")
        self._latest = float("-inf")
        self._number = 0
        #: The latest message that has been forgotten, and when it came.
        self._forgotten = (b"", 0.0)

    def __len__(self) -> int:
        return len(self._held)

    def hold(
        self,
        messages: Sequence[Message],
        via: bytes,
        now: float,
        shorts: Sequence[bytes] | None = None,
    ) -> Sequence[bytes]:
        """
        Keep messages that nobody has brought before.

        :param via: the id of the neighbour that brought them; empty for our own.
        :param shorts: their short ids, if these have been made before.
        :return: them.
        """
        if now >= self._next_mark:
            self.tidy(now)
        self._latest = now
        held, before = self._held, len(self._held)
        if shorts is None:
            shorts = [message.id[:SHORT] for message in messages]
        if not held.keys().isdisjoint(shorts):
            # An application may send the same as it is, and twice.
            fresh = [one for one in messages if one.id[:SHORT] not in held]
            self.hold(fresh, via, now)
            return shorts
        bringer = bytes((len(via) >> 8, len(via) & 255)) + via
        held.update(zip(shorts, [bringer + message.body for message in messages], strict=True))
        added = len(held) - before
        if added == len(shorts):
            self.size += sum([len(message.body) for message in messages])
        else:
            self.size += sum({message.id: len(message.body) for message in messages}.values())
        self.size += (WEIGHT + len(bringer)) * added
        self.version += 1
        if len(held) > self._most or self.size > self._room:
            self._make_room()
        return shorts

    def edge(self, now: float) -> tuple[bytes, float]:
        """
        How far back what is held does not reach.

        :return: the short id of the latest message that has been forgotten, and how many seconds
            ago it came, give or take a second; an empty id if none has been.
        """
        ident, came = self._forgotten
        return (ident, max(0.0, now - came)) if ident else (b"", 0.0)

    @property
    def held(self) -> dict[bytes, Message]:
        """All messages by short id, oldest first: a copy, for tests and the curious."""
        return {short: _message(record) for short, record in self._held.items()}

    def __contains__(self, short: bytes) -> bool:
        return short in self._held

    def via(self, short: bytes) -> bytes | None:
        """Who brought a message; empty if it is ours, ``None`` if it is not held."""
        record = self._held.get(short)
        return record[2 : _begin(record)] if record is not None else None

    def origin(self, short: bytes) -> bytes | None:
        """The sender that a message names, ``None`` if it is not held."""
        record = self._held.get(short)
        return as_bytes(_read(record)[1]) if record is not None else None

    def get(self, short: bytes) -> Message | None:
        """
        A message by its short id, if it is still held.

        Its items end with the stamp: what it says to applications no relay reads.
        """
        record = self._held.get(short)
        return _message(record) if record is not None else None

    def after(self, when: float, most: int) -> list[Message]:
        """
        The latest messages, oldest first.

        :param when: none that came before this, give or take a second.
        :param most: how many at most.
        """
        if self._latest < when:
            return []
        earlier = (number for ended, number in reversed(self._marks) if ended < when)
        first = max(self._number, next(earlier, 0))
        number = min(most, self._number + len(self._held) - first)
        latest = list(islice(reversed(self._held.values()), number))
        return [_message(record) for record in reversed(latest)]

    def tidy(self, now: float) -> None:
        """Forget what is too old; called now and then, since in silence nothing else does it."""
        marks = self._marks
        if now >= self._next_mark:
            count = self._number + len(self._held)
            if count > max(self._number, marks[-1][1] if marks else 0):
                marks.append((self._latest, count))
            self._next_mark = now + self._bucket
        while marks and now - marks[0][0] >= self._window:
            came, count = marks.popleft()
            self._forget(count - self._number, came)

    def _make_room(self) -> None:
        """A batch at a time costs less than one by one."""
        came = self._marks[0][0] if self._marks else self._latest
        surplus = len(self._held) - self._most
        if surplus > 0:
            self._forget(surplus + self._most // _SHARES, came)
        size, number = self.size, 0
        for record in self._held.values():
            if size <= self._room:
                break
            size -= len(record) + WEIGHT
            number += 1
        self._forget(number, came)

    def _forget(self, number: int, came: float) -> None:
        """
        Forget the oldest messages.

        :param came: when the last of them came, about.
        """
        if number <= 0:
            return
        held = self._held
        shorts = list(islice(held, number))
        gone = list(map(held.pop, shorts))
        self.size -= sum(map(len, gone)) + WEIGHT * len(gone)
        self._number += len(shorts)
        if shorts:
            self._forgotten = (shorts[-1], came)
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
        for short in self._held:
            sorted_in[short[0] & mask].append(short)
        # Not a sum or an exclusive or of hashes: an attacker could choose messages that
        # together amount to nothing.
        return [sha256(b"".join(sorted(shorts))).digest()[:SHORT] for shorts in sorted_in]

    def in_buckets(self, wanted: set[int], buckets: int) -> Iterator[bytes]:
        """The short ids in some of so many buckets."""
        mask = buckets - 1
        return (short for short in self._held if short[0] & mask in wanted)


def _begin(record: bytes) -> int:
    """Where the body begins."""
    return 2 + (record[0] << 8) + record[1]


def _read(record: bytes) -> tuple[int, bytes | str, float]:
    """Main flag, sender and stamp of a body that has been read before, whatever its size."""
    begin = _begin(record)
    return codec.decode_head(record[begin : begin + _HEAD])


def _message(record: bytes) -> Message:
    """A message as it was held."""
    begin = _begin(record)
    body = record[begin:]
    message = Message(sha256(body).digest(), body, _read(record))
    message.via = record[2:begin]
    return message
