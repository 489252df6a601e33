"""
A web application with a mesh node in it: Twisted's web server and the node, in one reactor.

Start the first, then others, each in a terminal of its own::

    python examples/web_app.py --port 4444 --web 8080
    python examples/web_app.py --port 4445 --peer 127.0.0.1:4444 --web 8081

POST /notify tells everybody, and answers how many have it; GET /events streams what others say::

    curl --no-buffer http://127.0.0.1:8081/events
    curl --data 'lunch is ready' http://127.0.0.1:8080/notify

Ctrl-C ends it. web_app.tac is the same for ``twistd``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from twisted.application import strports
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import react
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from py2p_twisted.errors import LocalError
from py2p_twisted.net import Delivery, MeshService

#: Bytes of a notice, events that wait for one slow browser, and browsers.
LONGEST, BACKLOG, MOST = 10_000, 1_000, 100


class Notify(Resource):
    """POST a text here, and everybody gets it."""

    def __init__(self, mesh: MeshService) -> None:
        super().__init__()
        self._mesh = mesh

    def render_POST(self, request: Request) -> int:
        """Answer later; whoever hangs up before that is not waited for."""
        telling = Deferred.fromCoroutine(self._tell(request))
        request.notifyFinish().addErrback(lambda _: telling.cancel())
        telling.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return NOT_DONE_YET

    async def _tell(self, request: Request) -> None:
        text = request.content.read(LONGEST + 1)
        origin = request.getHeader("origin")
        if origin and urlsplit(origin).netloc != request.getHeader("host"):
            answer(request, 403, error="this is another site's business")
        elif not 0 < len(text) <= LONGEST:
            answer(request, 400, error=f"a notice has 1 to {LONGEST} bytes")
        else:
            try:
                receipt = await self._mesh.send(
                    "notice", text.decode("utf-8", "replace"), confirm=True, timeout=5
                )
            except LocalError as error:
                answer(request, 503, error=str(error))
            else:
                told, missing = len(receipt.delivered), len(receipt.missing)
                answer(request, 200, told=told, missing=missing)


def answer(request: Request, status: int, **facts: object) -> None:
    """Answer with JSON."""
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    request.write(json.dumps(facts).encode() + b"\n")
    request.finish()


@implementer(IPushProducer)
class Listener:
    """A browser. While it does not read, events wait, and then the oldest are lost."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._waiting: deque[bytes] | None = None
        request.registerProducer(self, True)

    def tell(self, event: bytes) -> None:
        """Write an event, or keep it."""
        if self._waiting is None:
            self._request.write(event)
        else:
            self._waiting.append(event)

    def pauseProducing(self) -> None:
        """It has enough."""
        if self._waiting is None:
            self._waiting = deque(maxlen=BACKLOG)

    def resumeProducing(self) -> None:
        """It reads again."""
        waiting, self._waiting = self._waiting or (), None
        for event in waiting:
            self.tell(event)

    def stopProducing(self) -> None:
        """It has gone; see `Events`."""


class Events(Resource):
    """GET what others say, as server-sent events."""

    def __init__(self, mesh: MeshService) -> None:
        super().__init__()
        self._listeners: set[Listener] = set()
        mesh.on_message = self.heard

    def heard(self, delivery: Delivery) -> None:
        """A message has come. Others may send what they like, so look twice."""
        match delivery.packets[1:]:
            case ("notice", str(text)):
                event = {"text": text, "sender": str(delivery.sender), "time": delivery.time}
                for listener in self._listeners:
                    listener.tell(b"data: " + json.dumps(event).encode() + b"\n\n")

    def render_GET(self, request: Request) -> Any:
        """Go on until the browser goes."""
        if len(self._listeners) >= MOST:
            request.setResponseCode(503)
            return b"too many listeners\n"
        request.setHeader("content-type", "text/event-stream")
        request.write(b": here you are\n\n")
        listener = Listener(request)
        self._listeners.add(listener)
        request.notifyFinish().addBoth(lambda _: self._listeners.discard(listener))
        return NOT_DONE_YET


def make_service(reactor: Any, mesh: MeshService, web: str) -> MultiService:
    """
    The whole application: the node, and the web server.

    :param web: where that listens, as an endpoint string.
    """
    root = Resource()
    root.putChild(b"notify", Notify(mesh))
    root.putChild(b"events", Events(mesh))
    both = MultiService()
    mesh.setServiceParent(both)
    # The body is what was said, whatever its type claims.
    site = Site(root, parsePOSTFormSubmission=False)
    strports.service(web, site, reactor).setServiceParent(both)
    return both


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """Start, and go on until Ctrl-C."""
    mesh = MeshService(
        reactor, "notices", listen=[f"tcp:{options.port}:interface={options.host}"],
        peers=options.peer,
    )  # fmt: skip
    service = make_service(reactor, mesh, f"tcp:{options.web}:interface=127.0.0.1")
    try:
        service.startService()
    except CannotListenError as error:
        raise SystemExit(str(error)) from None
    print("listening on {}:{}".format(*mesh.address), flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.addSystemEventTrigger("after", "shutdown", lambda: print("left", flush=True))
    await Deferred()


def address(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(arguments: list[str]) -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description="A web application with a mesh node in it.")
    parser.add_argument("--host", default="0.0.0.0", help="where the node listens (everywhere)")
    parser.add_argument("--port", type=int, default=4444, help="0 takes any free port")
    parser.add_argument("--web", type=int, default=8080, help="the web server's, on this machine")
    parser.add_argument("--peer", type=address, action="append", default=[], metavar="HOST:PORT")
    react(run, [parser.parse_args(arguments)])


if __name__ == "__main__":
    main(sys.argv[1:])
