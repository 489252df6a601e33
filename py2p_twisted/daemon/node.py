"""
The service of a node that is a process of its own.

`MeshService`, and what an operator wants besides: a program for every message, lines in the
log about where it listens and why it cannot, and what ``debug-level`` asks for.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from py2p_twisted.control.places import (
    OFF,
    SOCKET,
    TcpPlace,
    UnixPlace,
    default_place,
    read_token,
    runtime_folder,
)
from py2p_twisted.control.server import ControlService
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import PLAINTEXT, address_text
from py2p_twisted.daemon import descriptors
from py2p_twisted.daemon.configuration import DEFAULT, Configuration
from py2p_twisted.daemon.logs import LEVEL
from py2p_twisted.daemon.programs import Programs
from py2p_twisted.daemon.reload import Reloaded, reload
from py2p_twisted.errors import BadArgument, CannotStart, StateUnusable
from py2p_twisted.net.discovery import Discovery
from py2p_twisted.net.endpoints import renewable
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import MeshService, to_address
from py2p_twisted.net.status import Status
from py2p_twisted.net.tls import Renewable
from py2p_twisted.web import WebService

_log = Logger(namespace="py2p_twisted.node")

_debug = Logger(namespace="py2p_twisted.debug")

#: What is wrong when a node listens on nothing that has a host and a port.
NO_ADDRESS = "--listen names no address that others could dial, see --advertise"

#: The level from which on it is logged what goes out. Source: ``mesh_socket.debug_level``.
_TRAFFIC = 4


class NodeService(MeshService):
    """
    One node, as an operator has set it up.

    It listens in `privilegedStartService`, so ``twistd --uid`` can have it listen on a port
    below 1024.

    :ivar configuration: what it was set up from.
    :ivar programs: runs the program of ``exec``; ``None`` without one.
    :ivar control: what it can be talked with by; ``None`` without one, and until it has started
        when nobody has said where.
    :ivar web: its status page; ``None`` without one.
    :ivar start_error: why there is no node after all, when an endpoint has failed late.
    """

    def __init__(self, reactor: Any, configuration: Configuration, **tools: Any) -> None:
        """
        :param tools: more arguments for `MeshService`; for tests.
        :raises BadArgument: an endpoint is unusable.
        """
        super().__init__(
            reactor,
            configuration.network,
            listen=configuration["listen"],
            peers=configuration["join"],
            fingerprints=configuration.fingerprints,
            advertise=configuration["advertise"],
            state_dir=configuration["state-dir"],
            discover=Discovery(configuration["interface"]) if configuration["discover"] else False,
            **configuration.limits,
            **tools,
        )
        self.configuration = configuration
        self.programs: Programs | None = None
        self.start_error: str | None = None
        if configuration["exec"] is not None:
            self.programs = Programs(
                reactor,
                configuration["exec"],
                parallel=configuration["exec-parallel"],
                queue=configuration["exec-queue"],
                timeout=configuration["exec-timeout"],
                metadata=self._metadata,
                now=self.factory.now,
            )
        self.control: ControlService | None = None
        if configuration["control"] not in (None, OFF):
            # A place that is taken is found out before the process goes to the background.
            self.control = ControlService(reactor, self, configuration["control"])
        self.web: WebService | None = None
        self._debug_level = 0
        self.set_debug_level(configuration["debug-level"])

    def _metadata(self) -> dict[str, str]:
        return {"PY2P_NETWORK": self.network.name, "PY2P_NODE": self.id.decode("ascii")}

    # --- life -----------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Listen, and begin to seek peers, while the process may still listen anywhere."""
        self._begin()

    def startService(self) -> None:
        """
        Listen, and begin to seek peers; then whoever may talk with the node can.

        :raises CannotStart: a port is taken, or may not be listened on, or the state directory
            cannot be used; the text is short and says what to do.
        """
        self._begin()
        at_once = True
        problems: list[str] = []

        def give_up(problem: str | None) -> None:
            if problem is not None:
                problems.append(problem) if at_once else self._give_up(problem)

        def open_control(_: object) -> None:
            problem = self._open_control()
            if problem is not None:
                give_up(problem)
            else:
                self._open_web().addCallback(give_up)

        # Not sooner, or the socket would belong to whom the process is not any more.
        self.start().addCallbacks(open_control, lambda _: None)
        at_once = False
        if problems:
            raise CannotStart(problems[0])

    def _begin(self) -> None:
        if self.running:
            return
        try:
            super().startService()
        except CannotListenError as error:
            raise CannotStart(why_not(error)) from None
        except BadArgument:
            raise CannotStart(NO_ADDRESS) from None
        except StateUnusable as error:
            raise CannotStart(str(error)) from None
        except Exception as error:
            # Other packages' endpoints raise what they like.
            listen = ", ".join(self.configuration["listen"]) or "nothing"
            raise CannotStart(f"cannot listen on {listen}: {error}") from error
        self.start().addCallbacks(lambda _: self._say_hello(), lambda _: None)

    def _open_control(self) -> str | None:
        """
        Let others talk with the node.

        :return: what keeps it from that, if somebody has asked for it; else it does without.
        """
        asked = self.configuration["control"]
        if self._closed or asked == OFF or (self.control is not None and self.control.running):
            return None
        where = asked or default_place(
            self.configuration.get("state-dir"), self.network.name, self._port_number()
        )
        if where is None:
            return None
        try:
            self.control = self.control or ControlService(self._reactor, self, where)
            self.control.startService()
        except (BadArgument, CannotListenError, OSError) as error:
            self.control = None
            text = printable(why_no_control(error, where))
            if asked:
                return text
            _log.warn("nobody can talk with this node: {error}", error=text)
            return None
        _log.info("it can be talked with at {where}", where=printable(str(where)))
        return None

    def _open_web(self) -> Deferred[str | None]:
        """
        Show the status page.

        :return: fires with what keeps it from that, if anything does.
        """
        where = self.configuration.get("web")
        if self._closed or where is None or self.web is not None:
            return succeed(None)
        try:
            token, file = self._web_token()
            self.web = WebService(
                self._reactor, self, where, token=token, token_file=file,
                hosts=self.configuration["web-host"],
            )  # fmt: skip
        except (BadArgument, OSError) as error:
            return succeed(why_no_web(error, where))
        starting: Deferred[Any] = self.web.start()
        starting.addCallbacks(lambda _: None, lambda failure: why_no_web(failure.value, where))
        return starting

    def _web_token(self) -> tuple[str | None, str | None]:
        """
        What who sends from the status page has to know, if that is known; and the file with it.

        It is the control endpoint's, where that has one; else a new one in a file beside it.
        """
        place = None if self.control is None else self.control.place
        if isinstance(place, TcpPlace):
            return read_token(place.token), place.token
        folder, port = self.configuration.get("state-dir"), self._port_number()
        if place is None:
            # As for the control endpoint: in the node's own folder, or else in the user's.
            place = default_place(folder, self.network.name, port)
        if place is not None:
            return None, _token_beside(place)
        folder = folder or runtime_folder()
        return None, None if folder is None else os.path.join(folder, f"{port}.web.token")

    def _port_number(self) -> int:
        hosts: list[Any] = [port.getHost() for port in self.ports]
        return next((host.port for host in hosts if hasattr(host, "port")), 0)

    def start_failed(self, failure: Failure) -> None:
        """A process without its node is of no use: it ends."""
        error = failure.value
        text = why_not(error) if isinstance(error, CannotListenError) else str(error)
        self._give_up(text)

    def _give_up(self, text: str) -> None:
        self.start_error = text
        _log.critical("there is no node: {error}", event="not started", error=printable(text))
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _say_hello(self) -> None:
        self.set_debug_level(self._debug_level)
        listening = ", ".join(_endpoint_text(port.getHost()) for port in self.ports)
        told = "others are told to dial {address}" if self.address[1] else "nobody can dial it"
        files = descriptors.limit()
        if files is not None:
            told += "; {files} files may be open"
        _log.info(
            "listening on {listening} in network {network} ({encryption}), " + told,
            event="listening", listening=listening or "no port", network=self.network.name,
            encryption=self.network.encryption, address=address_text(*self.address),
            node=self.id.decode("ascii"), files=files,
        )  # fmt: skip
        if self.network.encryption == PLAINTEXT and _is_public(self.address[0]):
            _log.warn(
                "this node is told to others at the public address {address} and speaks plain "
                "text: anybody can read along and join in",
                address=self.address[0],
            )

        if self.configuration["interface"] and self.discovery is None:
            _log.warn("--interface has no effect without --discover")
        if not LEVEL.used and self.configuration.settings["log-level"].source != DEFAULT:
            _log.warn(
                "log-level has no effect: twist and twistd have options of their own for that"
            )
        self._warn_of_few_files()

    def _warn_of_few_files(self) -> None:
        """Say so if fewer files may be open than the configuration allows for."""
        most = descriptors.limit()
        programs = 0 if self.programs is None else self.configuration["exec-parallel"]
        page = self.configuration.get("web") is not None
        needed = descriptors.needed(self.factory.settings, programs, page=page)
        if most is not None and needed > most:
            _log.warn(
                "{limit} files may be open, and {needed} are needed with --max-peers={peers}: have "
                "more allowed (LimitNOFILE, ulimit -n), or have fewer peers",
                event="descriptors", limit=most, needed=needed,
                peers=self.factory.settings.max_inbound,
            )  # fmt: skip

    # --- changes while it runs ----------------------------------------------------------------

    def reload(self) -> Reloaded:
        """
        Read the configuration again.

        :raises ConfigurationError: there is a mistake in it, so nothing has changed.
        """
        needed = self.factory.settings.max_inbound
        done = reload(self)
        if self.factory.settings.max_inbound > needed:
            self._warn_of_few_files()
        return done

    @property
    def certificates(self) -> list[tuple[str, Renewable]]:
        """Those that come from files: for which endpoint, and what reads them again."""
        pairs = zip(self.configuration["listen"], self._listen, strict=False)
        found = ((text, renewable(endpoint)) for text, endpoint in pairs)
        return [(text, one) for text, one in found if one is not None]

    def set_join(self, before: Iterable[Any], after: Iterable[Any]) -> None:
        """Dial other addresses for ever than those that were to be dialled so far."""
        old, new = list(map(to_address, before)), list(map(to_address, after))
        for address in old:
            if address not in new:
                self.factory.unpin(address)
        for address in new:
            if address not in old:
                self.factory.pin(address)

    def set_debug_level(self, level: int) -> None:
        """Log more of what happens, or less."""
        self._debug_level = level
        self.factory.watch_traffic = level >= _TRAFFIC
        if self.factory.started:
            self.factory.node.trace = self._trace if level else None

    def stopService(self) -> Deferred[None]:
        """Say goodbye to the peers, and end the programs that run."""
        first = not self._closed and self.factory.started
        if first:
            _log.info(
                "stopping: {count} peers are told", event="stopping", count=len(self.routing_table)
            )
        waits: list[Deferred[Any]] = [super().stopService()]
        if self.web is not None:
            waits.append(self.web.stopService())
        if self.control is not None:
            waits.append(self.control.stopService())
        if self.programs is not None:
            waits.append(self.programs.stop())
        done: Deferred[Any] = DeferredList(waits, consumeErrors=True)
        return done.addCallback(lambda _: self._stopped() if first else None)

    def _stopped(self) -> None:
        parted, cut_short = len(self.factory.parted), len(self.factory.cut_short)
        _log.info(
            "stopped: {parted} peers have taken leave, {cut_short} have not answered",
            event="stopped", parted=parted, cut_short=cut_short,
        )  # fmt: skip

    # --- what happens -----------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What there is to know about this node; ``programs`` says how those of exec do."""
        status = {**super().status, "file descriptors": descriptors.status()}
        if self.programs is not None:
            status["programs"] = self.programs.status
        return Status(status)

    def message_received(self, message: Message, link: Connection) -> None:
        """Run a program for it, besides what every service does."""
        if self.programs is not None:
            self.programs.offer(message, link.id)
        super().message_received(message, link)

    def sent(self, message: Message, links: Sequence[Connection]) -> None:
        """Log what goes out, if that was asked for."""
        self._trace(4, "sent to {} peers: {}", len(links), message)

    def _trace(self, level: int, text: str, *arguments: object) -> None:
        if level <= self._debug_level:
            _debug.info("{text}", text=printable(text.format(*arguments)))


