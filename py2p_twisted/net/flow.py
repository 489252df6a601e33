"""
The queues between the application, the node and its transports, all of them bounded.

::

    send() -> SendQueue --- node ---> Outbox (one a peer) -> transport -> the network
                 ^                        |
                 '--- waits while a peer's queue is above high water, but not for long

A frame is queued; what one reactor turn has queued for a peer is one write. Transports
are push consumers: while one is full, its outbox holds what comes.

What a slow peer can cost is bounded in bytes and in time. Above ``HIGH_WATER`` it makes our
own sends wait, for ``PATIENCE`` at most; after that it is *slow*, nobody waits for it any
more. An extended peer gets nothing more above ``HIGH_WATER`` when it has not read for
``STALLED``, nor above ``QUEUE_LIMIT`` and the largest message, and is told later what it has
missed; a plain one loses its link there. Either does when nothing has moved for ``STUCK_AFTER``. Relaying never waits for anybody.

Sizes are in bytes, times in seconds. Source: docs/design.rst, "Flow control".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat, starmap
from typing import Any, Final, Protocol, cast

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITransport
from twisted.logger import Logger
from zope.interface import implementer

from py2p_twisted.core.message import Message
from py2p_twisted.core.queues import HIGH_WATER, LOW_WATER, QUEUE_LIMIT, STALLED, STUCK_AFTER
from py2p_twisted.core.queues import TURN as TURN  # what other modules here go by, too
from py2p_twisted.errors import LinkError, PeerTooSlow

_log = Logger(namespace="py2p_twisted.net")

#: How long our own sends wait for one peer. A peer that takes longer to drain HIGH_WATER
#: to LOW_WATER reads less than 400 KB a second.
PATIENCE: Final = 2.0


class Pace:
    """
    Which peers our own sends have to wait for.

    :ivar resumed: called when there is nobody left to wait for.
    """

    def __init__(self, reactor: IReactorTime, patience: float = PATIENCE) -> None:
        self._reactor = reactor
        self._patience = patience
        self._waiting: dict[Outbox, IDelayedCall] = {}
        self.resumed: Callable[[], None] = lambda: None

    @property
    def held(self) -> bool:
        """Whether our own sends should wait."""
        return bool(self._waiting)

    def hold(self, outbox: Outbox) -> None:
        """A peer's queue has risen above high water: wait for it, for a while."""
        self._waiting[outbox] = self._reactor.callLater(self._patience, self._lose, outbox)

    def release(self, outbox: Outbox) -> None:
        """It is low again, or gone."""
        call = self._waiting.pop(outbox, None)
        if call is not None:
            call.cancel()
            if not self._waiting:
                self.resumed()

    def _lose(self, outbox: Outbox) -> None:
        outbox.slow = True
        del self._waiting[outbox]
        if not self._waiting:
            self.resumed()


class Consumer(Protocol):
    """The transport of an outbox: any Twisted transport that is a consumer."""

    def write(self, data: bytes) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...


