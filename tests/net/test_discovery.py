"""
Discovery: who hears of whom, how often something is said, and what strangers can make of it.

The local network is a toy: what a node sends to the group comes to all sockets at the same port,
its own one included. Connections are in memory, time is turned by hand.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core import beacon
from py2p_twisted.core.beacon import Beacon
from py2p_twisted.core.network import Network
from py2p_twisted.errors import BadArgument
from py2p_twisted.net import MeshService, service
from py2p_twisted.net import interfaces as system
from py2p_twisted.net.discovery import (
    ANSWER_GAP,
    ANSWER_WITHIN,
    FIRST_GAPS,
    FIRST_SPREAD,
    GROUP_4,
    GROUP_6,
    INTERVAL,
    JITTER,
    NEW,
    PORT,
    REMEMBERED,
    RESCAN,
    SLOW_INTERVAL,
    Discovery,
)
from py2p_twisted.net.interfaces import Interface, leading_outside
from py2p_twisted.testing.memory import MemoryNetwork

TAG = beacon.network_tag(Network("mesh"))


class Handle:
    """What is set on a socket."""

    def __init__(self) -> None:
        self.set: dict[tuple[int, int], Any] = {}
        self.error: OSError | None = None

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        if self.error is not None:
            raise self.error
        self.set[level, name] = value


class UDPPort:
    """One socket."""

    def __init__(
        self, lan: ToyLan, host: ToyHost, protocol: Any, interface: str, number: int
    ) -> None:
        self.lan, self.host, self.protocol = lan, host, protocol
        self.interface, self.number = interface, number
        self.handle = Handle()
        self.handle.error = host.join_error

    def getHandle(self) -> Handle:
        return self.handle

    def write(self, data: bytes, to: tuple[str, int]) -> None:
        if self.host.send_error is not None:
            raise self.host.send_error
        source = self.host.six if ":" in to[0] else self.host.four
        self.lan.sent.append((self.lan.clock.seconds(), source, data))
        self.lan.say(data, source, to)

    def stopListening(self) -> Deferred[None]:
        if self in self.lan.ports:
            self.lan.ports.remove(self)
        return succeed(None)


class ToyLan:
    """
    A local network.

    :ivar sent: when, from where, and what.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ports: list[UDPPort] = []
        self.sent: list[tuple[float, str, bytes]] = []

    def say(self, data: bytes, source: str, to: tuple[str, int] = (GROUP_4, PORT)) -> None:
        """Have everybody hear a datagram."""
        for port in list(self.ports):
            six = port.protocol.place.family == socket.AF_INET6
            if port.number == to[1] and six == (":" in to[0]):
                port.protocol.datagramReceived(data, (source, 40_000))


class ToyHost:
    """
    A reactor with a place in the local network.

    :ivar interfaces: what it has.
    """

    def __init__(self, lan: ToyLan, four: str, six: str) -> None:
        self.lan, self.four, self.six = lan, four, six
        self.interfaces = [
            Interface("lo", 1, ("127.0.0.1",), ("::1",), loopback=True, multicast=False),
            Interface("eth0", 2, (four,), (six,)),
        ]
        self.listen_error: Exception | None = None
        self.join_error: OSError | None = None
        self.send_error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lan.clock, name)

    def listenMulticast(
        self, port: int, protocol: Any, interface: str, maxPacketSize: int, listenMultiple: bool
    ) -> UDPPort:
        assert listenMultiple
        assert maxPacketSize == beacon.LARGEST + 1
        if self.listen_error is not None:
            raise self.listen_error
        made = UDPPort(self.lan, self, protocol, interface, port)
        self.lan.ports.append(made)
        return made


