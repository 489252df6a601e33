"""
What happens in a node, for browsers that watch: server-sent events.

::

    node --- Along --- Watch ---> Stream ---> a browser
                         |   '--> Stream ---> another, that does not read: it loses the oldest
                         '-- a tick four times a second, while somebody watches

An event is put into words once, however many watch. Nobody watching costs the node nothing: then
there is no tick, and nobody who hears along.

Times are in seconds, sizes in bytes. Source: docs/reference/web.rst, "Events".
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from py2p_twisted import __version__
from py2p_twisted.control.events import Tap, id_text
from py2p_twisted.control.lines import ControlError
from py2p_twisted.control.words import Words
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import address_text
from py2p_twisted.errors import MeshError
from py2p_twisted.net import plainjson
from py2p_twisted.net.along import hear
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import MeshService
from py2p_twisted.net.status import peers_of
from py2p_twisted.web.guard import Refused

_log = Logger(namespace="py2p_twisted.web")

# Limits. Source: docs/reference/web.rst, "Limits".

#: Browsers that watch at a time.
MOST_STREAMS: Final = 16

#: Events that wait for one of them, and bytes of them. One always may.
MOST_EVENTS: Final = 1_000
MOST_EVENT_BYTES: Final = 2**20

#: How long one may read nothing at all.
STUCK_AFTER: Final = 60.0

#: Between two ticks; and what comes with every so many of them.
TICK: Final = 0.25
STATUS_TICKS: Final = 4
PEERS_TICKS: Final = 8

#: Messages, and peers that come and go, that are shown of one tick: nobody can read more.
MOST_A_TICK: Final = 50

#: Between two surveys: so long, and so long for each member.
SURVEY_EVERY: Final = 2.0
SURVEY_A_MEMBER: Final = 0.02
#: How long one takes at most.
SURVEY_TIMEOUT: Final = 5.0

#: Milliseconds after which a browser that has lost its connection tries again.
RETRY: Final = 2_000

#: Characters of a message's packets that are shown, and levels of lists and dicts.
PREVIEW: Final = 200
_DEEPEST: Final = 4

Fields = dict[str, Any]


def event(kind: str, fields: Mapping[str, Any]) -> bytes:
    """An event as it is written to a browser: ASCII."""
    return f"event: {kind}\ndata: {json.dumps(fields, allow_nan=False)}\n\n".encode("ascii")


@implementer(IPushProducer)
class Stream:
    """
    One browser that watches.

    :ivar ended: whether nothing can be told it any more.
    :ivar waiting: bytes that wait for it to read.
    """

    def __init__(self, reactor: Any, request: Any, gone: Callable[[Stream], object]) -> None:
        """
        :param request: the one that it has asked with.
        :param gone: called once, when it has gone.
        """
        self.ended = False
        self._reactor = reactor
        self._request = request
        self._gone = gone
        self._full = False
        self._waiting: deque[bytes] = deque()
        self.waiting = 0
        self._dropped = 0
        self._stuck: IDelayedCall | None = None
        request.notifyFinish().addBoth(lambda _: self._has_gone())
        request.registerProducer(self, True)

    def tell(self, data: bytes) -> None:
        """Something has happened: it is written, or waits."""
        if self.ended:
            return
        if not self._full:
            self._request.write(data)
            return
        self._waiting.append(data)
        self.waiting += len(data)
        while len(self._waiting) > MOST_EVENTS or (
            self.waiting > MOST_EVENT_BYTES and len(self._waiting) > 1
        ):
            self.waiting -= len(self._waiting.popleft())
            self._dropped += 1

    def end(self) -> None:
        """The node stops: what the browser has not read by now it will not."""
        if not self.ended:
            request = self._request
            full = self._full
            self._has_gone()
            request.unregisterProducer()
            if full:
                request.channel.abort()
            else:
                request.finish()

    def _has_gone(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._waiting.clear()
        self.waiting = 0
        self._calm()
        self._gone(self)

    def _calm(self) -> None:
        stuck, self._stuck = self._stuck, None
        if stuck is not None and stuck.active():
            stuck.cancel()

    # --- IPushProducer: called by the transport ---------------------------------------------

    def pauseProducing(self) -> None:
        """It does not read."""
        if not self._full and not self.ended:
            self._full = True
            self._stuck = self._reactor.callLater(STUCK_AFTER, self._is_stuck)

    def resumeProducing(self) -> None:
        """It reads again: first how many events it has missed, then those that were kept."""
        self._full = False
        self._calm()
        if self._dropped and not self.ended:
            dropped, self._dropped = self._dropped, 0
            self._request.write(event("dropped", {"dropped": dropped}))
        while self._waiting and not self._full:
            data = self._waiting.popleft()
            self.waiting -= len(data)
            self._request.write(data)

    def stopProducing(self) -> None:
        """Nothing can be written any more."""
        self._full = True

    def _is_stuck(self) -> None:
        self._stuck = None
        self._request.channel.abort()


class Members:
    """
    Who is in the network, found out when somebody wants to know.

    :ivar latest: what was found out last, as the control word ``members`` answers; ``None`` if
        nothing was, or if nothing could be the last time.
    """

    def __init__(self, words: Words, now: Callable[[], float]) -> None:
        self.latest: Fields | None = None
        self._words = words
        self._now = now
        self._until = float("-inf")
        self._waiting: list[Deferred[Fields]] | None = None

    @property
    def due(self) -> bool:
        """Whether what was found out last is old, and nobody is finding out."""
        return self._waiting is None and self._now() >= self._until

    @property
    def fresh(self) -> bool:
        """Whether what was found out last is not old."""
        return self.latest is not None and self._now() < self._until

    def ask(self) -> Deferred[Fields]:
        """Find out, unless somebody is, or has just now."""
        if self.latest is not None and self.fresh:
            return succeed(self.latest)
        waiting: Deferred[Fields] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waiting)
            return waiting
        self._waiting = [waiting]
        asking = maybeDeferred(self._ask)
        asking.addCallbacks(self._found, self._failed)
        return waiting

    def _ask(self) -> Any:
        if "members" not in self._words:
            raise ControlError("no members", "this node cannot ask who is in the network")
        return self._words.do("members", {"timeout": SURVEY_TIMEOUT})

    def _found(self, answer: Fields) -> None:
        self.latest = answer
        self._pass_on("callback", answer)

    def _failed(self, failure: Failure) -> None:
        self.latest = None  # who asks must not take it for an answer
        self._pass_on("errback", failure)

    def _pass_on(self, method: str, result: Any) -> None:
        count = len(self.latest["members"]) if self.latest is not None else 0
        self._until = self._now() + max(SURVEY_EVERY, SURVEY_A_MEMBER * count)
        waiting, self._waiting = self._waiting or [], None
        for one in waiting:
            getattr(one, method)(result)


class Watch:
    """
    Tells those who watch.

    :ivar streams: they.
    :ivar members: who is in the network.
    """

    def __init__(self, reactor: Any, mesh: MeshService, words: Words, *, demo: bool) -> None:
        """
        :param words: what the node can be asked.
        :param demo: whether the page is shown one.
        """
        self.streams: dict[Stream, None] = {}
        self._reactor = reactor
        self._mesh = mesh
        self._words = words
        self._demo = demo
        self._started = mesh.factory.wall()
        self.members = Members(words, mesh.factory.now)
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._leave: Callable[[], None] | None = None
        self._ticks = 0
        self._shown = 0
        self._left_out = 0
        self._peers_changed = False
        self._rates = dict.fromkeys(_RATES, 0.0)
        self._before: tuple[float, tuple[int, ...]] = (0.0, ())
        self._links: dict[Connection, tuple[int, int, int]] = {}

    def check(self) -> None:
        """
        See to it that one more may watch.

        :raises Refused: there are too many.
        """
        if len(self.streams) >= MOST_STREAMS:
            text = f"{MOST_STREAMS} browsers watch already: close one"
            raise Refused(503, "too many", text)

    def add(self, request: Any) -> None:
        """Somebody watches from now on."""
        first = not self.streams
        stream = Stream(self._reactor, request, self._gone)
        self.streams[stream] = None
        if first:
            self._begin()
        stream.tell(f"retry: {RETRY}\n\n".encode("ascii") + event("hello", self._hello()))
        stream.tell(event("status", self._status()))
        stream.tell(event("peers", self._peers()))
        # What nobody has kept up may be hours old, and would be drawn as if it were so.
        if self.members.latest is not None and (self.members.fresh or not first):
            stream.tell(event("mesh", self.members.latest))

    @property
    def waiting(self) -> int:
        """Bytes that wait for them to read."""
        return sum(stream.waiting for stream in self.streams)

    def close(self) -> None:
        """Part from all of them."""
        for stream in list(self.streams):
            stream.end()

    def _gone(self, stream: Stream) -> None:
        self.streams.pop(stream, None)
        if not self.streams and self._leave is not None:
            self._leave()
            self._leave = None
            if self._ticking.running:
                self._ticking.stop()

    def _begin(self) -> None:
        self._leave = hear(self._mesh.factory, _Ear(self))
        self._ticks = self._shown = self._left_out = 0
        self._peers_changed = False
        self._rates = dict.fromkeys(_RATES, 0.0)
        self._before = self._totals()
        self._links = self._carried()
        self._ticking.start(TICK, now=False).addErrback(self._tick_failed)

    def tell(self, kind: str, make: Callable[[], Fields]) -> None:
        """Tell all, unless there is too much to tell of this moment."""
        if self._shown >= MOST_A_TICK:
            self._left_out += 1
            return
        self._shown += 1
        self._say(kind, make())

    def table_changed(self) -> None:
        """Peers have come or gone: they are told of with the next tick."""
        self._peers_changed = True

    def _say(self, kind: str, fields: Fields) -> None:
        data = event(kind, fields)
        for stream in list(self.streams):
            stream.tell(data)

    # --- what comes by the clock ------------------------------------------------------------

    def _tick(self) -> None:
        self._ticks += 1
        self._shown = 0
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            self._say("dropped", {"dropped": left_out})
        self._tell_traffic()
        if self._ticks % STATUS_TICKS == 0:
            self._measure()
            self._say("status", self._status())
        if self._peers_changed or self._ticks % PEERS_TICKS == 0:
            self._peers_changed = False
            self._say("peers", self._peers())
        if self.members.due:
            self.members.ask().addCallbacks(self._tell_mesh, _no_members)

    def _tick_failed(self, failure: Failure) -> None:
        _log.failure("while telling those who watch", failure)
        self.close()

    def _tell_mesh(self, answer: Fields) -> None:
        if self.streams:
            self._say("mesh", answer)

    def _carried(self) -> dict[Connection, tuple[int, int, int]]:
        return {
            link: (link.bytes, link.owner.outbox.sent, link.frames)
            for link in self._mesh.factory.routing_table.values()
        }

    def _tell_traffic(self) -> None:
        now, before = self._carried(), self._links
        self._links = now
        moved = {}
        for link, counts in now.items():
            since = [
                new - old for new, old in zip(counts, before.get(link, (0, 0, 0)), strict=True)
            ]
            if any(since):
                moved[printable(link.id)] = since
        if moved:
            self._say("traffic", {"links": moved})

    def _totals(self) -> tuple[float, tuple[int, ...]]:
        factory = self._mesh.factory
        carried = factory.traffic
        return factory.now(), (
            factory.messages_in, factory.messages_out, carried.bytes_in, carried.bytes_out,
            carried.frames_in, carried.duplicates,
        )  # fmt: skip

    def _measure(self) -> None:
        before, old = self._before
        now, new = self._before = self._totals()
        span = max(now - before, 1e-3)
        values = [(late - early) / span for late, early in zip(new, old, strict=True)]
        self._rates = dict(zip(_RATES, values, strict=True))

    # --- what is told -----------------------------------------------------------------------

    def _hello(self) -> Fields:
        mesh = self._mesh
        return {
            "id": printable(mesh.id),
            "network": mesh.network.name,
            "encryption": mesh.network.encryption,
            "address": address_text(*mesh.address),
            "version": __version__,
            "started": self._started,
            "demo": self._demo,
        }

    def _status(self) -> Fields:
        mesh = self._mesh
        return {
            "t": mesh.factory.wall(),
            "joined": bool(mesh.settled),
            "settled": len(mesh.settled),
            "status": plainjson.to_plain(dict(mesh.status)),
            "rates": self._rates,
        }

    def _peers(self) -> Fields:
        return {"peers": plainjson.to_plain(peers_of(self._mesh.factory))}


#: What there are rates of, each a second; in the order of `Watch._totals`.
_RATES: Final = (
    "messages_in", "messages_out", "bytes_in", "bytes_out", "frames_in", "duplicates",
)  # fmt: skip


def _no_members(failure: Failure) -> None:
    failure.trap(MeshError)  # it is asked again


class _Ear(Tap):
    """Who hears along for those that watch: of messages only the beginning, however long."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch.tell)
        self._watch = watch

    def message_received(self, message: Message, link: Connection) -> None:
        self._tell("message", lambda: message_fields(message, link))

    def originated(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._tell("message", lambda message=message: message_fields(message, None))  # type: ignore[misc]

    def table_changed(self, table: Mapping[bytes, Connection]) -> None:
        self._watch.table_changed()


def message_fields(message: Message, link: Connection | None) -> Fields:
    """
    What is shown of a message.

    :param link: the neighbour that brought it; ``None`` for our own.
    """
    kind = message.items[3]
    return {
        "id": message.id.hex(),
        "sender": id_text(message.sender),
        "via": None if link is None else printable(link.id),
        "time": plainjson.to_plain(message.time),
        "type": kind if type(kind) is int else preview([kind])[0],
        "packets": preview(message.items[4:]),
        "bytes": message.size,
        "own": link is None,
    }


def preview(packets: Sequence[Any], most: int = PREVIEW) -> list[str]:
    """
    The beginnings of packets, as text: characters of all together are limited, and so is the work.
    """
    shown: list[str] = []
    left = most
    for packet in packets:
        if left <= 0:
            shown.append("…")
            break
        text = _text(packet, left, 0)
        if len(text) > left:
            text = text[:left] + "…"
        shown.append(text)
        left -= max(1, len(text))
    return shown


def _text(value: Any, most: int, depth: int) -> str:
    """About ``most`` characters of a value, and one more if there are."""
    if isinstance(value, str):
        return value[: most + 1]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes: {bytes(value[: most // 2 + 1]).hex()}"
    if isinstance(value, (list, tuple, dict)):
        if depth >= _DEEPEST:
            return "…"
        pairs = isinstance(value, dict)
        parts: list[str] = []
        left = most
        for item in value.items() if isinstance(value, dict) else value:
            if left < 0:
                break
            if pairs:
                part = f"{_text(item[0], left, depth + 1)}: {_text(item[1], left, depth + 1)}"
            else:
                part = _text(item, left, depth + 1)
            parts.append(part)
            left -= len(part) + 2
        return ("{%s}" if pairs else "[%s]") % ", ".join(parts)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


__all__ = ["Members", "Stream", "Watch", "event", "message_fields", "preview"]
