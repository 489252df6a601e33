"""
Transports in memory, and the network they belong to.

Bytes that are written wait in the writer's transport until the network delivers them, in
order on each connection. A transport honours producers as a TCP transport does: above
`HIGH_WATER` its writer is told to pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IConsumer,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from py2p_twisted.core.network import Address
from py2p_twisted.net.tls import Credentials

#: Bytes in a transport above which its writer is paused, as in Twisted's TCP transports.
HIGH_WATER: Final = 64 * 1024


class MemoryNetwork:
    """
    Where transports meet: who listens at which address, and what is under way.

    :ivar clock: the clock that everything in here runs by.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._listening: dict[Address, IProtocolFactory] = {}
        self._ready: deque[MemoryTransport] = deque()
        #: Called with both transports of every new connection.
        self.connected: Callable[[MemoryTransport, MemoryTransport], None] = lambda a, b: None

    def server(self, address: Address, credentials: Credentials | None = None) -> _Server:
        """An endpoint that listens at an address."""
        return _Server(self, address, credentials)

    def client(
        self, source: Address, address: Address, credentials: Credentials | None = None
    ) -> _Client:
        """An endpoint that dials an address."""
        return _Client(self, source, address, credentials)

    def deliver(self) -> bool:
        """
        Move what is under way, once round.

        :return: whether there was anything.
        """
        ready, self._ready = self._ready, deque()
        for transport in ready:
            transport.deliver()
        return bool(ready)

    def settle(self) -> None:
        """Deliver until nothing moves any more, without letting time pass."""
        while True:
            moved = self.deliver()
            self.clock.advance(0)
            if not moved and not self._ready and not self._due():
                return

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping wherever something is due, and settle."""
        end = self.clock.seconds() + seconds
        self.settle()
        while True:
            calls = [call.getTime() for call in self.clock.getDelayedCalls()]
            now = self.clock.seconds()
            following = min(calls, default=end)
            if following >= end:
                self.clock.advance(max(0.0, end - now))
                self.settle()
                return
            self.clock.advance(max(0.0, following - now))
            self.settle()

    def _due(self) -> bool:
        now = self.clock.seconds()
        return any(call.getTime() <= now for call in self.clock.getDelayedCalls())

    def _schedule(self, transport: MemoryTransport) -> None:
        self._ready.append(transport)


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    One end of a connection.

    :ivar other: the other end.
    :ivar silent: what is written vanishes, as when a cable is pulled.
    :ivar stalled: its owner does not read, as when a process is stopped.
    """

    disconnecting = False

    def __init__(self, network: MemoryNetwork, here: Address, there: Address) -> None:
        self.other: MemoryTransport
        self.protocol: IProtocol | None = None
        self.silent = False
        self.stalled = False
        self.disconnected = False
        self._network = network
        self._here = IPv4Address("TCP", *here)
        self._there = IPv4Address("TCP", *there)
        self._written: deque[bytes] = deque()
        self._size = 0
        self._scheduled = False
        self._reading = True
        self._producer: Any = None
        self._paused = False

    @property
    def pending(self) -> int:
        """Bytes that have been written and not been delivered."""
        return self._size

    # --- ITransport ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes for the other end."""
        if self.disconnecting or self.disconnected or self.silent:
            return
        self._written.append(data)
        self._size += len(data)
        self._wake()
        if self._size > HIGH_WATER and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Queue several pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close in good order, once everything has been delivered."""
        if not self.disconnecting:
            self.disconnecting = True
            self._wake()

    def abortConnection(self) -> None:
        """Close at once; what is under way is lost."""
        self.drop(ConnectionDone(), ConnectionLost())

    def getPeer(self) -> IPv4Address:
        """The other end's address."""
        return self._there

    def getHost(self) -> IPv4Address:
        """This end's address."""
        return self._here

    # --- IConsumer, and what is asked of us as a producer -------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer write, as long as there is room."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """It has ended."""
        self._producer = None
        self._wake()

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read on."""
        self._reading = True
        self.other._wake()

    def stopProducing(self) -> None:
        """Stop for good."""
        self.loseConnection()

    # --- the network ------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._scheduled and not self.disconnected:
            self._scheduled = True
            self._network._schedule(self)

    def deliver(self) -> None:
        """Hand what has been written to the other end's protocol."""
        self._scheduled = False
        other = self.other
        while self._written and other._reading and not other.stalled and not self.disconnected:
            data = self._written.popleft()
            self._size -= len(data)
            if other.protocol is not None:
                other.protocol.dataReceived(data)
        if self._paused and self._size <= HIGH_WATER and self._producer is not None:
            self._paused = False
            self._producer.resumeProducing()
        if self.disconnecting and not self._written and not self._paused:
            self.drop(ConnectionDone(), ConnectionDone())

    def drop(self, here: Exception, there: Exception) -> None:
        """End the connection at both ends, each with its own reason."""
        for end, reason in ((self, here), (self.other, there)):
            if end.disconnected:
                continue
            end.disconnected = True
            end._written.clear()
            end._size = 0
            if end.protocol is not None and (end is self or not self.silent):
                self._network.clock.callLater(0, end.protocol.connectionLost, Failure(reason))

    def unstall(self) -> None:
        """Read again, beginning with what has piled up."""
        self.stalled = False
        self.other._wake()


@implementer(IListeningPort)
class _Port:
    def __init__(self, network: MemoryNetwork, address: Address) -> None:
        self._network = network
        self._address = address

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> Deferred[None]:
        self._network._listening.pop(self._address, None)
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", *self._address)


@implementer(IStreamServerEndpoint)
class _Server:
    def __init__(
        self, network: MemoryNetwork, address: Address, credentials: Credentials | None
    ) -> None:
        self._network = network
        self._address = address
        self._credentials = credentials

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        if self._credentials is not None:
            factory = TLSMemoryBIOFactory(
                self._credentials.server(), False, factory, clock=self._network.clock
            )
        self._network._listening[self._address] = factory
        port: IListeningPort = _Port(self._network, self._address)
        return succeed(port)


@implementer(IStreamClientEndpoint)
class _Client:
    def __init__(
        self,
        network: MemoryNetwork,
        source: Address,
        address: Address,
        credentials: Credentials | None,
    ) -> None:
        self._network = network
        self._source = source
        self._address = address
        self._credentials = credentials

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        network = self._network
        listening = network._listening.get(self._address)
        accepted = listening.buildProtocol(IPv4Address("TCP", *self._source)) if listening else None
        if accepted is None:
            return fail(ConnectionRefusedError())
        if self._credentials is not None:
            factory = TLSMemoryBIOFactory(
                self._credentials.client(), True, factory, clock=network.clock
            )
        dialled = factory.buildProtocol(IPv4Address("TCP", *self._address))
        if dialled is None:
            return fail(ConnectionRefusedError())
        near = MemoryTransport(network, self._source, self._address)
        far = MemoryTransport(network, self._address, self._source)
        near.other, far.other = far, near
        near.protocol, far.protocol = dialled, accepted
        network.connected(near, far)
        # In a turn of its own, as with a real reactor.
        network.clock.callLater(0, dialled.makeConnection, near)
        network.clock.callLater(0, accepted.makeConnection, far)
        return succeed(dialled)
