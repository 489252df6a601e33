"""
Mesh sockets that stand still: no port, no thread, one clock that tests turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.core.network import Address
from py2p_twisted.mesh import mesh_socket
from py2p_twisted.net.tls import Credentials
from py2p_twisted.testing.memory import MemoryNetwork
from py2p_twisted.testing.mesh import EPOCH


class StillReactor(Clock):
    """A reactor that has not been run: what is to happen soon happens in `advance`."""

    running = False

    def __init__(self) -> None:
        super().__init__()
        self.triggers: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        self.callLater(0, function, *args)

    def addSystemEventTrigger(self, phase: str, event: str, action: Callable[[], object]) -> Any:
        assert (phase, event) == ("before", "shutdown")
        self.triggers.append(action)
        return action

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.triggers.remove(trigger)

    def stop(self) -> None:
        while self.triggers:
            self.triggers.pop(0)()


class InlineWorker:
    """In place of the callback thread: calls at once, or when it is let go."""

    busy = None

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.held = False
        self.closed = False

    def put(self, function: Callable[..., object], *args: Any) -> None:
        self.jobs.append((function, args))
        if not self.held:
            self.release()

    def release(self) -> None:
        self.held = False
        while self.jobs and not self.closed:
            function, args = self.jobs.pop(0)
            function(*args)

    def forked(self) -> None:
        """There is no thread that could have stayed behind."""

    def close(self, timeout: float) -> bool:
        self.closed = True
        return True


class World:
    """A network in memory for sockets."""

    def __init__(self) -> None:
        self.clock = StillReactor()
        self.network = MemoryNetwork(self.clock)
        self._count = 0

    def socket(self, *args: Any, **options: Any) -> StillSocket:
        """A socket with the next free address, unless one is given."""
        self._count += 1
        if not args:
            args = (f"10.0.0.{self._count}", 4444)
        return StillSocket(self, *args, **options)

    def settle(self) -> None:
        self.network.settle()

    def advance(self, seconds: float) -> None:
        self.network.advance(seconds)


class StillSocket(mesh_socket):
    """A mesh socket whose transports are in memory and whose callbacks run inline."""

    def __init__(self, world: World, addr: str, port: int, *args: Any, **options: Any) -> None:
        self.world = world
        self._here: Address = (addr, port)
        clock = world.clock
        options.setdefault("max_outgoing", 0)
        super().__init__(
            addr,
            port,
            *args,
            reactor=clock,
            now=clock.seconds,
            wall=lambda: EPOCH + clock.seconds(),
            rng=random.Random(port),
            salt=f"{addr}:{port}",
            **options,
        )

    def _server_endpoint(
        self, addr: str, port: int, credentials: Credentials | None
    ) -> IStreamServerEndpoint:
        return self.world.network.server((addr, port), credentials)

    def _client_endpoint(
        self, credentials: Credentials | None
    ) -> Callable[[Address, float], IStreamClientEndpoint]:
        return lambda there, _: self.world.network.client(self._here, there, credentials)

    def _make_worker(self, name: str) -> Any:
        return InlineWorker()


class SocketTestCase(SynchronousTestCase):
    """Tests with a world of their own."""

    def setUp(self) -> None:
        self.world = World()

    def pair(self, **options: Any) -> tuple[StillSocket, StillSocket]:
        """Two sockets that are connected."""
        one, other = self.world.socket(**options), self.world.socket(**options)
        self.join(one, other)
        return one, other

    def chain(self, length: int, **options: Any) -> list[StillSocket]:
        """Sockets of which each is connected to the next."""
        sockets = [self.world.socket(**options) for _ in range(length)]
        for one, other in pairwise(sockets):
            self.join(one, other)
        return sockets

    def join(self, one: StillSocket, other: StillSocket) -> None:
        one.connect(*other.out_addr)
        self.world.settle()
        self.assertIn(other.id, one.routing_table)

    def settle(self) -> None:
        self.world.settle()
