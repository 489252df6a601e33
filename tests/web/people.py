"""
Those who open a node's status page, in memory.
"""

from __future__ import annotations

import http.client
import io
import json
from dataclasses import dataclass
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from py2p_twisted.net import service
from py2p_twisted.testing import MemoryMesh
from py2p_twisted.testing.memory import MemoryTransport
from py2p_twisted.web import WebService
from py2p_twisted.web.server import SECURITY, Channel

#: Where ada's page is, and what it can be asked for by.
WEB = ("10.0.9.9", 80)
HOST = "10.0.9.9"

#: What who sends has to know.
TOKEN = "t" * 64


class Client(Protocol):
    """
    One that does not know HTTP.

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


@dataclass(frozen=True)
class Answer:
    """What has come back."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read(data: bytes, method: str = "GET") -> Answer:
    """Read an answer as Python's own client does."""
    response = http.client.HTTPResponse(_Socket(data), method=method)  # type: ignore[arg-type]
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    try:
        body = response.read()
    except http.client.IncompleteRead as error:
        body = error.partial
    return Answer(response.status, headers, body)


def request(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request as it is written; ``Host`` and ``Content-Length`` unless they are given."""
    said = {"Host": HOST, **(headers or {})}
    if body is not None:
        said.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def events(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events in what a browser that watches has been told, by a reader of its own."""
    _, _, rest = data.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        assert rest[length : length + 2] == b"\r\n", rest[length : length + 20]
        rest = rest[length + 2 :]
    found = []
    for block in body.decode("ascii").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


class WebTestCase(SynchronousTestCase):
    """
    Tests with a node that has a status page.

    :ivar mesh: a network of ``ada``, who has one, and ``ben``; linked.
    :ivar web: hers.
    """

    linked = True

    def setUp(self) -> None:
        self.patch(service, "lan_address", lambda: "10.9.9.9")
        catching = capturedLogs()
        self.logged = catching.__enter__()
        self.addCleanup(catching.__exit__, None, None, None)
        self.mesh = MemoryMesh("ada", "ben")
        if self.linked:
            self.mesh.link("ada", "ben")
        self.ada = self.mesh["ada"].service
        self.web = WebService(
            self.mesh.clock, self.ada, self.mesh.network.server(WEB), token=TOKEN, hosts=["Page.Ex"]
        )
        self.web.startService()

    def connect(self, host: str = "10.0.9.1") -> Client:
        """One more connection."""
        made: list[Client] = []

        class Clients(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> Client:  # type: ignore[override]
                made.append(Client())
                return made[0]

        self.mesh.network.client((host, 1), WEB).connect(Clients())
        self.mesh.settle()
        return made[0]

    def channel_of(self, client: Client) -> Channel:
        """The node's end of a connection."""
        protocol = client.transport.other.protocol
        assert isinstance(protocol, Channel)
        return protocol

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        *,
        client: Client | None = None,
    ) -> Answer:
        """Ask for something that is answered at once; each answer has what all have to have."""
        client = client or self.connect()
        client.data = b""
        client.transport.write(request(method, path, headers, body))
        self.mesh.settle()
        answer = read(client.data, method)
        for name, value in SECURITY:
            self.assertEqual(answer.headers[name.decode().lower()], value.decode())
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a page."""
        return self.ask("GET", path, {name.replace("_", "-"): one for name, one in headers.items()})

    def post(self, what: Any, *, client: Client | None = None, **headers: str) -> Answer:
        """Send something as the page does."""
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        said = {"Content_Type": "application/json", "X_Py2p_Token": TOKEN, **headers}
        shown = {name.replace("_", "-"): value for name, value in said.items()}
        return self.ask("POST", "/send", shown, body, client=client)

    def watch(self) -> Client:
        """A browser that watches."""
        client = self.connect()
        client.transport.write(request("GET", "/events"))
        self.mesh.settle()
        return client

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
        self.assertEqual([event for event in self.logged if "log_failure" in event], [])
        self.assertEqual(self.flushLoggedErrors(), [])
