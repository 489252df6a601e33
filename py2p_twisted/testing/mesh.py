"""
Real nodes on a network in memory; see the package's introduction.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from py2p_twisted.core.network import Address, Network
from py2p_twisted.net.service import Delivery, MeshService
from py2p_twisted.net.tls import credentials_for
from py2p_twisted.testing.memory import MemoryNetwork, MemoryTransport

#: What the nodes' wall clocks show at the beginning: a moment of the year 2026.
EPOCH = 1_790_000_000.0

_PORT = 4444


class MemoryNode:
    """
    One node of a `MemoryMesh`.

    :ivar name: what the test calls it.
    :ivar service: the node itself, a real `MeshService`.
    :ivar received: what has arrived, as `Delivery` objects, oldest first.
    :ivar skew: seconds that its wall clock is ahead of the others'.
    """

    def __init__(
        self, mesh: MemoryMesh, name: str, address: Address, network: Network, options: Any
    ) -> None:
        self.name = name
        self.address = address
        self.received: list[Delivery] = []
        self.skew = 0.0
        self.transports: list[MemoryTransport] = []
        credentials = credentials_for(network)
        memory, clock = mesh.network, mesh.clock
        self.service = MeshService(
            clock,
            network,
            listen=[memory.server(address, credentials)],
            advertise=address,
            credentials=credentials,
            endpoint_for=lambda there, _timeout: memory.client(address, there, credentials),
            now=clock.seconds,
            wall=lambda: EPOCH + clock.seconds() + self.skew,
            rng=random.Random(name),
            salt=name,
            **options,
        )
        self.service.on_message = self.received.append
        self.service.startService()

    def __repr__(self) -> str:
        return f"<MemoryNode {self.name}>"

    @property
    def id(self) -> bytes:
        """Its node id."""
        return self.service.id

    @property
    def peers(self) -> set[bytes]:
        """The ids in its routing table."""
        return set(self.service.routing_table)

    def send(self, *packets: Any, **options: Any) -> Deferred[None]:
        """Send a message, as ``service.send`` does."""
        return self.service.send(*packets, **options)

    broadcast = send

    def connect(self, other: MemoryNode) -> Deferred[Any]:
        """Dial another node."""
        return self.service.connect(*other.address)


class MemoryMesh:
    """
    A network of nodes in memory.

    :ivar clock: the clock of all of them; `advance` turns it.
    :ivar network: where their transports meet.
    """

    def __init__(
        self, *names: str, network: Network | str = "mesh", max_outgoing: int = 0, **options: Any
    ) -> None:
        """
        :param names: one node each, started and not connected.
        :param network: which network; ``Network("mesh", "SSL")`` for real TLS in memory.
        :param max_outgoing: links that nodes seek by themselves. None by default, so that
            the mesh has the shape that a test gives it.
        :param options: limits of all nodes, see `Settings`.
        """
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self._network = Network(network) if isinstance(network, str) else network
        self._options = {"max_outgoing": max_outgoing, **options}
        self._nodes: dict[str, MemoryNode] = {}
        self._by_address: dict[Address, MemoryNode] = {}
        self.network.connected = self._connected
        for name in names:
            self.add(name)

    def __getitem__(self, name: str) -> MemoryNode:
        return self._nodes[name]

    def __iter__(self) -> Iterator[MemoryNode]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, name: str, network: Network | None = None, **options: Any) -> MemoryNode:
        """
        Start one more node.

        :param network: another network than that of the mesh.
        :param options: its own limits.
        """
        number = len(self._by_address) + 1
        address = (f"10.0.{number // 256}.{number % 256}", _PORT)
        node = MemoryNode(
            self, name, address, network or self._network, {**self._options, **options}
        )
        self._nodes[name] = node
        self._by_address[address] = node
        return node

    def link(self, one: str, other: str) -> None:
        """
        Connect two nodes, the first one dialling, and settle.

        :raises AssertionError: they did not connect.
        """
        problems: list[Any] = []
        self[one].connect(self[other]).addErrback(problems.append)
        self.settle()
        if problems or not self.linked(one, other):
            raise AssertionError(f"{one} and {other} did not connect: {problems}")

    def linked(self, one: str, other: str) -> bool:
        """Whether both nodes have each other in their routing tables."""
        return self[other].id in self[one].peers and self[one].id in self[other].peers

    def inbox(self, name: str) -> list[tuple[Any, ...]]:
        """The packets that a node has received, without their sub-flags, oldest first."""
        return [tuple(delivery.packets[1:]) for delivery in self[name].received]

    # --- time ---------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that can happen at this moment."""
        self.network.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that happens meanwhile."""
        self.network.advance(seconds)

    # --- what goes wrong ------------------------------------------------------------------

    def _connected(self, near: MemoryTransport, far: MemoryTransport) -> None:
        for transport in (near, far):
            host = transport.getHost()
            node = self._by_address.get((host.host, host.port))
            if node is not None:
                node.transports = [old for old in node.transports if not old.disconnected]
                node.transports.append(transport)

    def transports(self, one: str, other: str) -> list[MemoryTransport]:
        """The first node's ends of the connections between two nodes."""
        there = self[other].address
        return [
            transport
            for transport in self[one].transports
            if (transport.getPeer().host, transport.getPeer().port) == there
            and not transport.disconnected
        ]

    def cut(self, one: str, other: str) -> None:
        """Break the links between two nodes: both notice."""
        for transport in self.transports(one, other):
            transport.drop(ConnectionLost(), ConnectionLost())
        self.settle()

    def silence(self, one: str, other: str) -> None:
        """Let the links between two nodes die without a word: nobody notices."""
        for transport in self.transports(one, other):
            transport.silent = transport.other.silent = True

    def stall(self, name: str) -> None:
        """Have a node stop reading, as a stopped process does."""
        for transport in self[name].transports:
            transport.stalled = True

    def unstall(self, name: str) -> None:
        """Have it read again."""
        for transport in self[name].transports:
            transport.unstall()
        self.settle()

    def kill(self, name: str) -> None:
        """End a node without a goodbye: its peers see their connections break."""
        node = self._nodes.pop(name)
        for port in node.service.ports:
            port.stopListening()
        for transport in list(node.transports):
            transport.drop(ConnectionLost(), ConnectionLost())
        self.settle()
        node.service.stopService()
        self.settle()

    def stop(self, name: str) -> None:
        """Stop a node in good order."""
        node = self._nodes.pop(name)
        node.service.stopService()
        self.advance(1)