@implementer(IPushProducer)
class Outbox:
    """
    What waits for one peer.

    :ivar size: bytes that wait, apart from what the transport itself holds.
    :ivar sent: bytes that the transport was given, ever.
    :ivar slow: the peer has kept our sends waiting too long, and does not any more.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        transport: ITransport,
        pace: Pace,
        failed: Callable[[LinkError], None],
        record: Callable[[], int | None] | None = None,
        largest: int = 0,
        congestion: Callable[[bool], None] = lambda congested: None,
    ) -> None:
        """
        :param largest: bytes of the largest message.
        :param failed: called once, when the peer turns out to be too slow to keep.
        :param record: says how many bytes a write may have, unless it is one frame; one write
            a turn. For peers that read one TLS record per wake-up.
        :param congestion: called when so much waits that the peer should not get more
            (``True``), and when that has been written (``False``).
        """
        self.size = self.sent = 0
        self.slow = False
        self._reactor = reactor
        self._transport = cast(Consumer, transport)
        self._pace = pace
        self._failed = failed
        self._record = record or (lambda: None)
        self._congestion = congestion
        self._congested = False
        #: When something was last written.
        self._moved = reactor.seconds()
        self._limit = QUEUE_LIMIT + largest
        self._frames: deque[bytes] = deque()
        #: How much of the first frame has been written already.
        self._written = 0
        self._paused = False
        self._held = False
        self._closed = False
        self._next_turn: IDelayedCall | None = None
        self._stuck: IDelayedCall | None = None
        self._drained: Callable[[], None] | None = None
        self._transport.registerProducer(self, True)

    def put(self, frames: Sequence[bytes]) -> None:
        """Queue frames; `flush` sends them."""
        if self._closed:
            return
        if self.size > HIGH_WATER:
            behind = self.size + self._written - len(self._frames[0])
            if behind > self._limit:
                self.abandon()
                self._failed(
                    PeerTooSlow(f"{self.size} bytes wait for this peer, which does not read them")
                )
                return
        self._frames.extend(frames)
        self.size += sum(map(len, frames))
        if self.size > HIGH_WATER:
            if not self._held and not self.slow:
                self._held = True
                self._pace.hold(self)
            if not self._congested and (
                self.size > self._limit
                # (While the transport takes more, it only has not been given any.)
                or (self._paused and self._reactor.seconds() - self._moved > STALLED)
            ):
                self._congested = True
                self._congestion(True)

    def flush(self) -> None:
        """Write what is queued, as far as the transport takes it in this turn."""
        frames = self._frames
        if self._paused or not frames or self._next_turn is not None:
            return
        self._moved = self._reactor.seconds()
        record = self._record()
        if record is not None:
            self._write_record(record)
        elif self.size <= TURN and not self._written:
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            frames.clear()
            self.size = 0
            self.sent += len(data)
            self._transport.write(data)
        else:
            self._write_some(TURN)
        if frames and not self._paused and not self._closed:
            self._next_turn = self._reactor.callLater(0, self._another_turn)
        if self._congested or self._held or self.slow or self._drained is not None:
            self._lower()

    def _write_some(self, most: int) -> None:
        """Write a turn's worth; of a frame that is larger than that, a piece."""
        frames = self._frames
        first = frames[0]
        if len(first) - self._written > most:
            data = first[self._written : self._written + most]
            self._written += most
        else:
            batch = [frames.popleft()[self._written :]]
            self._written = 0
            size = len(batch[0])
            while frames and size + len(frames[0]) <= most:
                batch.append(frames.popleft())
                size += len(batch[-1])
            data = b"".join(batch)
        self.size -= len(data)
        self.sent += len(data)
        self._transport.write(data)

    def _write_record(self, most: int) -> None:
        frames = self._frames
        batch = [frames.popleft()]
        size = len(batch[0])
        while frames and size + len(frames[0]) <= most:
            batch.append(frames.popleft())
            size += len(batch[-1])
        self.size -= size
        self.sent += size
        self._transport.write(b"".join(batch))

    def _another_turn(self) -> None:
        self._next_turn = None
        self.flush()

    def _lower(self) -> None:
        if self.size <= LOW_WATER:
            if self._congested:
                self._congested = False
                self._congestion(False)
            if self._held:
                self._held = False
                self._pace.release(self)
            if not self._frames:
                self.slow = False
        if not self._frames and self._drained is not None:
            drained, self._drained = self._drained, None
            drained()

    def when_empty(self, action: Callable[[], None]) -> None:
        """Have ``action`` called once everything has been given to the transport."""
        self.flush()
        if self._frames and not self._closed:
            self._drained = action
        else:
            action()

    def abandon(self) -> None:
        """Forget what waits and write nothing more: the connection is ending."""
        if self._closed:
            return
        self._closed = True
        self._frames.clear()
        self.size = 0
        for call in (self._next_turn, self._stuck):
            if call is not None:
                call.cancel()
        self._next_turn = self._stuck = None
        if self._held:
            self._held = False
            self._pace.release(self)
        self._transport.unregisterProducer()

    # --- IPushProducer: called by the transport ---------------------------------------

    def pauseProducing(self) -> None:
        """The transport is full."""
        if not self._paused and not self._closed:
            self._paused = True
            self._stuck = self._reactor.callLater(STUCK_AFTER, self._is_stuck)

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._paused = False
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        if getattr(getattr(self._transport, "transport", None), "disconnecting", False):
            # Over TLS: the peer has said goodbye, and the transport below ends as soon as
            # nobody is registered who could write. Twisted does not see to that itself.
            self.abandon()
        self.flush()

    def stopProducing(self) -> None:
        """The transport is going away; `abandon` follows from the lost connection."""
        self._paused = True

    def _is_stuck(self) -> None:
        self._stuck = None
        self.abandon()
        self._failed(PeerTooSlow(f"this peer has read nothing for {STUCK_AFTER:.0f} s"))


