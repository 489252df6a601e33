"""
Nodes of one network that find each other in the local network, without being told of any.

::

    A starts                 B, C: there for a while
      | -- beacon --------->  B: an address to dial
      |    (multicast)        C: the same; both would answer, after a moment each
      | <--------- beacon --  B: its moment was shorter
      |                       C: has heard that; others have answered

A beacon (`core.beacon`) is a suggestion: its address goes into the address book, and the dialler
decides, within its limits, as with every address that a stranger names. Nothing is pinned, and
nobody is trusted: whoever can send a packet into the local network can send beacons.

Every interface has a channel for IPv4 and one for IPv6, each with a socket of its own. Which
interfaces there are is looked at again and again, so one that comes later is used, and one that goes
does no harm.

Source: docs/protocol/discovery.rst.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger, LogLevel

from py2p_twisted.core import beacon
from py2p_twisted.core.beacon import BadBeacon, Beacon, Bucket, NotOurs
from py2p_twisted.core.network import Address, address_text
from py2p_twisted.errors import BadArgument
from py2p_twisted.net.interfaces import Interface, can_look, interfaces, leading_outside
from py2p_twisted.net.reports import Reports, printable

if TYPE_CHECKING:
    from py2p_twisted.net.service import MeshService

_log = Logger(namespace="py2p_twisted.discovery")

#: The UDP port, and the groups: of IPv4 one of the "local scope" (RFC 2365), of IPv6 one of the
#: link's that nobody has to assign (RFC 4291).
PORT: Final = 20444
GROUP_4: Final = "239.255.44.44"
GROUP_6: Final = "ff12::7032:7032"

#: Seconds before each of the first beacons, and how much at most is added to each. Datagrams get
#: lost, and others may have started at the same moment, as after a power cut.
FIRST_GAPS: Final = (0.0, 1.0, 2.0, 4.0)
FIRST_SPREAD: Final = 0.3

#: Seconds between beacons while there are too few peers, and when there are enough; and by which
#: share both vary.
INTERVAL: Final = 10.0
SLOW_INTERVAL: Final = 60.0
JITTER: Final = 0.25

#: A newcomer is answered after a random time up to this, unless so many others have sent a beacon
#: meanwhile; and there are so many seconds between two answers.
ANSWER_WITHIN: Final = 2.0
ENOUGH_ANSWERS: Final = 3
ANSWER_GAP: Final = 5.0

#: Beacons of this network that are read: at once, and a second after that. From all, from one host.
READ: Final = (100, 50.0)
READ_OF_ONE: Final = (20, 4.0)

#: Addresses that were not known before: at once, and a second after that (30 a minute).
NEW: Final = (20, 0.5)

#: Hosts, and ids of nodes, that are told apart.
REMEMBERED: Final = 256

#: Seconds from one look at the interfaces to the next; and to the next attempt to use one.
RESCAN: Final = 10.0

#: Source of the addresses that go into the book: all beacons together have one share of it.
SOURCE: Final = b"beacon"

#: Linux gives a socket the packets of groups that others have joined, too, unless told not to.
_IP_MULTICAST_ALL: Final = 49
_WILDCARDS: Final = {socket.AF_INET: ("0.0.0.0", "::", ""), socket.AF_INET6: ("::",)}  # noqa: S104
_FAMILIES: Final = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a channel is: an interface, and one of its addresses."""

    interface: Interface
    family: socket.AddressFamily
    address: str

    def __str__(self) -> str:
        return f"{printable(self.interface.name)} ({_FAMILIES[self.family]})"

    @property
    def group(self) -> str:
        """Where beacons are sent to."""
        return GROUP_4 if self.family == socket.AF_INET else GROUP_6


