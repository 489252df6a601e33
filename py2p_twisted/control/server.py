"""
The socket of a node that can be talked with.

::

    mesh = MeshService(reactor, "mesh")
    ControlService(reactor, mesh, "/run/alerts/control.sock").setServiceParent(application)

One client has one `ControlProtocol`. It reads no more than it can deal with at the moment: not
while its own answers are not read, nor while too much of what it asked for is under way. What it
listens to and does not read is kept for a while, then the oldest is left out, which is said.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from py2p_twisted.control import places
from py2p_twisted.control.events import KINDS, Tap
from py2p_twisted.control.lines import ControlError, LineBuffer, line_of, longest_line, parse
from py2p_twisted.control.places import Place, UnixPlace
from py2p_twisted.control.words import Words, why
from py2p_twisted.net.along import hear
from py2p_twisted.net.service import MeshService

_log = Logger(namespace="py2p_twisted.control")

# Limits. Source: docs/reference/control.rst, "Limits".

#: Clients at a time.
MOST_CLIENTS: Final = 16

#: Requests of one client that are under way, and bytes of them, before its next is read.
MOST_PENDING: Final = 16
MOST_PENDING_BYTES: Final = 2**20

#: Requests of one client that are dealt with in one turn of the reactor.
A_TURN: Final = 16

#: Events that wait for one client, and bytes of them. One always may.
MOST_EVENTS: Final = 1_000
MOST_EVENT_BYTES: Final = 8 * 2**20

#: Bytes of the line with the token, and seconds in which it has to come.
TOKEN_LINE: Final = 1_000
TOKEN_TIMEOUT: Final = 5.0

#: Seconds in which a client has to read the last line that it gets.
LAST_LINE: Final = 5.0

#: Characters of a request's id.
_ID: Final = 200


class ControlProtocol(Protocol):
    """
    One client.

    :ivar kinds: the kinds of events that it listens to.
    :ivar welcome: whether it has said the token, where there is one.
    """

    factory: ControlFactory

    def __init__(self, factory: ControlFactory) -> None:
        self.factory = factory
        self.kinds: frozenset[str] = frozenset()
        self.welcome = factory.token is None
        self._lines = LineBuffer(factory.longest if self.welcome else TOKEN_LINE)
        self._pending = self._pending_bytes = 0
        #: Whether it does not read what it is sent.
        self._full = False
        self._reading = True
        self._working = False
        self._ended = False
        self._next_turn: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._events: deque[bytes] = deque()
        self._event_bytes = 0
        self._dropped = 0

    # --- called by Twisted ----------------------------------------------------------------

    def connectionMade(self) -> None:
        """Somebody is there."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]
        if not self.factory.admit(self):
            self._end(_no("too many clients", f"{MOST_CLIENTS} are there already: try again"))
        elif not self.welcome:
            self._deadline = self.factory.reactor.callLater(TOKEN_TIMEOUT, self.cut_off)

    def dataReceived(self, data: bytes) -> None:
        """Something has come."""
        if self._ended:
            return
        try:
            self._lines.feed(data)
        except ControlError as error:
            if self.welcome:
                self._end(_no(error.reason, str(error)))
            else:
                self.cut_off()
            return
        self._work()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has gone."""
        self._ended = True
        for call in (self._next_turn, self._deadline):
            if call is not None and call.active():
                call.cancel()
        self._events.clear()
        self.factory.gone(self)

    def pauseProducing(self) -> None:
        """It does not read what it is sent."""
        self._full = True
        self._read_on()

    def resumeProducing(self) -> None:
        """It has read it."""
        self._full = False
        self._pass_on()
        self._work()

    def stopProducing(self) -> None:
        """Nothing can be written any more."""
        self._full = True

    # --- what it asks -----------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return (
            self._full or self._pending >= MOST_PENDING or self._pending_bytes >= MOST_PENDING_BYTES
        )

    def _work(self) -> None:
        """Deal with some lines; with more of them in the next turn, so others have theirs."""
        if self._working or self._ended:
            return
        self._working = True
        try:
            for _ in range(A_TURN):
                if self._ended or self._busy:
                    break
                line = self._lines.next()
                if line is None:
                    break
                self._take(line)
        finally:
            self._working = False
        if self._lines.waiting and not self._busy and not self._scheduled:
            self._next_turn = self.factory.reactor.callLater(0, self._work)
        self._read_on()

    @property
    def _scheduled(self) -> bool:
        return self._ended or (self._next_turn is not None and self._next_turn.active())

    def _read_on(self) -> None:
        reading = not (self._busy or self._lines.waiting)
        if reading == self._reading or self._ended:
            return
        self._reading = reading
        transport: Any = self.transport
        if reading:
            transport.resumeProducing()
        else:
            transport.pauseProducing()

    def _take(self, line: bytes) -> None:
        if not self.welcome:
            self._ask_token(line)
            return
        if not line.strip():
            return
        try:
            request = parse(line)
        except ControlError as error:
            self._answer(None, _no(error.reason, str(error)))
            return
        ident = request.get("id")
        if not (
            ident is None
            or (isinstance(ident, str) and len(ident) <= _ID)
            or (type(ident) is int and -(2**63) <= ident < 2**64)
        ):
            text = f"id: expected a number, or a text of at most {_ID} characters"
            self._answer(None, _no("bad request", text))
            return
        size = len(line)
        self._pending += 1
        self._pending_bytes += size
        doing = maybeDeferred(self._do, request)
        doing.addCallbacks(lambda fields: {"ok": True, **fields}, self._failed)
        doing.addCallback(self._done, ident, size)

    def _do(self, request: dict[str, Any]) -> Any:
        word = request.get("do")
        if word == "listen":
            return self._listen(request)
        words = self.factory.words
        if word not in words:
            there = ", ".join([*words, "listen"])
            raise ControlError("unknown request", f"do: expected one of {there}")
        return words.do(str(word), request)

    def _listen(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted = request.get("events", list(KINDS))
        if not isinstance(wanted, list) or not all(
            isinstance(kind, str) and kind in KINDS for kind in wanted
        ):
            raise ControlError("bad request", f"events: expected a list of {', '.join(KINDS)}")
        own = request.get("own", False)
        if not isinstance(own, bool):
            raise ControlError("bad request", "own: expected true or false")
        self.kinds = frozenset([*wanted, "own"] if own and "message" in wanted else wanted)
        self.factory.listening()
        return {"events": [kind for kind in KINDS if kind in self.kinds]}

    def _failed(self, failure: Failure) -> dict[str, Any]:
        known = why(failure.value) if isinstance(failure.value, Exception) else None
        if known is None:
            _log.failure("in what a client has asked for", failure)
            known = "internal", "this is a mistake of the node's: its log says more"
        return _no(*known)

    def _done(self, answer: dict[str, Any], ident: Any, size: int) -> None:
        self._pending -= 1
        self._pending_bytes -= size
        self._answer(ident, answer)
        self._work()

    def _answer(self, ident: Any, answer: dict[str, Any]) -> None:
        if not self._ended:
            try:
                line = line_of({"id": ident, **answer})
            except (ValueError, TypeError, RecursionError):
                _log.failure("in an answer")
                line = line_of({"id": ident, **_no("internal", "this answer cannot be written")})
            self.transport.write(line)  # type: ignore[union-attr]

    def _ask_token(self, line: bytes) -> None:
        """Compare what a stranger says first with the token; how long it takes says nothing."""
        try:
            request = parse(line)
        except ControlError:
            request = {}
        said = str(request.get("token")).encode("utf-8", "replace")
        if not hmac.compare_digest(said, str(self.factory.token).encode()):
            _log.warn("a client with a wrong token was turned away")
            self.cut_off()
            return
        self.welcome = True
        self._lines.longest = self.factory.longest
        if self._deadline is not None:
            self._deadline.cancel()
        ident = request.get("id")
        self._answer(ident if type(ident) is int else None, {"ok": True})

    # --- what it is told ----------------------------------------------------------------------

    def tell(self, line: bytes) -> None:
        """An event has happened that it listens to."""
        if self._ended:
            return
        if not self._full:
            self.transport.write(line)  # type: ignore[union-attr]
            return
        self._events.append(line)
        self._event_bytes += len(line)
        while len(self._events) > MOST_EVENTS or (
            self._event_bytes > MOST_EVENT_BYTES and len(self._events) > 1
        ):
            self._event_bytes -= len(self._events.popleft())
            self._dropped += 1

    def _pass_on(self) -> None:
        """It reads again: first how many events it has missed, then those that were kept."""
        if self._ended:
            return
        transport: Any = self.transport
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            transport.write(line_of({"event": "dropped", "dropped": dropped}))
        while self._events and not self._full:
            line = self._events.popleft()
            self._event_bytes -= len(line)
            transport.write(line)

    # --- the end --------------------------------------------------------------------------------

    def _end(self, last: dict[str, Any]) -> None:
        """Say why, and hang up."""
        self._answer(None, last)
        self._ended = True
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self.factory.reactor.callLater(LAST_LINE, self.cut_off)

    def cut_off(self) -> None:
        """Hang up at once."""
        self._ended = True
        self._events.clear()
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.abortConnection()


def _no(reason: str, text: str) -> dict[str, Any]:
    return {"ok": False, "reason": reason, "error": text}


def _event(kind: str, make: Callable[[], dict[str, Any]]) -> bytes:
    if kind == "own":
        return line_of({"event": "message", **make(), "own": True})
    return line_of({"event": kind, **make()})


class ControlFactory(Factory):
    """
    The clients of one node.

    :ivar token: what a client has to say first; ``None`` where the file system keeps others out.
    :ivar longest: bytes of a line.
    :ivar clients: those that may ask.
    """

    noisy = False

    def __init__(self, reactor: Any, mesh: MeshService, token: str | None = None) -> None:
        self.reactor = reactor
        self.mesh = mesh
        self.token = token
        self.words = Words(mesh)
        self.longest = longest_line(mesh.factory.settings.max_message)
        self.clients: dict[ControlProtocol, None] = {}
        self._leave: Callable[[], None] | None = None
        self._all_gone: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol:  # type: ignore[override]
        """Somebody has connected."""
        return ControlProtocol(self)

    def admit(self, client: ControlProtocol) -> bool:
        """Whether there is room for one more."""
        if len(self.clients) >= MOST_CLIENTS:
            strangers = [one for one in self.clients if not one.welcome]
            if not strangers:
                return False
            # Nobody who does not know the token keeps those out who do.
            del self.clients[strangers[0]]
            strangers[0].cut_off()
        self.clients[client] = None
        return True

    def gone(self, client: ControlProtocol) -> None:
        """A client has gone."""
        self.clients.pop(client, None)
        self.listening()
        if not self.clients:
            waiting, self._all_gone = self._all_gone, []
            for done in waiting:
                done.callback(None)

    def close(self) -> Deferred[None]:
        """Part from all clients; fires when they have gone."""
        done: Deferred[None] = Deferred()
        if self.clients:
            self._all_gone.append(done)
            for client in list(self.clients):
                client.cut_off()
        else:
            done.callback(None)
        return done

    # --- events ---------------------------------------------------------------------------------

    def listening(self) -> None:
        """Somebody listens, or has ended to: a node to which nobody listens costs nothing."""
        wanted = any(client.kinds for client in self.clients)
        if wanted and self._leave is None:
            self._leave = hear(self.mesh.factory, Tap(self.tell))
        elif not wanted and self._leave is not None:
            self._leave()
            self._leave = None

    def tell(self, kind: str, make: Callable[[], dict[str, Any]]) -> None:
        """Tell of an event those who listen to its kind; it is put into words once."""
        line: bytes | None = None
        for client in list(self.clients):
            if kind in client.kinds:
                if line is None:
                    line = _event(kind, make)
                client.tell(line)


class ControlService(Service):
    """
    The control endpoint of a node.

    :ivar place: where it is.
    """

    def __init__(self, reactor: Any, mesh: MeshService, place: Place | str) -> None:
        """
        :param mesh: the node; who starts and stops it is somebody else's business.
        :param place: a path, or whatever else `places.place` reads.
        :raises BadArgument: it is no such place, or a node that runs is there already.
        """
        self.place = places.place(place) if isinstance(place, str) else place
        self._reactor = reactor
        self._factory = ControlFactory(reactor, mesh)
        self._port: Any = None
        if isinstance(self.place, UnixPlace):
            # What else is wrong with it is found out when it is used.
            with suppress(OSError):
                places.check(self.place)

    def startService(self) -> None:
        """
        Listen.

        :raises BadArgument: the place is of no use, or another node's.
        :raises CannotListenError: the port is taken.
        :raises OSError: the folder cannot be written to.
        """
        if self.running:
            return
        where, reactor = self.place, self._reactor
        if isinstance(where, UnixPlace):
            with places.taking(where):
                self._port = reactor.listenUNIX(where.path, self._factory, 16, 0o600)
        else:
            token = self._factory.token = secrets.token_hex(32)
            self._port = reactor.listenTCP(where.port, self._factory, 16, where.host)
            try:
                places.write_token(where.token, token)
            except OSError:
                self._port.stopListening()
                raise
        Service.startService(self)

    def stopService(self) -> Deferred[None]:
        """
        Stop, and part from all clients.

        :return: fires when they have gone.
        """
        if not self.running:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        Service.stopService(self)
        waits = [maybeDeferred(self._port.stopListening), self._factory.close()]
        if not isinstance(self.place, UnixPlace):
            with suppress(OSError):
                os.unlink(self.place.token)
        both: Deferred[Any] = DeferredList(waits, consumeErrors=True)
        return both.addCallback(lambda _: None)


__all__ = ["ControlFactory", "ControlProtocol", "ControlService"]
