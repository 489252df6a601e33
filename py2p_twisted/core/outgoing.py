"""
Stamping and encoding what the application sends: once per send, in the caller's thread.

A message's id is a hash over flag, sender, second and packets, so equal messages sent
within one second would be one message to everybody else, and silently lost. When an id
has been used, a counter is put behind the array until the id is fresh: ignored by every
implementation, relayed byte for byte, the stamp stays an integer. One frame per send also
means that a send that straddles a second is one message.

Bodies are encoded so that a plain frame around them has a multiple of eight bytes, which
plain 0.6 nodes need (see `compression`); the counter has eight bytes for the same reason.

Stamps are whole seconds since 1970, UTC. Source: docs/design.rst, "The wire".
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from typing import Any, Final

from py2p_twisted.core import codec, flags
from py2p_twisted.core.compression import FRAME_HEAD
from py2p_twisted.core.message import Message, with_appendix
from py2p_twisted.errors import MessageTooLarge

#: Counters of messages that are stamped after the clock was set back begin here.
_SET_BACK: Final = 1 << 63


class Composer:
    """
    Makes a node's own messages.

    :ivar correction: seconds added to the clock, set by the node when its peers agree
        that our clock is wrong.
    :ivar guard: what is entered where two threads must not meet.
    """

    def __init__(
        self,
        sender: bytes,
        max_message: int,
        guard: AbstractContextManager[object] | None = None,
    ) -> None:
        """
        :param max_message: bytes of the largest body.
        :param guard: a lock, when several threads compose.
        """
        self.correction = 0
        self._sender = sender
        self._max_message = max_message
        self.guard = guard if guard is not None else nullcontext()
        # (the latest second, its ids, and for ids used more than once: how often)
        self._latest: tuple[int, dict[bytes, bytes], dict[bytes, int]] = (0, {}, {})
        self._back_in_time = 0

    def compose(self, flag: int, payload: tuple[Any, ...], wall: float) -> Message:
        """
        Make a message that no node has seen before.

        May be called from any thread, given a ``guard``.

        :param payload: the sub-flag and the packets.
        :param wall: seconds since 1970 by our own clock.
        :raises NotSendable: a packet has no encoding.
        :raises MessageTooLarge: the body exceeds ``max_message``.
        """
        stamp = int(wall) + self.correction
        sender = self._sender
        body = codec.encode_aligned(flag, sender, stamp, payload, FRAME_HEAD)
        if len(body) > self._max_message:
            raise MessageTooLarge(len(body), self._max_message)
        message = Message(sha256(body).digest(), body, (flag, sender, stamp, *payload))
        if flag != flags.BROADCAST:
            # Only broadcasts are told apart by their ids.
            return message
        second, used, _ = self._latest
        # setdefault is atomic, so the usual case needs no lock.
        if stamp == second and used.setdefault(message.id, message.id) is message.id:
            return message
        with self.guard:
            message = self._make_fresh(message, stamp)
        if len(message.body) > self._max_message:
            raise MessageTooLarge(len(message.body), self._max_message)
        return message

    def _make_fresh(self, message: Message, stamp: int) -> Message:
        second, used, counts = self._latest
        if stamp > second:
            self._latest = (stamp, {message.id: message.id}, {})
            return message
        if stamp < second:
            # The clock was set back, into seconds whose ids are forgotten. A counter
            # that only grows, of a width of its own, makes every id new.
            self._back_in_time += 1
            return with_appendix(message, (_SET_BACK + self._back_in_time).to_bytes(8, "big"))
        if used.setdefault(message.id, message.id) is message.id:
            return message
        count = counts.get(message.id, 0)
        while True:
            fresh = with_appendix(message, count.to_bytes(8, "big"))
            count += 1
            if used.setdefault(fresh.id, fresh.id) is fresh.id:
                break
        counts[message.id] = count
        return fresh