class Discovery:
    """
    Finds nodes of a service's network in the local network, and is found.

    :ivar interfaces: names or addresses of the interfaces to use; none: those that lead outside.
    :ivar port: the UDP port.
    :ivar counters: what has happened to beacons, by a word each.
    """

    def __init__(
        self,
        interfaces: Iterable[str] = (),
        *,
        port: int = PORT,
        look: Callable[[], list[Interface]] = interfaces,
    ) -> None:
        """
        :param look: tells which interfaces there are; for tests.
        :raises BadArgument: an interface's name or the port is none.
        """
        self.interfaces = (interfaces,) if isinstance(interfaces, str) else tuple(interfaces)
        if not all(isinstance(one, str) and one for one in self.interfaces):
            raise BadArgument(f"interfaces are names or addresses, not {interfaces!r}")
        if type(port) is not int or not 0 < port < 65536:
            raise BadArgument(f"a port is a number from 1 to 65535, not {port!r}")
        self.port = port
        self.counters: Counter[str] = Counter()
        self._look = look
        self._mesh: MeshService
        self._channels: dict[_Place, _Channel] = {}
        #: What has been complained about, so that it is not said again.
        self._said: set[str] = set()
        self._first = list(FIRST_GAPS)
        self._sending: IDelayedCall | None = None
        self._answering: IDelayedCall | None = None
        self._rescan: IDelayedCall | None = None
        self._answered = self._sent_at = float("-inf")
        self._heard_since: set[bytes] = set()
        self._nodes: OrderedDict[bytes, None] = OrderedDict()
        self._known: OrderedDict[Address, None] = OrderedDict()
        self._hosts: OrderedDict[str, Bucket] = OrderedDict()
        self._running = False

    # --- life ---------------------------------------------------------------------------

    def start(self, mesh: MeshService) -> None:
        """
        Begin; nothing that goes wrong keeps the node from running.

        :param mesh: a service that has started.
        """
        self._mesh = mesh
        self._running = True
        self._reports = Reports(_log, mesh.factory.now)
        self._tag = beacon.network_tag(mesh.network)
        now = mesh.factory.now()
        self._read, self._new = Bucket(*READ, now), Bucket(*NEW, now)
        if not hasattr(mesh.factory.reactor, "listenMulticast"):
            _log.warn(
                "no nodes can be discovered: this reactor has no multicast", event="discovery"
            )
            return
        self._scan()
        self._send_next()

    def stop(self) -> Deferred[Any]:
        """
        End; may be repeated.

        :return: fires when the sockets are closed.
        """
        self._running = False
        for call in (self._sending, self._answering, self._rescan):
            if call is not None and call.active():
                call.cancel()
        channels, self._channels = self._channels, {}
        return DeferredList([one.close() for one in channels.values()], consumeErrors=True)

    @property
    def status(self) -> dict[str, Any]:
        """Where it looks, and what has come of it. May be read from any thread."""
        channels = list(self._channels.values())
        where = ", ".join(str(one.place) for one in channels if one.open)
        return {"interfaces": where or "none", **dict(sorted(self.counters.copy().items()))}

    # --- interfaces -----------------------------------------------------------------------

    def _scan(self) -> None:
        """See which interfaces there are now."""
        self._rescan = self._mesh.factory.reactor.callLater(RESCAN, self._scan)
        if not can_look():
            return  # what is used so far may well be there
        places = self._places()
        for place in [one for one in self._channels if one not in places]:
            self._channels.pop(place).close()
            _log.info("{where} is gone", where=str(place), event="discovery")
        for place in places:
            channel = self._channels.get(place)
            if channel is None:
                channel = self._channels[place] = _Channel(self, place)
            if not channel.open:
                self._open(channel)

    def _places(self) -> list[_Place]:
        everything = list(self._look())
        chosen: list[Interface] = []
        if self.interfaces:
            for wanted in self.interfaces:
                fitting = [one for one in everything if wanted == one.name or one.has(wanted)]
                chosen += fitting
                self._complain(
                    f"no interface {wanted}",
                    not fitting,
                    f"there is no interface {wanted} that is up, see --interface",
                )
        elif self._on_loopback_alone():
            chosen = [one for one in everything if one.loopback]
        else:
            chosen = leading_outside(everything)
        nothing = not chosen and not self.interfaces
        self._complain("none", nothing, "there is no interface to discover nodes at")
        places = []
        for one in dict.fromkeys(chosen):
            places += _places_at(one, self.interfaces)
        return places

    def _on_loopback_alone(self) -> bool:
        hosts = [host for host, _ in self._mesh.listening]
        return bool(hosts) and all(_is_loopback(host) for host in hosts)

    def _open(self, channel: _Channel) -> None:
        where = str(channel.place)
        try:
            channel.listen(self._mesh.factory.reactor, self.port)
        except (OSError, CannotListenError) as error:
            cause = error.socketError if isinstance(error, CannotListenError) else error
            text = f"cannot discover nodes at {where}: {getattr(cause, 'strerror', None) or cause}"
            self._complain(where, True, text)
            return
        self._complain(where, False, "")
        told = ""
        if not self._beacon_for(channel.place).port:
            told = "; nobody can dial this node there, see --listen"
        _log.info(
            "discovering nodes of network {network} at {where}, address {address}, UDP port {port}"
            + told,
            event="discovery", network=self._mesh.network.name, where=where,
            address=channel.place.address, port=self.port,
        )  # fmt: skip

    def _complain(self, key: str, wrong: bool, text: str) -> None:
        """Say once that something is wrong, and once again when it has been right meanwhile."""
        if not wrong:
            self._said.discard(key)
        elif key not in self._said:
            self._said.add(key)
            _log.warn(
                "{text} (trying again every {seconds:g} s)",
                event="discovery", text=printable(text), seconds=RESCAN,
            )  # fmt: skip

    # --- sending --------------------------------------------------------------------------

    def _send_next(self) -> None:
        mesh = self._mesh
        random = mesh.factory.node.rng.random
        if self._first:
            delay = self._first.pop(0) + FIRST_SPREAD * random()
        else:
            enough = len(mesh.settled) >= mesh.factory.settings.active_view
            delay = SLOW_INTERVAL if enough else INTERVAL
            delay *= 1 + JITTER * (2 * random() - 1)
        self._sending = mesh.factory.reactor.callLater(delay, self._send_now)

    def _send_now(self) -> None:
        self._send_next()
        self._send()

    def _send(self) -> None:
        self._sent_at = self._mesh.factory.now()
        for channel in list(self._channels.values()):
            if not channel.open:
                continue
            where = str(channel.place)
            try:
                channel.send(beacon.write(self._beacon_for(channel.place), self._tag))
            except OSError as error:
                self.counters["not sent"] += 1
                text = f"cannot send at {where}: {error.strerror or error}"
                self._complain("send " + where, True, text)
            else:
                self.counters["sent"] += 1
                self._complain("send " + where, False, "")

    def _beacon_for(self, place: _Place) -> Beacon:
        """What is said at an interface: where others there can dial this node."""
        mesh = self._mesh
        for host, port in mesh.listening:
            if host in _WILDCARDS[place.family]:
                return Beacon(mesh.id, port)
            if place.interface.has(host) and (":" in host) == (place.family == socket.AF_INET6):
                same = _same(host, place.address)
                return Beacon(mesh.id, port, None if same else host.partition("%")[0])
        host, port = mesh.address
        if port and not mesh.listening and host.isascii():
            return Beacon(mesh.id, port, host.partition("%")[0])
        return Beacon(mesh.id, 0)

    # --- hearing --------------------------------------------------------------------------

    def heard(self, data: bytes, host: str, place: _Place) -> None:
        """
        A datagram has come in.

        :param host: the address that it came from.
        """
        if not self._running:
            return
        now = self._mesh.factory.now()
        count = self.counters
        if place.family == socket.AF_INET6 and not _is_link_local(host):
            # No router passes link-local addresses on, so this is from outside; or it came over
            # IPv4, of which the other channel has a copy.
            count["foreign"] += not host.startswith("::ffff:")
            return
        try:
            # Most that is no beacon of this network is found out at once, and costs no token.
            if self._tag.encode("ascii") not in data:
                raise NotOurs
            if not self._bucket(host, now).take(now) or not self._read.take(now):
                count["too many"] += 1
                return
            said = beacon.read(data, self._tag)
        except NotOurs:
            count["foreign"] += 1
            return
        except BadBeacon as error:
            count["bad"] += 1
            # Of all of them one a minute: a datagram can say that it is from anywhere.
            self._reports.say(
                LogLevel.info, "bad beacon", "", "a bad beacon from {where}: {error}",
                event="discovery", where=host, error=str(error),
            )  # fmt: skip
            return
        if said.ident == self._mesh.id:
            count["own"] += 1
            return
        count["heard"] += 1
        self._heard_since.add(said.ident)
        if len(self._heard_since) > REMEMBERED:
            self._heard_since.clear()
        if said.ident in self._mesh.routing_table:
            self._remember(said.ident)
            return
        if said.port:
            self._suggest(said, self._address(said, host, place), now)
        if self._remember(said.ident):
            self._answer(now)

    def _bucket(self, host: str, now: float) -> Bucket:
        bucket = self._hosts.get(host)
        if bucket is None:
            bucket = self._hosts[host] = Bucket(*READ_OF_ONE, now)
            if len(self._hosts) > REMEMBERED:
                self._hosts.popitem(last=False)
        return bucket

    def _remember(self, ident: bytes) -> bool:
        """Note a node; true if it is a newcomer."""
        new = ident not in self._nodes
        self._nodes[ident] = None
        self._nodes.move_to_end(ident)
        if len(self._nodes) > REMEMBERED:
            self._nodes.popitem(last=False)
        return new

    def _address(self, said: Beacon, host: str, place: _Place) -> Address:
        host = said.host or host.partition("%")[0]
        if place.family == socket.AF_INET6 and _is_link_local(host):
            # It says nothing without the interface, and nothing to any other machine.
            host = f"{host}%{place.interface.name}"
        return host, said.port

    def _suggest(self, said: Beacon, address: Address, now: float) -> None:
        """Have an address dialled, if links are needed; the dialler has the last word."""
        if address not in self._known:
            if not self._new.take(now):
                self.counters["too many new"] += 1
                return
            self.counters["new"] += 1
            self._known[address] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            self._reports.say(
                LogLevel.info, "found", address_text(*address), "found a node at {where}",
                host=address[0], event="found", where=address_text(*address),
            )  # fmt: skip
        self._mesh.factory.heard(address, said.ident, SOURCE)

    def _answer(self, now: float) -> None:
        """A newcomer is to hear of us, or of others."""
        if (self._answering is not None and self._answering.active()) or (
            now - self._answered < ANSWER_GAP
        ):
            return
        self._heard_since.clear()
        delay = ANSWER_WITHIN * self._mesh.factory.node.rng.random()
        self._answering = self._mesh.factory.reactor.callLater(delay, self._answer_now, now)

    def _answer_now(self, asked: float) -> None:
        if self._sent_at > asked:
            return  # it was our turn anyway
        if len(self._heard_since) >= ENOUGH_ANSWERS:
            self.counters["answers spared"] += 1
            return
        self._answered = self._mesh.factory.now()
        self.counters["answers"] += 1
        self._send()