def why_not(error: CannotListenError) -> str:
    """One short line about a port that cannot be had, and what to do."""
    problem = error.socketError
    cause = getattr(problem, "errno", None)
    where = f"port {error.port}" if isinstance(error.port, int) else str(error.port)
    if cause == errno.EADDRINUSE:
        return f"{where} is in use: stop its owner or use another --listen"
    if cause == errno.EACCES:
        advice = "use one above 1023" if isinstance(error.port, int) else "use another"
        return f"{where} needs privileges: {advice}, see --listen"
    if cause == errno.EADDRNOTAVAIL:
        return f"{error.interface or 'this'} is no address of this machine, see --listen"
    at = f" at {error.interface}" if error.interface else ""
    return f"cannot listen on {where}{at}: {getattr(problem, 'strerror', None) or problem}"


def why_no_control(error: Exception, where: object) -> str:
    """One short line about a control endpoint that cannot be had."""
    if isinstance(error, BadArgument):
        return str(error)
    cause = error.socketError if isinstance(error, CannotListenError) else error
    return f"--control={where}: {getattr(cause, 'strerror', None) or cause}"


def why_no_web(error: BaseException, where: object) -> str:
    """One short line about a status page that cannot be shown."""
    cause: Any = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(error, CannotListenError) and getattr(cause, "errno", None) == errno.EADDRINUSE:
        return f"--web={where}: port {error.port} is in use: stop its owner or use another one"
    return printable(f"--web={where}: {getattr(cause, 'strerror', None) or cause}")


def _token_beside(place: UnixPlace) -> str:
    folder, name = os.path.split(place.path)
    stem = name.removesuffix(".sock")
    return os.path.join(folder, "web.token" if name == SOCKET else f"{stem}.web.token")


def _endpoint_text(where: Any) -> str:
    host = getattr(where, "host", None)
    if host is None:
        return str(where)
    return address_text(host, where.port)


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return False  # a name, of which nobody knows