#: Messages that are taken in one piece.
_MOST_AT_ONCE: Final = 1024

_MESSAGES: Final = {Message}


def _fitting(run: Sequence[object], most: int) -> int:
    """How many of the first items are messages, until ``most`` bytes are reached; one at least."""
    for number, item in enumerate(run):
        if type(item) is not Message or most <= 0:
            return number
        most -= len(item.body)
    return len(run)


class SendQueue:
    """
    What this node sends itself, on its way from the application to the node.

    Anything may append to ``items`` from any thread; `pump` runs in the reactor's thread
    and takes them in order, a turn's worth at a time, while no peer holds it up.

    :ivar items: messages, or callables for whatever else has to keep its place in line.
    :ivar taken: bytes that have left the queue, ever.
    :ivar armed: whether a pump is on its way; set it before asking for one.
    """

    def __init__(
        self, reactor: IReactorTime, pace: Pace, send: Callable[[Sequence[Message]], None]
    ) -> None:
        """
        :param send: gives messages to the node.
        """
        self.items: deque[Message | Callable[[], Any]] = deque()
        self.taken = 0
        self.armed = False
        #: Called after every turn in which something was taken.
        self.progressed: Callable[[], None] = lambda: None
        #: Called at the end of every turn: writes what the turn has queued.
        self.flush: Callable[[], None] = lambda: None
        self._reactor = reactor
        self._pace = pace
        self._send = send
        self._closed = False
        self._next_turn: IDelayedCall | None = None
        pace.resumed = self._resume

    def pump(self) -> None:
        """Take what can be taken in this turn."""
        # First of all: whoever appends from now on asks for another pump.
        self.armed = False
        if self._next_turn is not None or self._closed:
            return
        items, pace = self.items, self._pace
        before = self.taken
        if not pace.held:
            self._take(TURN)
        self.flush()
        if items and not pace.held:
            self._next_turn = self._reactor.callLater(0, self._another_turn)
        if self.taken != before:
            self.progressed()

    def _another_turn(self) -> None:
        self._next_turn = None
        self.pump()

    def _resume(self) -> None:
        if self.items and self._next_turn is None and not self._closed:
            # Not at once: this may be called from the middle of a flush.
            self._next_turn = self._reactor.callLater(0, self._another_turn)

    def drain(self) -> None:
        """Take everything, whoever is slow: the node is closing."""
        while self.items:
            self._take(TURN)
        self.flush()
        self.progressed()

    def _take(self, most: int) -> None:
        """Give the node what is first in line: up to ``most`` bytes of messages, in runs."""
        items = self.items
        while items and most > 0:
            first = items[0]
            if type(first) is not Message:
                try:
                    cast(Callable[[], Any], items.popleft())()
                except Exception:  # noqa: BLE001 - what is behind it must not wait for ever
                    _log.failure("in what was to be done between two messages")
                continue
            # As many as may fit, if they are alike; what does not is put back.
            count = min(_MOST_AT_ONCE, 1 + most // (1 + len(first.body)))
            run: list[Message] = []
            with suppress(IndexError):
                run.extend(cast("Any", starmap(items.popleft, repeat((), count))))
            if set(map(type, run)) != _MESSAGES or sum([len(one.body) for one in run]) > most:
                fits = _fitting(run, most)
                items.extendleft(reversed(run[fits:]))
                del run[fits:]
            size = sum([len(one.body) for one in run])
            most -= size
            self._send(run)
            self.taken += size

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
