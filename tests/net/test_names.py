"""
Names with several addresses: all but our own are tried, all of a bootstrap name are known, and
those behind it may be others the next time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from py2p_twisted.core.network import Address, Network
from py2p_twisted.core.ticket import Ticket
from py2p_twisted.errors import BadArgument, SelfConnection
from py2p_twisted.net import MeshService
from py2p_twisted.net.endpoints import MOST_ADDRESSES, MOST_OF_OTHERS, Names, client_endpoint
from py2p_twisted.net.service import join_through
from py2p_twisted.net.tls import SelfMade
from py2p_twisted.testing.memory import MemoryNetwork

NAME = ("mesh.example", 4444)


@implementer(IHostnameResolver)
class ToyResolver:
    """
    Knows what the test says.

    :ivar hosts: the addresses of each name.
    :ivar asked: names that were looked up.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, list[str]] = {}
        self.asked: list[str] = []

    def resolveHostName(
        self, receiver: Any, hostName: str, portNumber: int = 0, addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:  # fmt: skip
        self.asked.append(hostName)
        receiver.resolutionBegan(self)
        for host in self.hosts.get(hostName, []):
            kind = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(kind("TCP", host, portNumber))
        receiver.resolutionComplete()
        return self


@implementer(IReactorPluggableNameResolver)
class ToyReactor(Clock):
    """
    Dials nobody, but notes who was to be dialled.

    :ivar dialled: hosts, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = ToyResolver()
        self.dialled: list[Address] = []
        self.factories: list[Any] = []

    def installNameResolver(self, resolver: Any) -> Any:
        raise AssertionError("nobody should")

    def connectTCP(self, host: str, port: int, factory: Any, *_: Any, **__: Any) -> Any:
        self.dialled.append((host, port))
        self.factories.append(factory)
        return self

    def stopConnecting(self) -> None:
        pass

    disconnect = stopConnecting


class Toys(Names):
    """Names of the test's: our own addresses, and what was found; the order is kept."""

    def __init__(self, *ours: str) -> None:
        self.ours = ours
        self.told: list[tuple[Address, list[Address]]] = []

    def is_ours(self, address: Address) -> bool:
        return address[0] in self.ours

    def found(self, name: Address, addresses: Any) -> None:
        self.told.append((name, list(addresses)))

    def order(self, addresses: list[Any]) -> None:
        pass


class EndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ToyReactor()
        self.hosts = self.reactor.nameResolver.hosts

    def dial(self, names: Names | None, credentials: Any = None) -> Any:
        endpoint = client_endpoint(self.reactor, NAME, credentials, 5.0, names)
        return endpoint.connect(Factory.forProtocol(Protocol))

    def test_all_but_ours(self) -> None:
        """Our own address is left out; the others are tried one after the other, and all are told."""
        self.hosts["mesh.example"] = ["10.0.0.1", "10.0.0.2", "2001:db8::3"]
        names = Toys("10.0.0.1")
        dialling = self.dial(names)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.dialled, [("10.0.0.2", 4444)])
        self.reactor.advance(0.3)
        self.assertEqual(self.reactor.dialled[1:], [("2001:db8::3", 4444)])
        self.assertEqual(names.told, [(NAME, [("10.0.0.2", 4444), ("2001:db8::3", 4444)])])
        for factory in self.reactor.factories:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.reactor.advance(0.3)
        self.failureResultOf(dialling, ConnectionRefusedError)

    def test_over_tls(self) -> None:
        """The same holds when the connection is wrapped."""
        self.hosts["mesh.example"] = ["10.0.0.1", "10.0.0.2"]
        self.dial(Toys("10.0.0.1"), SelfMade()).addErrback(lambda _: None)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.dialled, [("10.0.0.2", 4444)])

    def test_nobody_else(self) -> None:
        """A name that leads here alone is told from one that leads nowhere."""
        self.hosts["mesh.example"] = ["10.0.0.1", "10.0.0.1"]
        self.failureResultOf(self.dial(Toys("10.0.0.1")), SelfConnection)
        self.hosts["mesh.example"] = []
        self.failureResultOf(self.dial(Toys("10.0.0.1")), DNSLookupError)
        self.assertEqual(self.reactor.dialled, [])

    def test_each_time_anew(self) -> None:
        """Pods come and go: a name is looked up whenever it is dialled."""
        for host in ("10.0.0.2", "10.0.0.3"):
            self.hosts["mesh.example"] = [host]
            self.dial(None).addErrback(lambda _: None)
            self.reactor.advance(0)
        self.assertEqual(self.reactor.dialled, [("10.0.0.2", 4444), ("10.0.0.3", 4444)])
        self.assertEqual(self.reactor.nameResolver.asked, ["mesh.example"] * 2)

    def test_many(self) -> None:
        """Of a name with a thousand addresses some are used, and each once."""
        self.hosts["mesh.example"] = [f"10.0.{n // 250}.{n % 250}" for n in range(1000)] * 2
        names = Toys()
        self.dial(names).addErrback(lambda _: None)
        ((_, told),) = names.told
        self.assertEqual((len(told), len(set(told))), (MOST_ADDRESSES, MOST_ADDRESSES))

    def test_many_that_may_be_ours(self) -> None:
        """Nor is asked of each of a thousand whether it is our own, as that has its price."""
        self.hosts["mesh.example"] = [f"10.0.{n // 250}.{n % 250}" for n in range(1000)]
        names = Toys("10.0.0.0", "10.0.0.7")
        asked: list[Address] = []
        is_ours = names.is_ours
        names.is_ours = lambda one: asked.append(one) or is_ours(one)  # type: ignore[func-returns-value, method-assign]
        self.dial(names).addErrback(lambda _: None)
        self.assertEqual(len(asked), MOST_ADDRESSES + 2)
        self.assertEqual(len(names.told[0][1]), MOST_ADDRESSES)

    def test_found_too_late(self) -> None:
        """What a name stands for is nobody's concern when whoever has asked does not wait for it."""
        resolver = self.reactor.nameResolver
        waiting: list[Any] = []
        self.patch(resolver, "resolveHostName", lambda receiver, *_, **__: waiting.append(receiver))
        names = Toys()
        dialling = self.dial(names)
        dialling.cancel()
        self.failureResultOf(dialling)
        (receiver,) = waiting
        receiver.addressResolved(IPv4Address("TCP", "10.0.0.2", 4444))
        receiver.resolutionComplete()
        self.reactor.advance(1)
        self.assertEqual((names.told, self.reactor.dialled), ([], []))

    def test_order_is_random(self) -> None:
        """Of many nodes with one name not all dial the same address first."""
        self.hosts["mesh.example"] = [f"10.0.0.{n}" for n in range(1, 30)]
        for _ in range(20):
            self.dial(None).addErrback(lambda _: None)
            self.reactor.advance(0)
        self.assertGreater(len(set(self.reactor.dialled)), 3)