class DiscoveryTestCase(SynchronousTestCase):
    """
    Nodes that run in a toy local network.

    :ivar lan: that network.
    """

    def setUp(self) -> None:
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.lan = ToyLan(self.clock)
        self.hosts: list[ToyHost] = []
        # Routes of the machine that this runs on do not matter.
        self.patch(system, "_outward", list)

    def host(self) -> ToyHost:
        number = len(self.hosts) + 1
        host = ToyHost(self.lan, f"10.0.0.{number}", f"fe80::{number}")
        self.hosts.append(host)
        self.patch(service, "lan_address", lambda: host.four)
        return host

    def node(
        self, host: ToyHost | None = None, *interfaces: str, listen: tuple[str, ...] | None = None,
        network: Network | str = "mesh", **options: Any,
    ) -> MeshService:  # fmt: skip
        """A node with discovery, once it has started."""
        host = host or self.host()
        address = (host.four, 4444)
        made = MeshService(
            host,
            network,
            listen=[self.network.server((one, 4444)) for one in listen or (host.four,)],
            endpoint_for=lambda to, timeout: self.network.client(address, to),
            discover=Discovery(interfaces, look=lambda: host.interfaces),
            now=self.clock.seconds,
            rng=random.Random(len(self.hosts)),
            salt=host.four,
            **options,
        )
        made.start().addErrback(self.fail)
        return made

    def advance(self, seconds: float) -> None:
        self.network.advance(seconds)

    def counted(self, node: MeshService) -> Any:
        assert node.discovery is not None
        return node.discovery.counters

    def said(self, *levels: Any) -> list[str]:
        """What has been logged about discovery."""
        return [
            formatEvent(event)
            for event in self.events
            if event["log_namespace"] == "py2p_twisted.discovery"
            and (not levels or event["log_level"] in levels)
        ]

    def times(self, source: str) -> list[float]:
        """When beacons came from an address."""
        return [when for when, where, _ in self.lan.sent if where == source]

    def liar(self, number: int, **fields: Any) -> bytes:
        said = {
            "ident": f"liar{number}".encode(),
            "port": 1 + number,
            "host": "10.0.0.250",
            **fields,
        }
        return beacon.write(Beacon(**said), TAG)


