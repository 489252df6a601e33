"""
One node whose peers the test plays, byte by byte, on transports that the test watches.

`MemoryMesh` is for what happens between nodes; this is for what one of them does to a transport.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import Address
from py2p_twisted.core.settings import Settings
from py2p_twisted.errors import MeshError
from py2p_twisted.net.factory import Application, MeshFactory
from py2p_twisted.net.protocol import MeshProtocol
from tests.core.support import MESH, WALL, handshake, unwrap


class Wire:
    """
    A transport without any other end.

    :ivar calls: what was done to it, besides writing: ``loseConnection``, ``abortConnection``,
        ``loseWriteConnection``, in order.
    :ivar reading: whether it has not been told to pause.
    """

    disconnecting = False

    def __init__(self, peer: Address) -> None:
        self.calls: list[str] = []
        self.written = b""
        self.reading = True
        self.producer: Any = None
        self._peer = peer

    def write(self, data: bytes) -> None:
        assert not self.calls, "written to after its end"
        self.written += data

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        assert self.producer is None, "a transport is not closed while it has a producer"
        self.calls.append("loseConnection")

    def abortConnection(self) -> None:
        self.calls.append("abortConnection")

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", *self._peer)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "10.0.0.1", 4444)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def frames(self) -> list[Message]:
        """What has been written, message by message."""
        found, data = [], self.written
        while data:
            size = 4 + int.from_bytes(data[:4], "big")
            found.append(unwrap(data[:size]))
            data = data[size:]
        return found


class HalfWire(Wire):
    """One whose writing half can be closed by itself, as that of a TCP connection can."""

    def loseWriteConnection(self) -> None:
        assert self.producer is None
        self.calls.append("loseWriteConnection")


@implementer(ISSLTransport)
class TLSWire(HalfWire):
    """One of TLS, which seems to offer that: Twisted passes on what the socket below has."""

    def getPeerCertificate(self) -> None:
        return None

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass


class UncutWire(Wire):
    """One that can be closed in good order alone."""

    @property
    def abortConnection(self) -> None:  # type: ignore[override]
        raise AttributeError("abortConnection")


class Endpoint:
    """Where a dial goes: the test answers it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.done: Deferred[Any] = Deferred()
        self.factory: Any = None

    def connect(self, factory: Factory) -> Deferred[Any]:
        self.factory = factory
        return self.done


class Listener(Application):
    """What the node's application was told."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, ...]] = []
        self.left: list[MeshError] = []
        self.failed: list[Exception] = []

    def message_received(self, message: Message, link: Connection) -> None:
        self.messages.append(message.payload[1:])

    def peer_left(self, link: Connection, error: MeshError, last: bool) -> None:
        self.left.append(error)

    def link_failed(self, error: Exception, where: str) -> None:
        self.failed.append(error)


class Host:
    """
    The node.

    :ivar dials: where it has dialled, oldest first.
    """

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.dials: list[Endpoint] = []
        self.application = Listener()
        limits.setdefault("max_outgoing", 0)
        self.factory = MeshFactory(
            self.clock,
            MESH,
            self._endpoint,
            application=self.application,
            settings=Settings(**limits),
            now=self.clock.seconds,
            wall=lambda: WALL + self.clock.seconds(),
            rng=random.Random(1),
        )
        self.factory.start(b"Me", ("10.0.0.1", 4444))

    def _endpoint(self, address: Address, timeout: float) -> Any:
        self.dials.append(Endpoint(address))
        return self.dials[-1]

    def accept(
        self, kind: type[Wire] = Wire, *, peer: Address = ("10.0.0.9", 50_000)
    ) -> MeshProtocol:
        """Somebody has connected to it."""
        protocol = self.factory.buildProtocol(None)
        assert protocol is not None
        protocol.makeConnection(kind(peer))  # type: ignore[arg-type]
        return protocol

    def join(
        self,
        ident: bytes | str = b"Peer",
        kind: type[Wire] = Wire,
        *,
        peer: Address = ("10.0.0.9", 50_000),
        **said: Any,
    ) -> MeshProtocol:
        """Somebody has connected to it, and introduces itself."""
        protocol = self.accept(kind, peer=peer)
        said.setdefault("time", int(self.factory.wall()))
        protocol.dataReceived(handshake(ident, **said))
        return protocol

    def dial(self, address: Address = ("10.0.0.9", 4444)) -> tuple[Endpoint, Deferred[Any]]:
        """It dials an address, where nobody has answered yet."""
        done = self.factory.connect(address)
        return self.dials[-1], done

    def answered(self, endpoint: Endpoint, kind: type[Wire] = Wire) -> MeshProtocol:
        """A dial has been answered."""
        protocol: MeshProtocol = endpoint.factory.buildProtocol(None)
        endpoint.done.callback(protocol)
        protocol.makeConnection(kind(endpoint.address))  # type: ignore[arg-type]
        return protocol

    def message(self, *packets: Any) -> Message:
        """A whisper of its own."""
        return self.factory.node.composer.compose(2, 2, packets, self.factory.wall())

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that is due on the way."""
        end = self.clock.seconds() + seconds
        while True:
            due = [call.getTime() for call in self.clock.getDelayedCalls()]
            if not due or min(due) > end:
                break
            self.clock.advance(max(0.0, min(due) - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))


def wire(protocol: MeshProtocol) -> Any:
    """A protocol's transport."""
    return protocol.transport


def look(factory: MeshFactory, address: Address, ident: bytes) -> None:
    """Have a node make a link as its mechanisms do: if there are neighbours enough, for a look."""
    node = factory.node
    assert node.dialer.visit(address, ident, factory.now())
    factory.perform(node._decisions())


def mute(factory: MeshFactory) -> None:
    """Make a plain node one that sends no list of peers, so that it takes two seconds to know it."""
    factory.node._send_peers = lambda link: None  # type: ignore[method-assign]


def gone(protocol: MeshProtocol, *, well: bool = True) -> None:
    """The other end has closed the connection, or it has broken."""
    protocol.connectionLost(Failure(ConnectionDone() if well else ConnectionLost()))