class NodeTests(SynchronousTestCase):
    """Nodes whose bootstrap address is a name."""

    def setUp(self) -> None:
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)
        self.reactor = ToyReactor()
        self.hosts = self.reactor.nameResolver.hosts
        self.network = MemoryNetwork(self.reactor)

    def node(self, host: str, **options: Any) -> MeshService:
        """A node that listens at a host, and dials in memory what its endpoint would over TCP."""
        here = (host, 4444)
        made: list[MeshService] = []

        def endpoint_for(address: Address, timeout: float) -> Any:
            return _InMemory(self, here, address, lambda: made[0])

        made.append(
            MeshService(
                self.reactor,
                listen=[self.network.server(here)],
                endpoint_for=endpoint_for,
                now=self.reactor.seconds,
                rng=random.Random(host),
                salt=host,
                **options,
            )
        )
        made[0].start().addErrback(self.fail)
        return made[0]

    def lines(self, *levels: Any) -> list[str]:
        return [event.get("event", "") for event in self.events if event["log_level"] in levels]

    def test_headless_service(self) -> None:
        """Three nodes know one name, which stands for all of them and a dead one: they meet."""
        hosts = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        self.hosts["mesh.example"] = [*hosts, "10.0.0.99"]
        nodes = [self.node(host, peers=[NAME]) for host in hosts]
        self.network.advance(60.0)
        for node in nodes:
            self.assertEqual(len(node.settled), 2)
            self.assertNotIn(NAME, node.factory.node.dialer._ours)

    def test_alone_at_first(self) -> None:
        """The first node finds nobody but itself, which is no trouble; who comes later is found."""
        self.hosts["mesh.example"] = ["10.0.0.1"]
        node = self.node("10.0.0.1", peers=[NAME])
        self.network.advance(60.0)
        self.assertEqual(list(node.errors), [])
        self.assertNotIn("no connection", self.lines(LogLevel.info, LogLevel.warn))
        other = self.node("10.0.0.2")
        self.hosts["mesh.example"].append("10.0.0.2")
        self.network.advance(20.0)
        self.assertEqual(node.settled, {other.id})

    def test_led_back_by_another_address(self) -> None:
        """An address that leads back here, as through a router, is left out the next time."""
        self.hosts["mesh.example"] = ["10.0.0.1"]
        # One that dials only what it was told to, or the address would be dialled by itself, too.
        node = self.node("10.0.0.1", peers=[NAME], advertise="203.0.113.9:4444", max_outgoing=0)
        node.factory.node.dialer._ours.discard(("10.0.0.1", 4444))
        self.network.advance(1.0)
        self.assertTrue(node.factory.node.dialer.is_ours(("10.0.0.1", 4444)))
        self.assertTrue(node.factory.node.dialer.is_wanted(NAME))

    def test_names_that_peers_say(self) -> None:
        """Of a name that nobody here has given, the other addresses go into no book."""
        self.hosts["mesh.example"] = ["10.0.0.8", "10.0.0.9"]
        node = self.node("10.0.0.1")
        node.factory.heard(NAME, b"", b"somebody")
        self.network.advance(5.0)
        self.assertEqual(self.reactor.nameResolver.asked[:1], ["mesh.example"])
        self.assertEqual(node.factory.node.dialer.known, [NAME])

    def test_where_names_that_peers_say_may_lead(self) -> None:
        """Where an address may not lead, a name may not either; and to few places at once."""
        self.hosts["mesh.example"] = ["127.0.0.1", "224.0.0.9", "0.0.0.0"]
        node = self.node("10.0.0.1", max_outgoing=1)
        node.factory.heard(NAME, b"", b"somebody")
        self.network.advance(5.0)
        self.assertEqual(self.reactor.nameResolver.asked[:1], ["mesh.example"])
        self.assertEqual(self.reactor.dialled, [])
        self.hosts["mesh.example"] = [f"10.0.{n // 250}.{n % 250}" for n in range(1000)]
        told: list[Any] = []
        self.patch(node.names, "found", lambda _, addresses: told.append(addresses))
        self.network.advance(60.0)
        self.assertEqual({len(one) for one in told}, {MOST_OF_OTHERS})


