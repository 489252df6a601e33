"""
One connection: bytes from a transport into the core, frames from the core to the transport.

A protocol decides nothing. It feeds its `Connection`, writes what its outbox lets
through, and hangs up when the node says so.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from py2p_twisted.core.actions import Dial
from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.network import address_text
from py2p_twisted.errors import LinkError, MeshError, TransportFailed, Unreachable
from py2p_twisted.net.flow import Outbox

if TYPE_CHECKING:
    from py2p_twisted.net.factory import MeshFactory

#: A peer that has lost power is noticed by the kernel: it is asked for a sign of life
#: after this many idle seconds, every so often, and given up after so many questions.
#: 0.6 has no ping of its own. Source: docs/design.rst, "Limits".
KEEPALIVE_IDLE = 10
KEEPALIVE_INTERVAL = 5
KEEPALIVE_PROBES = 3
#: Milliseconds that written data may go unacknowledged.
USER_TIMEOUT = 20_000

#: Seconds that a closing connection gets to write what is queued and say goodbye.
CLOSE_TIMEOUT = 5.0

#: The same for one that was refused, and connections that may be closing at a time: then
#: the oldest is cut off, or strangers could use up the open files of a process.
REFUSAL_TIMEOUT = 1.0
MOST_CLOSING = 64


class MeshProtocol(Protocol):
    """
    One connection to one peer, made by `MeshFactory`.

    :ivar link: the core's side of it; ``None`` before ``connectionMade``.
    :ivar outbox: what waits to be written.
    """

    factory: MeshFactory
    link: Connection
    outbox: Outbox

    def __init__(self, factory: MeshFactory, dial: Dial | None) -> None:
        self.factory = factory
        self.dial = dial
        #: Whether the factory will flush the outbox at the end of this turn.
        self.dirty = False
        #: Free for the floors above: what they show of this connection.
        self.face: Any = None
        #: Whether we closed it and the peer answered in kind: so it has read all of ours.
        self.closed_well = False
        self._closing = False
        self._said_goodbye = False
        self._closed_below = False
        self._hang_up: Any = None
        self._next_turn: Any = None
        #: Why the transport has gone while something was left to be read.
        self._lost: Failure | None = None

    def __repr__(self) -> str:
        return f"<MeshProtocol {self.peer_name}>"

    @property
    def peer_name(self) -> str:
        """Where the peer's end of the transport is, for logs."""
        if self.transport is None:
            return "nowhere"
        peer = self.transport.getPeer()
        host, port = getattr(peer, "host", None), getattr(peer, "port", 0)
        return str(peer) if host is None else address_text(host, port)

    # --- called by Twisted -------------------------------------------------------------

    def connectionMade(self) -> None:
        """Introduce ourselves."""
        factory, transport = self.factory, self.transport
        assert transport is not None  # noqa: S101 - Twisted sets it before this call
        tls = ISSLTransport.providedBy(transport)
        _tune(transport)
        now = factory.now()
        link = self.link = factory.node.link(self.dial, now)
        link.owner = self
        self.outbox = Outbox(
            factory.reactor,
            transport,
            factory.pace,
            self._too_slow,
            record=(lambda: link.policy.record) if tls else None,
            congestion=self._congestion,
            largest=factory.settings.max_message,
        )
        factory.connection_made(self, now)

    def dataReceived(self, data: bytes) -> None:
        """Read, decide, and write what reading has led to."""
        if self._closing:
            return
        factory = self.factory
        actions = factory.node.receive(self.link, data, factory.now(), factory.wall())
        if actions:
            factory.perform(actions)
        factory.flush()
        if self.link.unread and self._next_turn is None and not self._closing:
            self.transport.pauseProducing()  # type: ignore[union-attr]
            self._next_turn = factory.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        """Deal with what the last turn has left: others have had theirs meanwhile."""
        self._next_turn = None
        if self._closing:
            return
        try:
            self.dataReceived(b"")
        except BaseException:
            # As Twisted does when `dataReceived` raises: else nothing would ever be read again.
            self.cut_off()
            self._tell_lost()
            raise
        if self._next_turn is not None:
            return
        if self._lost is not None:
            self._tell_lost()
        elif not self._closing:
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone."""
        if self._next_turn is not None and not self._closing and reason.check(ConnectionDone):
            # Over TLS the peer's goodbye may stand in the same read as what is left for later
            # turns; it has been told that all was read, so all has to be.
            self._lost = reason
            self.outbox.abandon()
            return
        self.outbox.abandon()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        if self._hang_up is not None and self._hang_up.active():
            self._hang_up.cancel()
        self.closed_well = self._said_goodbye and (
            self._closed_below or reason.check(ConnectionDone) is not None
        )
        self.factory.connection_lost(self, self._explain(reason))

    def _tell_lost(self) -> None:
        """What had been left to be read is dealt with, once: now the transport is gone."""
        lost, self._lost = self._lost, None
        if lost is not None:
            self.connectionLost(lost)

    # --- called by the factory -----------------------------------------------------------

    def close(self, flush: bool, timeout: float = CLOSE_TIMEOUT) -> None:
        """
        Hang up.

        :param flush: write what is queued first, and wait for the peer to close its half.
        :param timeout: seconds that this may take.
        """
        if self._closing:
            return
        self._closing = True
        if self._lost is not None:
            self._tell_lost()
            return
        if self._next_turn is not None:
            # What comes is ignored, but over TLS the peer's goodbye has to be read.
            self._next_turn.cancel()
            self._next_turn = None
            self.transport.resumeProducing()  # type: ignore[union-attr]
        self.factory.closing(self)
        self._hang_up = self.factory.reactor.callLater(timeout, self.cut_off)
        if flush:
            self.outbox.when_empty(self._say_goodbye)
        else:
            self.outbox.abandon()
            self.cut_off()

    def _say_goodbye(self) -> None:
        """
        Everything is written: tell the peer that no more will come, and wait for its answer.

        A socket that is closed with something unread resets the connection, and what the
        peer has not received yet is lost. So only our half is closed; what still comes is
        ignored, and the peer closes its half when it has read all of ours.
        """
        self.outbox.abandon()
        self._said_goodbye = True
        transport = self.transport
        if transport is None:
            return
        half = None if ISSLTransport.providedBy(transport) else transport
        close = getattr(half, "loseWriteConnection", None)
        if close is None:
            self._watch_below(transport)
            transport.loseConnection()  # over TLS the same: it waits for the peer's goodbye
        else:
            close()

    def _watch_below(self, transport: Any) -> None:
        """
        Learn how the connection below TLS ends.

        0.6 answers our TLS goodbye by closing its socket, without one of its own. Twisted calls
        that a lost connection, as if it had been reset; but the peer has read all of ours.
        """
        lost = getattr(transport, "connectionLost", None)
        if lost is None:
            return

        def ended(reason: Failure) -> None:
            self._closed_below = reason.check(ConnectionDone) is not None
            lost(reason)

        transport.connectionLost = ended

    def cut_off(self) -> None:
        """Hang up at once."""
        self.outbox.abandon()
        self._said_goodbye = False  # it has not been answered
        transport = self.transport
        if transport is None:
            return
        abort = getattr(transport, "abortConnection", transport.loseConnection)
        abort()

    def _congestion(self, congested: bool) -> None:
        self.factory.congestion_changed(self, congested)

    def _too_slow(self, error: LinkError) -> None:
        # Called in the middle of relaying to others: take it up afterwards.
        self.factory.reactor.callLater(0, self.factory.close_link, self.link, error)

    def _explain(self, reason: Failure) -> MeshError | None:
        """Turn Twisted's reason into ours; ``None`` for a connection closed in good order."""
        greeting = self.link.state is State.GREETING
        if reason.check(ConnectionDone):
            if not greeting:
                return None
            return Unreachable(
                "the peer closed the connection before introducing itself: it may be no "
                "py2p node, use another encryption (plain or SSL), or be full"
            )
        error = reason.value or reason
        if reason.check(ConnectionLost):
            text = "the connection was lost"
            if greeting:
                text += " before the peer introduced itself; if it speaks TLS and we do not (or the other way round), that is why"
            return TransportFailed(text)
        if type(error).__module__.startswith("OpenSSL"):
            text = _openssl_text(error)
            if "wrong version number" in text or "unexpected eof" in text:
                text += "; the peer may not speak TLS at all"
            elif "certificate verify failed" in text:
                text += (
                    "; if it was dialled by a ticket, another node answers there, or that one has "
                    "another certificate now: get a new ticket"
                )
            return TransportFailed(f"TLS failed: {text}")
        return TransportFailed(f"the connection failed: {error}")


def _openssl_text(error: Any) -> str:
    """The readable part of an OpenSSL error queue."""
    try:
        return "; ".join(str(entry[-1]) for entry in error.args[0])
    except (IndexError, TypeError):
        return str(error) or type(error).__name__


def _tune(transport: Any) -> None:
    """Send at once, and have the kernel notice peers that are gone."""
    # TLS transports keep the socket one floor down.
    lower: Any = getattr(transport, "transport", transport)
    if not ITCPTransport.providedBy(lower):
        return
    lower.setTcpNoDelay(True)
    lower.setTcpKeepAlive(True)
    handle = getattr(lower, "getHandle", lambda: None)()
    if not isinstance(handle, socket.socket):
        return
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
