"""
The service of a node that is a process of its own.

`MeshService`, and what an operator wants besides: a program for every message, lines in the
log about where it listens and why it cannot, and what ``debug-level`` asks for.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from py2p_twisted.control.places import OFF, default_place
from py2p_twisted.control.server import ControlService
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import PLAINTEXT, address_text
from py2p_twisted.daemon.configuration import Configuration
from py2p_twisted.daemon.programs import Programs
from py2p_twisted.errors import BadArgument, CannotStart, StateUnusable
from py2p_twisted.net.reports import printable
from py2p_twisted.net.service import MeshService
from py2p_twisted.net.status import Status

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
            advertise=configuration["advertise"],
            state_dir=configuration["state-dir"],
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
        self._debug_level: int = configuration["debug-level"]
        self.factory.watch_traffic = self._debug_level >= _TRAFFIC

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

        def open_control(_: object) -> None:
            problem = self._open_control()
            if problem is not None:
                problems.append(problem) if at_once else self._give_up(problem)

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
        node = self.factory.node
        if self._debug_level:
            node.trace = self._trace
        listening = ", ".join(_endpoint_text(port.getHost()) for port in self.ports)
        told = "others are told to dial {address}" if self.address[1] else "nobody can dial it"
        _log.info(
            "listening on {listening} in network {network} ({encryption}), " + told,
            event="listening", listening=listening or "no port", network=self.network.name,
            encryption=self.network.encryption, address=address_text(*self.address),
            node=self.id.decode("ascii"),
        )  # fmt: skip
        if self.network.encryption == PLAINTEXT and _is_public(self.address[0]):
            _log.warn(
                "this node is told to others at the public address {address} and speaks plain "
                "text: anybody can read along and join in",
                address=self.address[0],
            )

    def stopService(self) -> Deferred[None]:
        """Say goodbye to the peers, and end the programs that run."""
        first = not self._closed and self.factory.started
        if first:
            _log.info(
                "stopping: {count} peers are told", event="stopping", count=len(self.routing_table)
            )
        waits: list[Deferred[Any]] = [super().stopService()]
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
        status = super().status
        if self.programs is None:
            return status
        return Status({**status, "programs": self.programs.status})

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
