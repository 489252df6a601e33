"""
Clients that say whatever a test wants, to nodes in memory.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.control.server import ControlFactory, ControlProtocol
from py2p_twisted.net import service
from py2p_twisted.testing import MemoryMesh
from py2p_twisted.testing.memory import MemoryTransport

#: Where a node can be talked with.
CONTROL = ("10.0.9.9", 9)


class Client(Protocol):
    """
    One that does not know what it does.

    :ivar data: what it has been told.
    :ivar gone: whether it has been hung up on.
    """

    transport: MemoryTransport  # type: ignore[assignment]

    def __init__(self) -> None:
        self.data = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True

    def heard(self) -> list[dict[str, Any]]:
        """The objects that it has been told since the last time."""
        data, self.data = self.data, b""
        assert data.endswith(b"\n") or not data, data[-100:]
        return [json.loads(line) for line in data.splitlines()]


class ControlTestCase(SynchronousTestCase):
    """
    Tests with a node that can be talked with.

    :ivar mesh: a network of ``ada``, who can, and ``ben``; linked.
    :ivar factory: ada's.
    """

    token: str | None = None

    def setUp(self) -> None:
        self.patch(service, "lan_address", lambda: "10.9.9.9")
        catching = capturedLogs()
        self.events = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)
        self.mesh = MemoryMesh("ada", "ben")
        self.mesh.link("ada", "ben")
        self.factory = ControlFactory(self.mesh.clock, self.mesh["ada"].service, self.token)
        self.mesh.network.server(CONTROL).listen(self.factory)

    def connect(self) -> Client:
        """One more client."""
        made: list[Client] = []

        class Clients(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> Client:  # type: ignore[override]
                made.append(Client())
                return made[0]

        self.mesh.network.client(("10.0.9.1", 1), CONTROL).connect(Clients())
        self.mesh.settle()
        return made[0]

    def server_of(self, client: Client) -> ControlProtocol:
        """The node's end of a client."""
        protocol = client.transport.other.protocol
        assert isinstance(protocol, ControlProtocol)
        return protocol

    def say(self, client: Client, *what: Any) -> list[dict[str, Any]]:
        """Send lines: bytes as they are, everything else as JSON; what comes back at once."""
        for one in what:
            data = one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n"
            client.transport.write(data)
        self.mesh.settle()
        return client.heard()

    def ask(self, client: Client, word: str, **what: Any) -> dict[str, Any]:
        """Ask for something that is answered at once."""
        (answer,) = self.say(client, {"id": 1, "do": word, **what})
        self.assertEqual(answer.pop("id"), 1)
        return answer

    def assert_well(self) -> None:
        """The node does what it is for, and has logged no mistake."""
        before = len(self.mesh.inbox("ada")), len(self.mesh.inbox("ben"))
        self.mesh["ada"].send("from ada")
        self.mesh["ben"].send("from ben")
        self.mesh.settle()
        self.assertEqual(
            (len(self.mesh.inbox("ada")), len(self.mesh.inbox("ben"))),
            (before[0] + 1, before[1] + 1),
        )
        bad = [event for event in self.events if "log_failure" in event]
        self.assertEqual(bad, [])
        self.assertEqual(self.flushLoggedErrors(), [])
