"""
What the application sends: stamped and encoded once, and a message of its own each time.

`Composer` works in the caller's thread. One message per send also means that a send that
straddles a second is one message. Bodies are encoded so that a plain frame around them has
a multiple of eight bytes, which plain 0.6 nodes need (see `compression`).

`OwnBroadcasts` works where the node does. A message's id is a hash over flag, sender,
second and packets, so equal messages sent within one second would be one message to
everybody else, and silently lost. When an id has been used, a counter is put behind the
array until the id is fresh: ignored by every implementation, relayed byte for byte, the
stamp stays an integer. The counter has eight bytes, to stay on the grid of eight.

Stamps are whole seconds since 1970, UTC. Source: docs/design.rst, "The wire".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import chain, count
from typing import Any, Final

from py2p_twisted.core import flags
from py2p_twisted.core.codec import SCALARS, encode_aligned, pack_one, prefixes_for_one
from py2p_twisted.core.compression import FRAME_HEAD
from py2p_twisted.core.marker import MARKER, NONCE, asked_seconds, mark
from py2p_twisted.core.message import Message, with_appendix
from py2p_twisted.core.seen import SeenCache
from py2p_twisted.errors import MessageTooLarge

_BROADCAST: Final = flags.BROADCAST

#: Bytes of the counter behind equal messages.
COUNTER: Final = 8

#: Seconds by which the wall clock must leave the monotonic one to count as set.
STEP: Final = 5.0

#: Counters of messages that are stamped after the clock was set back begin here.
_SET_BACK: Final = 1 << 63


class Composer:
    """
    Makes a node's own messages.

    :ivar correction: seconds added to the clock, set by the node when its peers agree
        that our clock is wrong.
    :ivar now: tells the monotonic time, from any thread. With it, what is sent between two
        looks of the node at a clock that has been set meanwhile is stamped as before.
    :ivar ahead: how far the clock was ahead of it when the node looked last, if it has.
    :ivar random: gives numbers from 0 to 1, in any thread, that nonces are made of.
    """

    def __init__(self, sender: bytes, max_message: int) -> None:
        """
        :param max_message: bytes of the largest body, with a counter behind it.
        """
        self.correction = 0
        self.now: Callable[[], float] | None = None
        self.ahead: float | None = None
        self.random: Callable[[], float] = lambda: 0.0
        self._sender = sender
        self._serial = count(1)
        # The latest second, and what its usual messages begin with.
        self._latest: tuple[int, tuple[bytes, ...]] = (-1, ())
        self._limit = max_message

    def compose(self, flag: int, sub: Any, packets: Sequence[Any], wall: float) -> Message:
        """
        Make a message.

        May be called from any thread.

        :param flag: the main flag.
        :param sub: the sub-flag.
        :param wall: seconds since 1970 by our own clock.
        :raises NotSendable: a packet has no encoding.
        :raises MessageTooLarge: the body exceeds the limit.
        """
        if self.now is not None and self.ahead is not None:
            stepped = wall - self.now() - self.ahead
            if abs(stepped) > STEP:
                wall -= stepped
        stamp = int(wall) + self.correction
        sender = self._sender
        body = b""
        if flag is _BROADCAST and sub is _BROADCAST and len(packets) == 1:
            # The usual message. (A quarter less work than the way for all.)
            packet = packets[0]
            latest, prefixes = self._latest
            if stamp != latest:
                prefixes = prefixes_for_one(sender, stamp, FRAME_HEAD)
                self._latest = (stamp, prefixes)
            if prefixes and type(packet) in SCALARS:
                packed = pack_one(packet)
                body = prefixes[len(packed) & 7] + packed
        if not body:
            body = encode_aligned(flag, sender, stamp, (sub, *packets), FRAME_HEAD)
        if len(body) + COUNTER > self._limit:
            raise MessageTooLarge(len(body) + COUNTER, self._limit)
        return Message(sha256(body).digest(), body, (flag, sender, stamp, sub, *packets))

    def mark(self, message: Message, seconds: int) -> Message:
        """
        The same broadcast, with a request for receipts. May be called from any thread.

        :param seconds: how long we wait for them.
        :raises MessageTooLarge: the body exceeds the limit.
        """
        size = len(message.body) + MARKER
        if size > self._limit:
            raise MessageTooLarge(size, self._limit)
        seed = b"%b %d %d" % (message.id, next(self._serial), int(self.random() * 2**53))
        return mark(message, seconds, sha256(seed).digest()[:NONCE])


class OwnBroadcasts:
    """
    Tells broadcasts of our own apart by their ids, which it notes in the seen cache.

    The cache knows every id of the latest second, unless more came in that second than it
    holds. So when half of that have come, our own ids of the second are looked up here, too.
    """

    def __init__(self, seen: SeenCache) -> None:
        self._seen = seen
        #: The latest second that was stamped, and how many ids had been noted before it.
        self._second = 0
        self._noted = 0
        #: Our own ids of this second: as they came, and as a set when that is needed.
        self._batches: list[list[bytes]] = []
        self._kept: set[bytes] | None = None
        #: For ids that were wanted again in this second: the next counter to try.
        self._counters: dict[bytes, int] = {}
        self._set_back = _SET_BACK

    def note(self, messages: Sequence[Message], now: float) -> Sequence[Message]:
        """
        Make broadcasts of our own distinct from all before, and from each other.

        :param messages: in the order of sending.
        :return: the same, except that some have a counter behind them.
        """
        seen = self._seen
        ids = seen.ids
        second = messages[0].items[2]
        if second > self._second:
            self._second = second
            self._noted = seen.noted
            self._batches.clear()
            self._kept = None
            self._counters.clear()
        fresh = [message.id for message in messages]
        if self._kept is None and seen.noted - self._noted > seen.capacity // 2:
            self._kept = set(chain.from_iterable(self._batches))
        kept = self._kept
        known = (
            second < self._second
            or not ids.keys().isdisjoint(fresh)
            or (kept is not None and not kept.isdisjoint(fresh))
        )
        if not known:
            before = len(ids)
            ids.update(dict.fromkeys(fresh))
            if len(ids) - before < len(fresh):
                # Equal ones among them.
                for ident in set(fresh):
                    del ids[ident]
                known = True
        if known:
            messages = self._tell_apart(messages)
            fresh = [message.id for message in messages]
            ids.update(dict.fromkeys(fresh))
        seen.added(fresh, now)
        if second < self._second:
            return messages  # their counters are new for ever: nothing to keep
        if kept is None:
            self._batches.append(fresh)
        else:
            kept.update(fresh)
        return messages

    def _tell_apart(self, messages: Sequence[Message]) -> Sequence[Message]:
        used, kept, counters = self._seen.ids, self._kept or (), self._counters
        apart: dict[bytes, Message] = {}
        for message in messages:
            fresh = message
            if message.items[2] < self._second and not asked_seconds(message.body):
                # The clock was set back, into seconds whose ids may be forgotten. A counter
                # that only grows, of a range of its own, makes every id new.
                fresh = with_appendix(message, self._set_back.to_bytes(COUNTER, "big"))
                self._set_back += 1
            while fresh.id in apart or fresh.id in used or fresh.id in kept:
                count = counters.get(message.id, 0)
                counters[message.id] = count + 1
                fresh = with_appendix(message, count.to_bytes(COUNTER, "big"))
            apart[fresh.id] = fresh
        return tuple(apart.values())