class _Channel(DatagramProtocol):
    """One interface, one family, one socket."""

    noisy = False

    def __init__(self, discovery: Discovery, place: _Place) -> None:
        self.place = place
        self._discovery = discovery
        self._port: Any = None
        self._to: tuple[str, int] = ("", 0)

    @property
    def open(self) -> bool:
        """Whether it has its socket."""
        return self._port is not None

    def listen(self, reactor: Any, number: int) -> None:
        """:raises OSError, CannotListenError: the interface cannot be used."""
        place = self.place
        # A socket with the group's address gets nothing that is sent to this machine itself. With
        # one of IPv6 Twisted loses the interface, so there `heard` looks where a packet is from.
        four = place.family == socket.AF_INET and sys.platform != "win32"
        here = GROUP_4 if four else _WILDCARDS[place.family][0]
        port = reactor.listenMulticast(
            number, self, interface=here, maxPacketSize=beacon.LARGEST + 1, listenMultiple=True
        )
        try:
            _join(port.getHandle(), place)
        except OSError:
            maybeDeferred(port.stopListening)
            raise
        self._port, self._to = port, (place.group, number)

    def send(self, data: bytes) -> None:
        """:raises OSError: it cannot be sent."""
        self._port.write(data, self._to)

    def close(self) -> Deferred[Any]:
        """Close the socket."""
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening if port is not None else lambda: None)

    def stopProtocol(self) -> None:
        """The socket is closed, by whomever: it is opened anew when interfaces are looked at."""
        self._port = None

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Somebody has sent something."""
        self._discovery.heard(datagram, str(addr[0]), self.place)


def _join(handle: socket.socket, place: _Place) -> None:
    """Have a socket send to the group at an interface, and get what is sent to it there."""
    if place.family == socket.AF_INET:
        here, group = socket.inet_aton(place.address), socket.inet_aton(GROUP_4)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        if sys.platform.startswith("linux"):
            handle.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + here)
        return
    index = place.interface.index
    if hasattr(socket, "SO_BINDTODEVICE"):
        # Else Linux gives a socket what comes to the group at other interfaces, too. Before 5.7
        # that takes a privilege; without it, several interfaces may be taken for one another.
        with suppress(PermissionError):
            device = os.fsencode(place.interface.name) + b"\0"
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    group = socket.inet_pton(socket.AF_INET6, GROUP_6)
    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
    member = struct.pack("=16sI", group, index)
    handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)


def _places_at(interface: Interface, asked: Iterable[str]) -> list[_Place]:
    """The channels of an interface: of IPv6 only with an address that the link knows."""
    places = []
    # Whoever has named one of its addresses means that one.
    named = [one for one in interface.four if one in asked]
    for address in (named or interface.four)[:1]:
        places.append(_Place(interface, socket.AF_INET, address))
    local = [one for one in interface.six if _is_link_local(one)]
    if interface.index and local:
        places.append(_Place(interface, socket.AF_INET6, local[0]))
    return places


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _is_link_local(host: str) -> bool:
    with suppress(ValueError):
        one = ip_address(host.partition("%")[0])
        return one.version == 6 and one.is_link_local
    return False


def _same(one: str, other: str) -> bool:
    return ip_address(one.partition("%")[0]) == ip_address(other.partition("%")[0])


__all__ = ["GROUP_4", "GROUP_6", "PORT", "Discovery"]
