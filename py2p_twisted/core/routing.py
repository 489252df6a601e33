"""
Replies that travel back the way their message came.

A reply to somebody several hops away needs no new connection where every node on the way
speaks mesh-ext: each of them knows which neighbour brought the message that is answered, and
passes the reply on to that one, up to the message's origin::

    origin <---- b <---- c <---- us        ROUTED(token, whom, message, hops left, reply)
           ----> b ----> c ---->           ROUTED_ANSWER(token, arrived or not)

Each hop reads a reply before it passes it on, so that nobody is blamed for what others made,
and remembers for a while whom to tell how it went. Where the way ends (a plain node, a
link that is gone, a message that is not held any more) the answer is no, and whoever replied
falls back on the way of 0.6 (`replies`). A reply that arrives in both ways is known by its
id, and arrives once.

Times are in seconds, sizes in bytes. Source: docs/protocol/mesh-ext.rst, "Replies".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.extension import Kind
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import MAX_ID, Message, with_appendix
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.seen import SHORT
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timer, Timers

#: Hops of a reply at most: several times what a mesh of a million nodes needs.
MOST_HOPS: Final = 32

#: Replies larger than this go by a connection of their own.
LARGEST: Final = 64 * 1024

#: Bytes of a token, which also makes the id of each reply unique.
TOKEN: Final = 8

#: How long it is remembered whom to tell how a passed reply went: twelve times what whoever made
#: it waits for that, by default.
LONGEST: Final = 60.0

#: Bytes around a reply on its way, at most: its frame has to fit into what nodes accept.
_AROUND: Final = MAX_ID + 128


class _Own:
    """A reply of ours that is on its way."""

    __slots__ = ("otherwise", "serial", "timer")

    def __init__(self, serial: int, otherwise: Callable[[], None], timer: Timer) -> None:
        self.serial = serial
        self.otherwise = otherwise
        self.timer = timer


class Routing:
    """Brings replies back along the trees."""

    def __init__(
        self,
        own_id: bytes,
        settings: Settings,
        links: Links,
        recent: RecentMessages,
        timers: Timers,
        counters: Counter[str],
        *,
        token: Callable[[], bytes],
        send: Callable[..., None],
        whisper: Callable[[Connection, Message], None],
        arrived: Callable[[Message, Connection], None],
        done: Callable[[int], None],
    ) -> None:
        """
        :param token: makes `TOKEN` bytes that nobody has made before.
        :param send: sends an extension frame: to whom, kind, fields.
        :param whisper: sends a message to one peer, as it is.
        :param arrived: takes a reply to us, and the link that brought it.
        :param done: called with the serial of a reply that has arrived.
        """
        self._own_id = own_id
        self._settings = settings
        self._links = links
        self._recent = recent
        self._timers = timers
        self._counters = counters
        self._token = token
        self._send = send
        self._whisper = whisper
        self._arrived = arrived
        self._done = done
        self._own: dict[bytes, _Own] = {}
        #: Whom to tell how it went, and since when, oldest first.
        self._passed: dict[bytes, tuple[Connection, float]] = {}
        #: Replies to us that have come this way, and whispers that have come over a link of
        #: their own, oldest first.
        self._taken: dict[bytes, None] = {}
        self._direct: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._own) + len(self._passed)

    def start(
        self,
        target: bytes,
        answered: bytes,
        message: Message,
        serial: int,
        otherwise: Callable[[Message], None],
        now: float,
    ) -> bool:
        """
        Send a reply back, if there is a way.

        :param target: the id of the node that it is for.
        :param answered: the id of the message that it answers.
        :param serial: what ``done`` is called with.
        :param otherwise: called with the message, once, if it does not arrive this way.
        :return: whether it is on its way.
        """
        short = answered[:SHORT]
        link = self._next(short, None)
        if link is None or len(message.body) > self._largest or len(self._own) >= self._most:
            return False
        token = self._token()
        message = with_appendix(message, token)
        timer = self._timers.at(
            now + self._settings.reply_timeout / 2, partial(self._answered, token, False)
        )
        self._own[token] = _Own(serial, partial(otherwise, message), timer)
        self._counters["replies routed"] += 1
        self._send(link, Kind.ROUTED, token, target, short, MOST_HOPS, bytes(message.body))
        return True

    @property
    def _most(self) -> int:
        return self._settings.routed_replies

    @property
    def _largest(self) -> int:
        return min(LARGEST, self._settings.max_message - _AROUND)

    def _next(self, short: bytes, came_by: Connection | None) -> Connection | None:
        """The neighbour that brought a message, if it can take the answer."""
        via = self._recent.via(short)
        link = self._links.table.get(via) if via else None
        if link is None or link.ext is None or link is came_by or link.state is not State.OPEN:
            return None
        return link

    def passed(
        self,
        link: Connection,
        token: bytes,
        target: bytes,
        short: bytes,
        hops: int,
        read: Callable[[], Message],
        body: bytes,
        now: float,
    ) -> None:
        """
        A reply has come, for us or for somebody further on.

        :param hops: how much further it may go.
        :param read: understands it, or raises what is wrong with it.
        """
        message = read()
        if target == self._own_id:
            if message.id not in self._taken and message.id not in self._direct:
                self._note(message.id, self._taken)
                self._arrived(message, link)
            self._send(link, Kind.ROUTED_ANSWER, token, 1)
            return
        neighbour = self._links.table.get(target)
        if neighbour is not None and neighbour.ext is None and neighbour.state is State.OPEN:
            self._whisper(neighbour, message)
            self._send(link, Kind.ROUTED_ANSWER, token, 1)
            return
        self._tidy(now)
        onward = neighbour if neighbour is not None else self._next(short, link)
        if (
            onward is None
            or onward is link
            or onward.state is not State.OPEN
            or hops < 1
            or token in self._passed
            or token in self._own
            or len(body) > self._largest + TOKEN
            or onward.congested
        ):
            self._send(link, Kind.ROUTED_ANSWER, token, 0)
            return
        self._passed[token] = link, now
        if len(self._passed) > self._most:
            del self._passed[next(iter(self._passed))]
        self._counters["replies passed on"] += 1
        self._send(onward, Kind.ROUTED, token, target, short, min(hops, MOST_HOPS) - 1, body)

    def _tidy(self, now: float) -> None:
        """Forget replies of which nobody waits to hear any more."""
        passed = self._passed
        while passed and now - passed[oldest := next(iter(passed))][1] >= LONGEST:
            del passed[oldest]

    def answered(self, token: bytes, arrived: bool) -> None:
        """A neighbour tells how it went."""
        link, _ = self._passed.pop(token, (None, 0.0))
        if link is not None:
            if link.state is State.OPEN:
                self._send(link, Kind.ROUTED_ANSWER, token, int(arrived))
            return
        self._answered(token, arrived)

    def _answered(self, token: bytes, arrived: bool) -> None:
        own = self._own.pop(token, None)
        if own is None:
            return
        own.timer.cancel()
        if arrived:
            self._done(own.serial)
        else:
            own.otherwise()

    def came_twice(self, ident: bytes) -> bool:
        """
        Whether a whisper that has come over a link of its own had come this way already.

        If it has not it shall not come this way any more. Whispers that come over links of
        their own are not compared with each other: equal ones are several.
        """
        if ident in self._taken:
            return True
        self._note(ident, self._direct)
        return False

    def _note(self, ident: bytes, noted: dict[bytes, None]) -> None:
        """Remember an id, oldest ones give way."""
        noted[ident] = None
        if len(noted) > self._most:
            del noted[next(iter(noted))]

    def stop(self) -> None:
        """Nobody is told how it went any more; what is under way goes the other way, and fails."""
        for token in list(self._own):
            self._answered(token, False)
