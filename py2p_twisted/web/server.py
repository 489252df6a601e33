"""
The web server of a node: one page, the same as JSON, numbers for Prometheus, and a way to send.

::

    WebService(reactor, mesh, "8080", token_file="web.token").setServiceParent(application)

::

    a connection --- Channel --- Asked --- Pages --- what is at the path
       at most 64    one         a body     host, origin,
                     request     of 64 KiB  method, token
                     in 10 s

Twisted's server reads whatever it is sent, for as long as that takes: `Channel` and `Asked` see to
it that nobody can keep a connection that asks for nothing, and no body gets into memory that is
larger than it may be.

Times are in seconds, sizes in bytes. Source: docs/reference/web.rst.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import resources
from io import BytesIO
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from py2p_twisted.control import places
from py2p_twisted.control.lines import parse
from py2p_twisted.control.words import Words, why
from py2p_twisted.core.network import address_text
from py2p_twisted.errors import BadArgument
from py2p_twisted.net.reports import LogLevel, Reports, printable
from py2p_twisted.net.service import MeshService
from py2p_twisted.web import metrics
from py2p_twisted.web.events import Watch
from py2p_twisted.web.guard import (
    MOST_BODY,
    Refused,
    TokenGuard,
    check_host,
    check_json,
    check_origin,
)

_log = Logger(namespace="py2p_twisted.web")

# Limits. Source: docs/reference/web.rst, "Limits".

#: Connections at a time. When there is one more, one that asks for nothing makes way.
MOST_CONNECTIONS: Final = 64

#: In which a whole request has to come; and in which the answer has to be read.
REQUEST_TIMEOUT: Final = 10.0

#: How long is read on, and thrown away, after a body was refused: else the answer would be lost.
LINGER: Final = 2.0

#: Lines of a request's head, and bytes of it.
MOST_HEADERS: Final = 64
MOST_HEAD: Final = 16 * 2**10

#: Messages that are on their way at a time, for who waits to hear that they are.
MOST_SENDS: Final = 16

#: How long connections may take to end when the node stops.
FAREWELL: Final = 1.0

#: What each answer says, so that a browser does nothing with it but show it.
SECURITY: Final = (
    (
        b"Content-Security-Policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cache-Control", b"no-store"),
    (b"Server", b"py2p_twisted"),
)

_JSON: Final = b"application/json"

#: The files of the page, and what each is.
ASSETS: Final = {
    b"/": ("index.html", b"text/html; charset=utf-8"),
    b"/app.js": ("app.js", b"text/javascript; charset=utf-8"),
    b"/app.css": ("app.css", b"text/css; charset=utf-8"),
    b"/favicon.svg": ("favicon.svg", b"image/svg+xml"),
}

#: Codes of what a node cannot do, by its reason; every other is 400.
_CODES: Final = {"not started": 503, "closed": 503, "too many": 429, "internal": 500}

#: What a browser on this machine has to be told instead of all interfaces.
_THIS_MACHINE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound

#: Endpoints of Twisted's own that listen at all addresses unless an interface is named.
_OPEN: Final = re.compile(r"(?:haproxy:)*(tcp|ssl|tcp6):")
_NAMED: Final = re.compile(r"(?<!\\):interface=")


def endpoint_text(text: str) -> str:
    """
    A Twisted endpoint string, from one or from a bare port.

    It leads to this machine alone unless an interface is named.
    """
    if re.fullmatch(r"[0-9]{1,5}", text):
        text = f"tcp:{text}"
    match = _OPEN.match(text)
    if match is None or _NAMED.search(text):
        return text
    return text + (":interface=\\:\\:1" if match[1] == "tcp6" else ":interface=127.0.0.1")


class WebService(Service):
    """
    The status page of a node.

    :ivar port: the port that it listens on, once it does; ``None`` before, and where there is none.
    :ivar url: where a browser finds it, once it listens.
    :ivar token_file: where the token can be read, if anywhere.
    :ivar refused: how many requests were not dealt with, by reason.
    """

    def __init__(
        self,
        reactor: Any,
        mesh: MeshService,
        endpoint: str | IStreamServerEndpoint,
        *,
        token_file: str | os.PathLike[str] | None = None,
        token: str | None = None,
        hosts: Iterable[str] = (),
        demo: bool = False,
    ) -> None:
        """
        :param mesh: the node; who starts and stops it is somebody else's business.
        :param endpoint: where to listen: a port of this machine, an endpoint string, or an endpoint.
        :param token_file: gets a fresh token while the page is there, and mode 0600. With ``token``
            it is merely named in the log.
        :param token: what who sends has to know. With neither, nobody can send from here.
        :param hosts: further names that the page may be asked for by, besides addresses and
            ``localhost``.
        :param demo: whether the page says that it shows a demonstration.
        :raises BadArgument: it is no endpoint.
        """
        self._scheme = "http"
        if isinstance(endpoint, str):
            if endpoint.startswith("ssl:"):
                self._scheme = "https"
            try:
                made = serverFromString(reactor, endpoint_text(endpoint))
            except Exception as error:
                # Whatever Twisted's parser makes of it: it raises five different things.
                raise BadArgument(
                    f"expected a port, or an endpoint such as tcp:8080:interface=192.0.2.7, not "
                    f"{endpoint!r}"
                ) from error
        else:
            made = endpoint
        self.mesh = mesh
        self.port: int | None = None
        self.url: str | None = None
        self.token_file = None if token_file is None else os.fspath(token_file)
        self.hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        self.refused: Counter[str] = Counter()
        self._reactor = reactor
        self._endpoint: IStreamServerEndpoint = made
        self._token = token
        self._demo = demo
        self._port: IListeningPort | None = None
        self._site: WebSite | None = None
        self._wrote_token = False

    # --- life ---------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start with the application it belongs to; what fails is logged."""
        if not self.running:
            self.start().addErrback(lambda failure: _log.failure("no status page", failure))

    def start(self) -> Deferred[WebService]:
        """
        Listen.

        :return: fires with the service when it does, or fails with why it cannot.
        """
        Service.startService(self)
        listening: Deferred[Any] = maybeDeferred(self._listen)
        return listening.addCallbacks(self._listens, self._cannot)

    def _listen(self) -> Deferred[IListeningPort]:
        token = self._token
        if token is None and self.token_file is not None:
            token = secrets.token_hex(32)
        self._site = WebSite(self._reactor, self, TokenGuard(token, self.mesh.factory.now))
        listening: Deferred[IListeningPort] = self._endpoint.listen(self._site)
        return listening.addCallback(self._write_token, token)

    def _write_token(self, port: IListeningPort, token: str | None) -> Any:
        # Not sooner: it may be that of a node which has the port already.
        if self._token is None and self.token_file is not None and token is not None:
            try:
                places.write_token(self.token_file, token)
            except OSError:
                failure = Failure()
                stopped = maybeDeferred(port.stopListening)
                return stopped.addCallback(lambda _: failure)
            self._wrote_token = True
        return port

    def _listens(self, port: IListeningPort) -> Any:
        if not self.running:
            return maybeDeferred(port.stopListening).addCallback(lambda _: self)
        self._port = port
        where: Any = port.getHost()
        if hasattr(where, "port"):
            self.port = where.port
            host = _THIS_MACHINE.get(where.host, where.host)
            self.url = f"{self._scheme}://{address_text(host, where.port)}/"
        else:
            self.url = printable(str(getattr(where, "name", where)))
        token = self.token_file and f"token in {printable(self.token_file)}"
        if token is None:
            token = "no token: nothing can be sent from it" if self._token is None else "own token"
        _log.info(
            "status page {url} ({token})", event="status page", url=self.url, token=token
        )  # fmt: skip
        return self

    def _cannot(self, failure: Failure) -> Failure:
        if self.running:
            Service.stopService(self)
        return failure

    def stopService(self) -> Deferred[None]:
        """
        Stop, and part from all clients.

        :return: fires when they have gone.
        """
        if not self.running:
            return succeed(None)
        Service.stopService(self)
        if self._wrote_token and self.token_file is not None:
            with suppress(OSError):
                os.unlink(self.token_file)
        waits: list[Deferred[Any]] = []
        if self._port is not None:
            waits.append(maybeDeferred(self._port.stopListening))
        if self._site is not None:
            waits.append(self._site.close())
        both: Deferred[Any] = DeferredList(waits, consumeErrors=True)
        return both.addCallback(lambda _: None)