class MeetingTests(DiscoveryTestCase):
    def test_two_meet(self) -> None:
        """Two nodes that know nobody are connected a moment later, and log where they look."""
        one, other = self.node(), self.node()
        self.advance(2.0)
        self.assertEqual((one.settled, other.settled), ({other.id}, {one.id}))
        self.assertIn(
            "discovering nodes of network mesh at eth0 (IPv4), address 10.0.0.1, UDP port 20444",
            self.said(),
        )
        self.assertTrue(any(line.startswith("found a node at 10.0.0.") for line in self.said()))
        self.assertEqual(one.status["discovery"]["interfaces"], "eth0 (IPv4), eth0 (IPv6)")

    def test_one_that_comes_later(self) -> None:
        """A newcomer is answered, so that it knows somebody even if nobody needs it."""
        one, other = self.node(max_outgoing=0), self.node()
        self.advance(100.0)
        newcomer = self.node()
        self.advance(1 + ANSWER_WITHIN)
        self.assertGreaterEqual(len(newcomer.settled), 1)
        self.assertGreater(sum(self.counted(node)["answers"] for node in (one, other)), 0)

    def test_another_network(self) -> None:
        """Who belongs to another network, or speaks TLS, is not even dialled."""
        dialled: list[Any] = []
        self.patch(self.network, "client", lambda *where: dialled.append(where))
        nodes = [self.node(network=Network(name)) for name in ("red", "blue")]
        self.advance(30.0)
        self.assertEqual(dialled, [])
        for node in nodes:
            self.assertGreater(self.counted(node)["foreign"], 3)

    def test_own_beacons(self) -> None:
        """A node alone hears itself, and makes nothing of it."""
        node = self.node()
        self.advance(30.0)
        self.assertGreater(self.counted(node)["own"], 4)
        self.assertEqual(self.counted(node)["new"], 0)
        self.assertEqual(node.factory.node.dialer.known, [])

    def test_nothing_is_pinned(self) -> None:
        """What a beacon says is a candidate like others, given up when nobody is there."""
        node = self.node()
        self.lan.say(self.liar(1), "10.0.0.250")
        self.advance(60.0)
        dialer = node.factory.node.dialer
        self.assertIn(("10.0.0.250", 2), dialer.known)
        self.assertFalse(dialer.is_wanted(("10.0.0.250", 2)))

    def test_off(self) -> None:
        """Without it there is no socket, and nothing in the status."""
        host = self.host()
        node = MeshService(host, listen=[self.network.server((host.four, 4444))])
        node.start()
        self.advance(10.0)
        self.assertEqual((self.lan.ports, self.lan.sent), ([], []))
        self.assertNotIn("discovery", node.status)

    def test_stop(self) -> None:
        """A node that stops closes its sockets and says nothing more; its reactor is at rest."""
        node = self.node()
        self.advance(2.0)
        node.stopService()
        self.advance(10.0)
        count = len(self.lan.sent)
        self.advance(1000.0)
        self.assertEqual((len(self.lan.sent), self.lan.ports), (count, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_reactor_without_multicast(self) -> None:
        """It is said, and the node runs."""
        made = MeshService(
            self.clock, listen=[self.network.server(("10.0.0.9", 4444))], discover=True
        )
        made.start().addErrback(self.fail)
        self.assertEqual(len(self.said(LogLevel.warn)), 1)
        made.stopService()


class BeaconOfOursTests(DiscoveryTestCase):
    """What a node says of itself."""

    def beacon(
        self, listen: tuple[str, ...], family: int = socket.AF_INET, **options: Any
    ) -> Beacon:
        self.hosts.clear()
        self.lan.sent.clear()
        host = self.host()
        node = self.node(host, listen=listen, **options)
        self.advance(0.5)
        to = GROUP_4 if family == socket.AF_INET else GROUP_6
        source = host.four if to == GROUP_4 else host.six
        (data,) = [data for _, where, data in self.lan.sent if where == source]
        node.stopService()
        return beacon.read(data, TAG)

    def test_everywhere(self) -> None:
        """Who listens everywhere is dialled where the beacon is from."""
        for listen in ("0.0.0.0", "::"):
            found = self.beacon((listen,))
            self.assertEqual((found.port, found.host), (4444, None), listen)
        self.assertEqual(self.beacon(("::",), socket.AF_INET6).port, 4444)

    def test_one_address(self) -> None:
        """Who listens at one of the interface's addresses says so if it is not the usual one."""
        self.assertEqual(self.beacon(("10.0.0.1",)).host, None)
        self.hosts.clear()
        self.lan.sent.clear()
        host = self.host()
        host.interfaces[1] = Interface("eth0", 2, ("10.0.0.1", "10.0.0.77"), ())
        self.node(host, listen=("10.0.0.77",))
        self.advance(0.5)
        found = beacon.read(self.lan.sent[-1][2], TAG)
        self.assertEqual((found.port, found.host), (4444, "10.0.0.77"))

    def test_not_to_be_dialled(self) -> None:
        """Who listens elsewhere, or in the other family, only asks."""
        self.assertEqual(self.beacon(("172.16.0.1",)).port, 0)
        self.hosts.clear()
        self.assertEqual(self.beacon(("0.0.0.0",), socket.AF_INET6).port, 0)
        self.assertTrue(any("nobody can dial this node there" in line for line in self.said()))

    def test_link_local(self) -> None:
        """Over IPv6 the address to dial has the interface's name; it is told to nobody else."""
        node = self.node()
        self.lan.say(self.liar(3, host=None), "fe80::77", (GROUP_6, PORT))
        dialer = node.factory.node.dialer
        self.assertEqual(dialer.known, [("fe80::77%eth0", 4)])
        self.assertEqual(len(node.factory.node.mesh.membership.passive), 0)
        for source in ("2001:db8::1", "::ffff:10.0.0.9"):
            self.lan.say(self.liar(4, host=None), source, (GROUP_6, PORT))
        self.assertEqual(len(dialer.known), 1)
        self.assertEqual(self.counted(node)["foreign"], 1)

    def test_link_local_by_name(self) -> None:
        """Which interface an address of the link is at, the one that hears of it says, nobody else."""
        node = self.node()
        self.lan.say(self.liar(3, host="fe80::78"), "fe80::77", (GROUP_6, PORT))
        self.assertEqual(node.factory.node.dialer.known, [("fe80::78%eth0", 4)])
        self.lan.say(self.liar(4, host="fe80::79%tun0"), "fe80::77", (GROUP_6, PORT))
        self.assertEqual(len(node.factory.node.dialer.known), 1)
        self.assertEqual(self.counted(node)["bad"], 1)

    def test_one_of_two_link_local(self) -> None:
        """What is said of an address of the link is without an interface."""
        host = self.host()
        host.interfaces[1] = Interface("eth0", 2, (), ("fe80::1", "fe80::2"))
        node = self.node(host, listen=("fe80::2%eth0",))
        self.advance(0.5)
        found = beacon.read(self.lan.sent[-1][2], TAG)
        self.assertEqual((found.ident, found.port, found.host), (node.id, 4444, "fe80::2"))


class RhythmTests(DiscoveryTestCase):
    def test_alone(self) -> None:
        """At first a few, then one in ten seconds, never in step."""
        self.node(self.host())
        self.advance(sum(FIRST_GAPS) + len(FIRST_GAPS) * FIRST_SPREAD + 0.01)
        self.assertEqual(len(self.times("10.0.0.1")), len(FIRST_GAPS))
        self.advance(1000.0)
        times = self.times("10.0.0.1")[len(FIRST_GAPS) :]
        gaps = [after - before for before, after in pairwise(times)]
        self.assertGreaterEqual(min(gaps), INTERVAL * (1 - JITTER))
        self.assertLessEqual(max(gaps), INTERVAL * (1 + JITTER))
        self.assertGreater(len({round(gap, 3) for gap in gaps}), len(gaps) // 2)

    def test_with_enough_peers(self) -> None:
        """With enough neighbours a node speaks once a minute."""
        nodes = [self.node(active_view=2) for _ in range(4)]
        self.advance(60.0)
        self.assertTrue(all(len(node.settled) >= 2 for node in nodes))
        self.lan.sent.clear()
        self.advance(600.0)
        for host in self.hosts:
            count = len(self.times(host.four))
            self.assertLessEqual(count, 600 / (SLOW_INTERVAL * (1 - JITTER)) + 1)
            self.assertGreater(count, 6)

    def test_answers_are_spared(self) -> None:
        """Twenty that hear of a newcomer do not all answer."""
        # None of them may dial, and all have been there for a while.
        nodes = [self.node(max_outgoing=0) for _ in range(20)]
        self.advance(60.0)
        before = sum(self.counted(node)["answers"] for node in nodes)
        self.lan.say(self.liar(1, port=0, host=None), "10.0.0.250")
        self.advance(ANSWER_WITHIN + 0.01)
        answers = sum(self.counted(node)["answers"] for node in nodes) - before
        self.assertGreaterEqual(answers, 1)
        self.assertLessEqual(answers, 6)

    def test_answers_have_a_rate(self) -> None:
        """Whoever invents newcomers makes a node speak once in five seconds at most."""
        node = self.node()
        self.advance(30.0)
        before = self.counted(node)["answers"]
        for number in range(60):
            self.lan.say(self.liar(number, port=0), "10.0.0.250")
            self.advance(1.0)
        self.assertLessEqual(self.counted(node)["answers"] - before, 60 / ANSWER_GAP + 1)


class HostileTests(DiscoveryTestCase):
    def test_new_addresses_have_a_rate(self) -> None:
        """Of any number of addresses a few are taken, and each after that is counted."""
        node = self.node()
        for number in range(1000):
            self.lan.say(self.liar(number), f"10.0.1.{number % 250}")
        counted = self.counted(node)
        self.assertEqual(counted["new"], NEW[0])
        self.assertEqual(counted["new"] + counted["too many new"] + counted["too many"], 1000)
        self.assertLessEqual(len(node.factory.node.dialer.known), NEW[0])
        self.advance(60.0)
        for number in range(1000, 1100):
            self.lan.say(self.liar(number), f"10.0.1.{number % 250}")
        self.assertLessEqual(self.counted(node)["new"], NEW[0] * 2)

    def test_one_host_cannot_drown_others(self) -> None:
        """While one floods, the beacon of another is read."""
        node = self.node()
        for number in range(5000):
            self.lan.say(self.liar(number, port=0), "10.0.0.250")
        self.lan.say(self.liar(1, port=7, host=None), "10.0.0.77")
        self.assertIn(("10.0.0.77", 7), node.factory.node.dialer.known)

    def test_what_is_remembered_is_bounded(self) -> None:
        """Neither hosts nor ids nor addresses are kept without end."""
        node = self.node()
        discovery: Any = node.discovery
        for number in range(2000):
            self.lan.say(self.liar(number), f"10.1.{number // 250}.{number % 250}")
            self.clock.advance(0.1)
        for held in (discovery._nodes, discovery._known, discovery._hosts, discovery._heard_since):
            self.assertLessEqual(len(held), REMEMBERED)

    def test_nonsense(self) -> None:
        """What makes no sense is counted, logged once a minute, and changes nothing."""
        node = self.node()
        good = self.liar(1)
        for data in (
            b"",
            b"{",
            bytes(9000),
            good[:-1],
            good + b" " * 600,
            TAG.encode(),
            good.replace(b"1,", b"2,", 1),
        ):
            self.lan.say(data, "10.0.0.250")
        counted = self.counted(node)
        self.assertEqual((counted["foreign"], counted["bad"], counted["new"]), (3, 4, 0))
        self.assertEqual(len([line for line in self.said() if "bad beacon" in line]), 1)

    def test_nonsense_from_everywhere(self) -> None:
        """Whoever says that it comes from another host each time fills no log."""
        node = self.node()
        for number in range(80):
            self.lan.say(self.liar(1)[:-1], f"10.0.1.{number}")
        self.assertEqual(self.counted(node)["bad"], 80)
        self.assertEqual(len([line for line in self.said() if "bad beacon" in line]), 1)
        self.advance(61.0)
        self.lan.say(self.liar(1)[:-1], "10.0.1.1")
        (_, line) = [line for line in self.said() if "bad beacon" in line]
        self.assertIn("(79 more of these since)", line)

    def test_addresses_that_nobody_should_dial(self) -> None:
        """Neither ourselves, nor multicast, nor mail: the same rules as for peers lists."""
        node = self.node()
        for number, fields in enumerate(
            (
                {"host": GROUP_4},
                {"host": "127.0.0.1"},
                {"port": 25},
                {"host": "10.0.0.1", "port": 4444},
            )
        ):
            self.lan.say(self.liar(number, **fields), "10.0.0.250")
        self.assertEqual(node.factory.node.dialer.known, [])


class InterfaceTests(DiscoveryTestCase):
    def test_chosen(self) -> None:
        """By name or by address; the socket sends and listens there."""
        for wanted in ("eth1", "10.9.0.1"):
            host = self.host()
            host.interfaces.append(Interface("eth1", 3, ("10.9.0.1",), ("fe80::9",)))
            node = self.node(host, wanted)
            self.assertEqual(node.status["discovery"]["interfaces"], "eth1 (IPv4), eth1 (IPv6)")
            four, six = self.lan.ports
            self.assertEqual(four.handle.set[socket.IPPROTO_IP, socket.IP_MULTICAST_TTL], 1)
            self.assertEqual(
                four.handle.set[socket.IPPROTO_IP, socket.IP_MULTICAST_IF],
                socket.inet_aton("10.9.0.1"),
            )
            self.assertEqual(six.handle.set[socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF], 3)
            member = six.handle.set[socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP]
            self.assertEqual(member[:16], socket.inet_pton(socket.AF_INET6, GROUP_6))
            node.stopService()

    def test_one_that_comes_and_goes(self) -> None:
        """It is waited for with one line, used when it is there, and let go of when it is not."""
        host = self.host()
        node = self.node(host, "wlan0")
        self.advance(10 * RESCAN)
        self.assertEqual(len(self.said(LogLevel.warn)), 1)
        self.assertIn("there is no interface wlan0", self.said(LogLevel.warn)[0])
        self.assertEqual((self.lan.sent, node.status["discovery"]["interfaces"]), ([], "none"))
        host.interfaces.append(Interface("wlan0", 3, ("10.9.0.1",)))
        self.advance(RESCAN + INTERVAL * (1 + JITTER))
        self.assertEqual(node.status["discovery"]["interfaces"], "wlan0 (IPv4)")
        self.assertGreater(len(self.lan.sent), 0)
        host.interfaces.pop()
        self.advance(RESCAN)
        self.assertEqual(self.lan.ports, [])
        self.assertIn("wlan0 (IPv4) is gone", self.said())

    def test_no_file_to_open(self) -> None:
        """Then nobody can tell which interfaces there are, and what is used is used on."""
        host = self.host()
        node = self.node(host)
        host.interfaces = []

        def fail(*_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        real = socket.socket
        self.patch(socket, "socket", fail)
        self.advance(3 * RESCAN)
        self.assertEqual(node.status["discovery"]["interfaces"], "eth0 (IPv4), eth0 (IPv6)")
        self.patch(socket, "socket", real)
        self.advance(RESCAN)
        self.assertEqual(node.status["discovery"]["interfaces"], "none")

    def test_a_socket_that_breaks(self) -> None:
        """The reactor has closed it after an error: another is opened."""
        host = self.host()
        node = self.node(host)
        for port in list(self.lan.ports):
            port.stopListening()
            port.protocol.stopProtocol()
        self.assertEqual(node.status["discovery"]["interfaces"], "none")
        self.advance(RESCAN)
        self.assertEqual(node.status["discovery"]["interfaces"], "eth0 (IPv4), eth0 (IPv6)")
        self.assertEqual(len(self.lan.ports), 2)

    def test_a_strange_name(self) -> None:
        """Linux takes nearly any bytes for an interface's name: they can be logged, and used."""
        host = self.host()
        host.interfaces[1] = Interface("wl\udcff\x1b", 2, (host.four,), (host.six,))
        node = self.node(host)
        self.assertTrue(all(line.isprintable() for line in self.said()))
        self.assertEqual(node.status["discovery"]["interfaces"].count("wl"), 2)
        if hasattr(socket, "SO_BINDTODEVICE"):
            (six,) = [one for one in self.lan.ports if one.interface == "::"]
            device = six.handle.set[socket.SOL_SOCKET, socket.SO_BINDTODEVICE]
            self.assertEqual(device, b"wl\xff\x1b\0")

    def refused(
        self, spoil: Callable[[ToyHost], None], mend: Callable[[ToyHost], None]
    ) -> list[str]:
        host = self.host()
        host.interfaces[1] = Interface("eth0", 2, (host.four,))
        spoil(host)
        self.node(host)
        self.advance(120.0)
        said = self.said(LogLevel.warn)
        mend(host)
        self.advance(RESCAN + INTERVAL * (1 + JITTER))
        self.assertGreater(len(self.lan.sent), 0)
        self.assertEqual(self.said(LogLevel.warn), said)
        return said

    def test_a_port_that_is_taken(self) -> None:
        """It costs a line, and is tried again until it works."""
        problem = CannotListenError("", PORT, OSError(errno.EADDRINUSE, "Address already in use"))
        (line,) = self.refused(
            lambda host: setattr(host, "listen_error", problem),
            lambda host: setattr(host, "listen_error", None),
        )
        self.assertIn("cannot discover nodes at eth0 (IPv4): Address already in use", line)

    def test_a_group_that_cannot_be_joined(self) -> None:
        """The same; the socket is closed meanwhile."""
        problem = OSError(errno.ENODEV, "No such device")
        (line,) = self.refused(
            lambda host: setattr(host, "join_error", problem),
            lambda host: setattr(host, "join_error", None),
        )
        self.assertIn("No such device", line)
        self.assertEqual(len(self.lan.ports), 1)

    def test_sending_that_fails(self) -> None:
        """A line the first time, and beacons again when it works."""
        problem = OSError(errno.ENETUNREACH, "Network is unreachable")
        (line,) = self.refused(
            lambda host: setattr(host, "send_error", problem),
            lambda host: setattr(host, "send_error", None),
        )
        self.assertIn("cannot send at eth0 (IPv4): Network is unreachable", line)

    def test_loopback(self) -> None:
        """A node that listens on the loopback interface alone is looked for nowhere else."""
        host = self.host()
        node = self.node(host, listen=("127.0.0.1",))
        self.assertEqual(node.status["discovery"]["interfaces"], "lo (IPv4)")

    def test_default(self) -> None:
        """What leads outside; else all that can multicast and is no loopback."""
        host = self.host()
        more = Interface("eth1", 3, ("10.9.0.1",))
        tunnel = Interface("tun0", 4, ("10.8.0.1",), multicast=False)
        everything = [*host.interfaces, more, tunnel]
        self.assertEqual([one.name for one in leading_outside(everything)], ["eth0", "eth1"])
        self.patch(system, "_outward", lambda: [(socket.AF_INET, "10.8.0.1")])
        self.assertEqual([one.name for one in leading_outside(everything)], ["tun0"])

    def test_this_machine(self) -> None:
        """The system tells of a loopback interface, if it tells of any."""
        found = system.interfaces()
        for one in found:
            self.assertTrue(one.name)
            self.assertTrue(one.four or one.six)
        loopback = [one for one in found if one.loopback]
        if loopback:
            self.assertTrue(loopback[0].has("127.0.0.1") or loopback[0].has("::1"))

    def test_bad_arguments(self) -> None:
        """No port, and no names."""
        for wrong in ({"port": 0}, {"port": "x"}, {"interfaces": [""]}, {"interfaces": [1]}):
            self.assertRaises(BadArgument, Discovery, **wrong)
        self.assertEqual(Discovery("eth0").interfaces, ("eth0",))