class _InMemory:
    """What `client_endpoint` would do, where the first address that somebody listens at answers."""

    def __init__(
        self, test: NodeTests, here: Address, address: Address, node: Callable[[], MeshService]
    ) -> None:
        self.test, self.here, self.address, self.node = test, here, address, node

    def connect(self, factory: Any) -> Any:
        test = self.test
        if not self.address[0].endswith(".example"):
            return test.network.client(self.here, self.address).connect(factory)
        before = len(test.reactor.dialled)
        names = self.node().names
        dialling = client_endpoint(test.reactor, self.address, None, 5.0, names).connect(factory)
        test.reactor.advance(0)
        for address in test.reactor.dialled[before:]:
            dialling.addErrback(lambda _: None)
            dialling.cancel()
            return test.network.client(self.here, address).connect(factory)
        return dialling


class TicketTests(SynchronousTestCase):
    """What a service makes of tickets among its peers."""

    def test_the_network_of_a_ticket(self) -> None:
        """It is joined if nobody has named another; the addresses are bootstrap addresses."""
        alerts = Network("alerts", "SSL")
        ticket = Ticket(alerts, (("192.0.2.7", 4444), ("192.0.2.8", 4444)))
        self.assertEqual(
            join_through(None, [str(ticket), "192.0.2.7:4444", ("192.0.2.9", 1)]),
            (alerts, [("192.0.2.7", 4444), ("192.0.2.8", 4444), ("192.0.2.9", 1)]),
        )
        self.assertEqual(join_through(alerts, [ticket])[0], alerts)
        self.assertEqual(join_through(None, []), (Network("mesh"), []))
        made = MeshService(Clock(), listen=(), peers=[str(ticket)])
        self.assertEqual(made.network, alerts)

    def test_another_one(self) -> None:
        """A ticket for another network, another encryption, or with a mistake, is an error."""
        ticket = Ticket(Network("alerts"), (("192.0.2.7", 4444),))
        other = Ticket(Network("mesh"), (("192.0.2.7", 4444),))
        for network, peers in (
            (Network("mesh"), [ticket]),
            (Network("alerts", "SSL"), [ticket]),
            (None, [ticket, other]),
            (None, [str(ticket)[:-1]]),
        ):
            self.assertRaises(BadArgument, join_through, network, peers)

    def test_of_a_node(self) -> None:
        """A node's ticket has its own address first, and then some of its neighbours'."""
        network = MemoryNetwork(Clock())
        nodes = []
        for number in range(1, 7):
            here = (f"10.0.0.{number}", 4444)
            made = MeshService(
                network.clock,
                "alerts",
                listen=[network.server(here)],
                endpoint_for=lambda to, _, here=here: network.client(here, to),
                peers=["10.0.0.1:4444"] if nodes else [],
                now=network.clock.seconds,
                rng=random.Random(number),
                salt=str(number),
            )
            made.start()
            nodes.append(made)
        network.advance(30.0)
        ticket = nodes[0].ticket()
        self.assertEqual(ticket.network, Network("alerts"))
        self.assertEqual(ticket.addresses[0], ("10.0.0.1", 4444))
        self.assertEqual(len(ticket.addresses), 4)
        self.assertEqual(nodes[0].ticket(others=0).addresses, (("10.0.0.1", 4444),))

    def test_of_a_node_that_nobody_can_dial(self) -> None:
        """Without neighbours it has none."""
        made = MeshService(Clock(), listen=())
        made.start()
        self.assertRaises(BadArgument, made.ticket)