# --- connections --------------------------------------------------------------------------------


class Channel(HTTPChannel):
    """
    One connection, for one request, with a deadline for whatever it waits for.

    With more of them, what was asked for in 64 KiB could be a thousand times as large, and would all
    be in memory.

    :ivar idle: whether it is waiting for a request, or for its answer to be read.
    """

    maxHeaders = MOST_HEADERS
    totalHeadersSize = MOST_HEAD
    site: WebSite

    def __init__(self) -> None:
        super().__init__()
        self.idle = True
        self._asked = False
        self._behind = 0
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Somebody is there."""
        super().connectionMade()
        self.site.admit(self)
        self.due_in(REQUEST_TIMEOUT)

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Whether there may be another request: never."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def dataReceived(self, data: bytes) -> None:
        """
        Something has come.

        Behind a request nothing is of use. A little is thrown away; more is not read, as Twisted
        would keep whatever comes while the answer waits to be read.
        """
        if not self._asked:
            super().dataReceived(data)
            return
        self._behind += len(data)
        if self._behind > MOST_HEAD:
            transport: Any = self.transport
            transport.pauseProducing()

    def allContentReceived(self) -> None:
        """A request has come, all of it."""
        self._asked = True
        self.idle = False
        self.due_in(None)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """It has been answered."""
        self.idle = True
        self.due_in(REQUEST_TIMEOUT)
        super().requestDone(request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has gone."""
        self.due_in(None)
        super().connectionLost(reason)
        self.site.gone(self)

    def due_in(self, seconds: float | None) -> None:
        """Hang up when nothing else happens so soon."""
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        if seconds is not None:
            self._deadline = self.site.reactor.callLater(seconds, self.abort)

    def abort(self) -> None:
        """Hang up at once."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's has none of our headers.
        self.write(answer_to(400, "bad request", "this is no request of HTTP/1.1"))
        self.loseConnection()
        self.due_in(LINGER)


class Asked(Request):
    """
    One request. Its body is kept in memory, and only as long as it is small.

    :ivar refused: whether its body was too large, and is thrown away as it comes.
    """

    content: Any
    channel: Channel

    def __init__(self, channel: Channel, *arguments: Any, **how: Any) -> None:
        super().__init__(channel, *arguments, **how)
        self.refused = False
        self._size = 0

    def gotLength(self, length: int | None) -> None:
        """
        The head has come.

        :param length: bytes of the body; ``None``: it comes in pieces.
        """
        self.content = BytesIO()
        if length is not None and length > MOST_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body has come."""
        self._size += len(data)
        if self._size > MOST_BODY:
            self._refuse()
        if not self.refused:
            self.content.write(data)

    def _refuse(self) -> None:
        """Answer at once, and read on for a moment: the answer would be lost with a reset."""
        if self.refused:
            return
        self.refused = True
        self.content = BytesIO()
        # Else Twisted would ask for the body now.
        self.requestHeaders.removeHeader(b"expect")
        self.channel.site.service.refused["too large"] += 1
        text = f"a body may have {MOST_BODY} bytes"
        self.channel.write(answer_to(413, "too large", text))
        self.channel.due_in(LINGER)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of it has come."""
        if self.refused:
            self.channel.loseConnection()
            self.channel.due_in(LINGER)
        else:
            super().requestReceived(command, path, version)

    def process(self) -> None:
        """It can be answered."""
        if self.path == b"*":
            self.path = b"/*"  # which Twisted would answer itself
        super().process()


def answer_to(code: int, reason: str, text: str) -> bytes:
    """A whole answer, for who is not listened to any more."""
    body = _error(reason, text)
    head = [
        b"HTTP/1.1 %d %s" % (code, RESPONSES.get(code, b"")),
        *(b"%s: %s" % pair for pair in SECURITY),
        b"Content-Type: " + _JSON,
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    return b"\r\n".join([*head, b"", body])


def _error(reason: str, text: str) -> bytes:
    return _json({"ok": False, "reason": reason, "error": text})


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode("ascii") + b"\n"


class WebSite(Site):
    """
    The connections of one node's page.

    :ivar service: whose it is.
    :ivar channels: the connections, oldest first.
    :ivar watch: those that watch.
    """

    protocol: Any = Channel
    noisy = False

    def __init__(self, reactor: Any, service: WebService, tokens: TokenGuard) -> None:
        # Bodies are JSON, and are read by us: Twisted must not take forms apart.
        super().__init__(
            Pages(reactor, service, tokens),
            requestFactory=Asked,
            timeout=None,
            reactor=reactor,
            parsePOSTFormSubmission=False,
        )
        self.service = service
        self.channels: dict[Channel, None] = {}
        self.watch: Watch = self.resource.watch
        self._all_gone: list[Deferred[None]] = []

    def admit(self, channel: Channel) -> None:
        """One more connection: if there are too many, one that asks for nothing makes way."""
        self.channels[channel] = None
        if len(self.channels) <= MOST_CONNECTIONS:
            return
        self.service.refused["connections"] += 1
        idle = next((one for one in self.channels if one.idle), channel)
        idle.abort()

    def gone(self, channel: Channel) -> None:
        """A connection has ended."""
        self.channels.pop(channel, None)
        if not self.channels:
            waiting, self._all_gone = self._all_gone, []
            for done in waiting:
                done.callback(None)

    def close(self) -> Deferred[None]:
        """Part from all clients; fires when they have gone."""
        self.watch.close()
        if not self.channels:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._all_gone.append(done)
        for channel in list(self.channels):
            if channel.idle:
                channel.loseConnection()
                channel.due_in(FAREWELL)
            else:
                channel.abort()
        return done

    def startFactory(self) -> None:
        """Twisted would have a timer here, and then log each request: who watches asks often."""


# --- pages --------------------------------------------------------------------------------------


class Pages(Resource):
    """
    What is at which path.

    :ivar watch: those that watch.
    """

    isLeaf = True

    def __init__(self, reactor: Any, service: WebService, tokens: TokenGuard) -> None:
        super().__init__()
        self._service = service
        self._mesh = service.mesh
        self._words = Words(service.mesh)
        self._tokens = tokens
        self._sending = 0
        self._reports = Reports(_log, service.mesh.factory.now)
        self.watch = Watch(reactor, service.mesh, self._words, demo=service._demo)
        folder = resources.files("py2p_twisted.web") / "assets"
        self._assets: dict[bytes, tuple[bytes, bytes]] = {}
        for path, (name, kind) in ASSETS.items():
            with suppress(FileNotFoundError):
                self._assets[path] = ((folder / name).read_bytes(), kind)
        self._pages: dict[bytes, Callable[[Any], Any]] = {
            b"/status.json": self._status,
            b"/peers.json": self._peers,
            b"/members.json": self._members,
            b"/healthz": self._health,
            b"/metrics": self._metrics,
            b"/events": self._events,
        }

    def render(self, request: Any) -> Any:
        """Answer a request."""
        for name, value in SECURITY:
            request.setHeader(name, value)
        try:
            return self._answer(request)
        except Refused as refused:
            return self._refuse(request, refused)
        except Exception:  # noqa: BLE001 - else Twisted shows a page of its own
            return self._failed(request, Failure())

    def _answer(self, request: Any) -> Any:
        path, headers = request.path, request.requestHeaders
        host = check_host(headers, self._service.hosts)
        changes = request.method not in (b"GET", b"HEAD")
        check_origin(headers, host, changes=changes)
        if path == b"/send":
            return self._send(request)
        if path not in self._assets and path not in self._pages:
            raise Refused(404, "no such page", "there is nothing here")
        if changes:
            request.setHeader(b"Allow", b"GET, HEAD")
            raise Refused(405, "bad method", "expected GET")
        if path in self._assets:
            data, kind = self._assets[path]
            request.setHeader(b"Content-Type", kind)
            return _sized(request, data)
        if not self._mesh.factory.started:
            raise Refused(503, "not started", "the node has not started yet: ask again")
        return self._pages[path](request)

    def _refuse(self, request: Any, refused: Refused) -> Any:
        self._service.refused[refused.reason] += 1
        request.setResponseCode(refused.code)
        if refused.code in (429, 503):
            request.setHeader(b"Retry-After", b"60" if refused.code == 429 else b"5")
        return self._write(request, _error(refused.reason, str(refused)))

    def _write(self, request: Any, data: bytes, kind: bytes = _JSON) -> Any:
        request.setHeader(b"Content-Type", kind)
        return _sized(request, data)

    def _failed(self, request: Any, failure: Failure) -> Any:
        """What was asked for cannot be done."""
        error: Any = failure.value
        if isinstance(error, Refused):
            return self._refuse(request, error)
        known = why(error)
        if known is None:
            _log.failure("in what was asked for at {path}", failure, path=request.path)
            known = "internal", "this is a mistake of the node's: its log says more"
        reason, text = known
        return self._refuse(request, Refused(_CODES.get(reason, 400), reason, text))

    def _later(self, request: Any, answer: Deferred[dict[str, Any]]) -> Any:
        """Answer when there is something to say, if they still want to know."""
        here = [request]
        request.notifyFinish().addBoth(lambda _: here.clear())

        def write(data: Any) -> None:
            if here:
                request.write(data)
                request.finish()

        answer.addCallback(lambda fields: self._write(request, _json(fields)))
        answer.addErrback(lambda failure: self._failed(request, failure))
        answer.addCallback(write)
        return NOT_DONE_YET

    # --- what there is to see -----------------------------------------------------------------

    def _status(self, request: Any) -> Any:
        answer: Any = self._words.do("status", {})
        return self._write(request, _json(answer))

    def _peers(self, request: Any) -> Any:
        answer: Any = self._words.do("peers", {})
        return self._write(request, _json(answer))

    def _members(self, request: Any) -> Any:
        return self._later(request, self.watch.members.ask())

    def _health(self, request: Any) -> Any:
        settled = len(self._mesh.settled)
        request.setResponseCode(200 if settled else 503)
        fields = {"joined": bool(settled), "settled": settled, "id": printable(self._mesh.id)}
        return self._write(request, _json(fields))

    def _metrics(self, request: Any) -> Any:
        families = [
            *metrics.of_node(self._mesh),
            *metrics.of_process(),
            *metrics.of_web(
                len(request.site.channels),
                len(self.watch.streams),
                self.watch.waiting,
                self._service.refused,
            ),
        ]
        return self._write(request, metrics.render(families), metrics.CONTENT_TYPE)

    def _events(self, request: Any) -> Any:
        self.watch.check()
        request.setHeader(b"Content-Type", b"text/event-stream")
        # A proxy in between must not keep them back.
        request.setHeader(b"X-Accel-Buffering", b"no")
        if request.method == b"HEAD":
            return b""
        self.watch.add(request)
        return NOT_DONE_YET

    # --- what there is to do ------------------------------------------------------------------

    def _send(self, request: Any) -> Any:
        if request.method != b"POST":
            request.setHeader(b"Allow", b"POST")
            raise Refused(405, "bad method", "expected POST")
        headers = request.requestHeaders
        check_json(headers)
        peer = getattr(request.getClientAddress(), "host", "") or ""
        try:
            self._tokens.check(headers, peer)
        except Refused as refused:
            if refused.reason != "no token":
                self._reports.say(
                    LogLevel.warn, "wrong token", peer,
                    "a request from {peer} was refused: {error}", host=peer,
                    event="wrong token", error=str(refused),
                )  # fmt: skip
            raise
        said = parse(request.content.read())
        if self._sending >= MOST_SENDS:
            raise Refused(429, "too many", f"{MOST_SENDS} messages are on their way: try again")
        wanted = {name: said[name] for name in ("packets", "confirm", "timeout") if name in said}
        self._sending += 1
        do: Any = self._words.do
        sending: Deferred[dict[str, Any]] = maybeDeferred(do, "send", wanted)

        def sent(result: Any) -> Any:
            self._sending -= 1
            return result

        sending.addBoth(sent).addCallback(lambda fields: {"ok": True, **fields})
        return self._later(request, sending)


def _sized(request: Any, data: bytes) -> bytes:
    request.setHeader(b"Content-Length", b"%d" % len(data))
    return b"" if request.method == b"HEAD" else data


__all__ = ["ASSETS", "Asked", "Channel", "Pages", "WebService", "WebSite", "endpoint_text"]
