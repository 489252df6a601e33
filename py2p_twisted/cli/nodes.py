"""
The demo's nodes: `MeshService` over loopback TCP, one process, one reactor.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from py2p_twisted.cli.running import CommandFailed
from py2p_twisted.cli.scenario import FEWEST
from py2p_twisted.core.network import PLAINTEXT, SSL, Network
from py2p_twisted.net import Delivery, MeshService
from py2p_twisted.web import WebService

LOOPBACK = "127.0.0.1"

#: Links of a node that are of its own choice, with some to spare for crossed dials.
_LINKS = 6
#: Open files of a process without any node.
_FILES = 64


class LoopbackNode:
    """
    A real node; see `scenario.Participant`.

    :ivar page: where its status page is, once started; empty without one.
    """

    def __init__(self, reactor: Any, nodes: int, *, tls: bool, web: str | None = None) -> None:
        """
        :param nodes: how many there will be: the first one must have room for all of them.
        :param web: where it shows its status page, as an endpoint string or a port.
        """
        self.page = ""
        self.on_message: Callable[[tuple[Any, ...], bytes], None] = lambda packets, via: None
        self._service = MeshService(
            reactor,
            Network("py2p demo", SSL if tls else PLAINTEXT),
            listen=[f"tcp:0:interface={LOOPBACK}:backlog={max(128, nodes)}"],
            max_inbound=max(64, nodes),
            max_half_open=max(64, nodes),
        )
        self._service.on_message = self._received
        # Whoever is given the link may send.
        self._token = secrets.token_hex(8)
        self._web = web and WebService(reactor, self._service, web, token=self._token, demo=True)

    def _received(self, delivery: Delivery) -> None:
        self.on_message(delivery.packets, delivery.link.id)

    @property
    def id(self) -> bytes:
        """Its id, once started."""
        return self._service.id

    @property
    def address(self) -> tuple[str, int]:
        """Where it can be dialled, once started."""
        return self._service.address

    def start(self) -> Deferred[Any]:
        """Listen."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self._service.start()
        if self._web:
            await self._web.start()
            self.page = f"{self._web.url}#token={self._token}"

    def join(self, address: tuple[str, int]) -> Deferred[Any]:
        """Connect to a first node."""
        return self._service.connect(*address)

    def peers(self) -> Collection[bytes]:
        """The ids in its routing table."""
        return self._service.factory.routing_table

    def traffic(self) -> tuple[int, int]:
        """Frames that have come in on its links, and how many of them it had already."""
        links = self._service.factory.routing_table.values()
        return sum(link.frames for link in links), sum(link.duplicates for link in links)

    def send(self, *packets: Any) -> Deferred[Any]:
        """Broadcast."""
        return self._service.send(*packets)

    def drop(self) -> Deferred[Any]:
        """
        Be gone like a process that was killed: connections are reset, nobody is told.

        Only then is the service stopped, to close its port and end its timers.
        """
        if self._service.factory.started:
            for link in self._service.factory.node.links:
                link.owner.transport.abortConnection()
        return self.leave()

    def leave(self) -> Deferred[Any]:
        """Leave in good order."""
        services = [self._web, self._service] if self._web else [self._service]
        return gatherResults([service.stopService() for service in services])


def make_room(nodes: int) -> None:
    """
    Allow this process as many open files as its nodes will have connections.

    :raises CommandFailed: the system does not allow that many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    # A node's port, and both ends of every link.
    needed = _FILES + nodes * (1 + 2 * _LINKS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        possible = (hard - _FILES) // (1 + 2 * _LINKS)
        advice = f" or try --nodes {possible}" if possible >= FEWEST else ""
        raise CommandFailed(
            f"{nodes} nodes need about {needed} open files and this system allows {hard}: "
            f"raise the limit (ulimit -n){advice}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
