"""
A look at one address: what happens when a node dials it.

It is done by a node, with all that a node does, so what is found out is what a node would find
out; but this one listens nowhere, and has gone a moment later. What it means is told by `findings`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred

from py2p_twisted.cli.lines import Threads
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import Address, Network, address_text
from py2p_twisted.errors import MeshError
from py2p_twisted.net import MeshService
from py2p_twisted.net.factory import Application
from py2p_twisted.net.reports import printable

#: Seconds that a node has to make up its mind about us. Plain nodes settle after two.
DECIDES: Final = 3.0

#: Addresses of a name that are looked at.
MOST_ADDRESSES: Final = 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    What has come of dialling an address.

    :ivar where: the address, as text.
    :ivar encryption: how it was dialled.
    :ivar connected: whether the transport was connected, whatever came then.
    :ivar delay: seconds that this took: about one round trip.
    :ivar error: why no node has introduced itself; ``None`` if one has.
    :ivar id: the node's id.
    :ivar ahead: seconds that its clock is ahead of ours.
    :ivar plain: whether it speaks 0.6 alone; ``None`` if that was not to be found out.
    :ivar settled: whether it has accepted us as a neighbour.
    :ivar left: why it has gone before.
    :ivar mute: whether it has said nothing but who it is.
    :ivar rtt: seconds to it and back, as it has answered; ``None`` if it was not asked.
    """

    where: str
    encryption: str
    connected: bool = False
    delay: float = 0.0
    error: Exception | None = None
    id: str = ""
    ahead: float = 0.0
    plain: bool | None = None
    settled: bool = False
    left: MeshError | None = None
    mute: bool = False
    rtt: float | None = None


class _Watch(Application):
    """Is told what happens to the one connection."""

    def __init__(self, now: Any) -> None:
        self.connected: float | None = None
        self.settled = False
        self.left: MeshError | None = None
        self.decided: Deferred[None] = Deferred()
        self._now = now

    def decide(self) -> None:
        """It will not get any clearer."""
        if not self.decided.called:
            self.decided.callback(None)

    def sent(self, message: Message, links: Sequence[Connection]) -> None:
        """Something goes out, first of all what we say when a transport is connected."""
        if self.connected is None:
            self.connected = self._now()

    def peer_settled(self, link: Connection) -> None:
        """It has accepted us."""
        self.settled = True
        self.decide()

    def peer_left(self, link: Connection, error: MeshError, last: bool) -> None:
        """It has gone."""
        self.left = error
        self.decide()


async def attempt(
    reactor: Any, network: Network, address: Address, *, glance: bool = False
) -> Attempt:
    """
    Dial an address, and see what happens.

    :param glance: whether to go as soon as the node has introduced itself: then it has noticed
        next to nothing.
    """
    where = address_text(*address)
    watch = _Watch(reactor.seconds)
    service = MeshService(
        reactor,
        network,
        listen=(),
        application=watch,
        max_outgoing=0,
        extensions=not glance,
    )
    service.factory.watch_traffic = True
    await service.start()
    since = reactor.seconds()
    found: dict[str, Any] = {}
    try:
        try:
            link = await service.connect(*address)
        except (MeshError, OSError) as error:
            found["error"] = error
        else:
            found.update(id=printable(link.id), ahead=link.ahead)
            if glance:
                # What an answer would be written in is still empty.
                link.owner.outbox.abandon()
                link.owner.close(flush=True)
            else:
                timer = reactor.callLater(DECIDES, watch.decide)
                try:
                    await watch.decided
                finally:
                    if timer.active():
                        timer.cancel()
                ext = link.ext
                found.update(
                    plain=ext is None,
                    settled=watch.settled,
                    left=watch.left,
                    mute=watch.left is None and link.frames < 2,
                    rtt=None if ext is None else ext.rtt,
                )
    finally:
        await service.stopService()
    if watch.connected is not None:
        found.update(connected=True, delay=watch.connected - since)
    return Attempt(where, network.encryption, **found)


def resolve(reactor: Any, host: str) -> Deferred[list[str]]:
    """
    All addresses of a host, each once, in the order in which they are tried.

    :return: fires with none if nobody knows the name.
    """
    done: Deferred[list[str]] = Deferred()
    if isIPAddress(host) or isIPv6Address(host):
        done.callback([host])
        return done

    def look() -> list[str]:
        try:
            answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))

    def told(_: bool, addresses: Any) -> None:
        if not done.called:
            done.callback(addresses if isinstance(addresses, list) else [])

    Threads.callInThreadWithCallback(
        lambda good, addresses: reactor.callFromThread(told, good, addresses), look
    )
    return done


def is_own(host: str) -> bool:
    """Whether an address is one of this machine's: whatever is, a socket can be bound to."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (OSError, UnicodeError):
        return False
    return True


__all__ = ["DECIDES", "MOST_ADDRESSES", "Attempt", "attempt", "is_own", "resolve"]
