"""
A node as a Twisted service.

::

    from twisted.internet import reactor
    from py2p_twisted.net import MeshService

    mesh = MeshService(reactor, "mesh", listen=["tcp:4444"], peers=["192.0.2.7:4444"])
    mesh.on_message = lambda message: print(message.packets)
    mesh.setServiceParent(application)      # or: await mesh.start()

    await mesh.send("storm", "north")       # a Deferred
    async for message in mesh.messages():
        await message.reply("heard")

There are no threads in here: everything is called, and calls back, in the reactor's thread.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from ipaddress import IPv6Address
from math import ceil
from typing import Any, Final, Literal, cast, overload

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from py2p_twisted.core import flags, ticket
from py2p_twisted.core.connection import Connection, read_address
from py2p_twisted.core.marker import MOST_SECONDS
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import Address, Network, node_id
from py2p_twisted.core.receipts import Receipt
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.survey import LONGEST, Survey
from py2p_twisted.core.ticket import Ticket, is_ticket
from py2p_twisted.errors import BadArgument, MeshClosed, MeshError, StateUnusable
from py2p_twisted.net.discovery import Discovery
from py2p_twisted.net.endpoints import Names, client_endpoint, server_from_description
from py2p_twisted.net.factory import Application, MeshFactory
from py2p_twisted.net.interfaces import interfaces, leading_outside
from py2p_twisted.net.reports import LogLevel, Reports
from py2p_twisted.net.state import FIRST_SAVE, SAVE_INTERVAL, NodeState
from py2p_twisted.net.status import Status, status_of
from py2p_twisted.net.tls import Credentials, SelfMade, credentials_for

_log = Logger(namespace="py2p_twisted.service")

#: One salt a process, so that two nodes at one address in turn have different ids.
#: Source: docs/protocol/wire.rst, "Ids".
SALT = str(uuid.uuid4())

#: An address of the documentation range. A UDP socket that is connected to it, which sends
#: nothing, has the address of the interface that leads outside.
_OUTSIDE = ("192.0.2.1", 9)

#: Messages that an ``async for`` may be behind.
_BACKLOG = 10_000

#: Seconds after which a confirmation says who is missing.
CONFIRM_TIMEOUT: Final = 10.0

#: Seconds after which a survey says who has answered.
SURVEY_TIMEOUT: Final = 5.0

#: What a machine without a network has.
_NOWHERE = "127.0.0.1"

#: Hosts that mean all interfaces.
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound

#: The source of addresses that names have, in the address book.
_OF_NAMES = b"name"

#: Texts of failures that are kept for ``status``.
_ERRORS_KEPT = 50


class Delivery:
    """
    A message that has arrived, with the means to answer it.

    :ivar packets: the sub-flag and what the sender gave to ``send``.
    :ivar sender: the id of the node it says it comes from; nobody vouches for it.
    :ivar id: 32 bytes, unlike those of any other message.
    :ivar time: the sender's stamp, seconds since 1970.
    :ivar link: the neighbour that brought it.
    """

    __slots__ = ("_service", "id", "link", "packets", "sender", "time")

    def __init__(self, message: Message, link: Connection, service: MeshService) -> None:
        self.packets = message.payload
        self.sender = message.sender
        self.id = message.id
        self.time = message.time
        self.link = link
        self._service = service

    def __repr__(self) -> str:
        return f"<Delivery {self.packets!r:.80} from {self.sender!r}>"

    def reply(self, *packets: Any) -> Deferred[None]:
        """
        Answer the sender, neighbour or not.

        :return: fires when the answer has been handed to the sender's link; fails with
            `ReplyFailed` when no way to it was found in time.
        :raises NotSendable: a packet has no encoding.
        """
        return self._service.reply_to(self.sender, packets, self.id)


class MeshService(Service, Application):
    """
    One node of a mesh network.

    :ivar factory: the `MeshFactory`, with the routing table.
    :ivar network: the network it belongs to.
    :ivar ports: what it listens on, once started.
    :ivar state: what it keeps for a restart; ``None`` without a state directory.
    :ivar names: what it makes of the addresses of a name that it dials, for ``endpoint_for``.
    :ivar discovery: finds nodes in the local network; ``None`` unless it was asked for.
    :ivar on_message: called with a `Delivery` for every message, when set.
    :ivar on_join: called with the `Connection` of each peer that has settled, when set.
    :ivar on_leave: called with the `Connection` and the reason when such a peer has left, when
        set.
    :ivar on_gap: called with a number (0 if nobody knows), a reason and a text when messages
        cannot be brought to this node any more, when set.
    """

    def __init__(
        self,
        reactor: Any,
        network: Network | str | None = None,
        *,
        listen: Iterable[str | IStreamServerEndpoint] = ("tcp:4444",),
        peers: Iterable[str | Address | Ticket] = (),
        advertise: str | Address | None = None,
        credentials: Credentials | None = None,
        endpoint_for: Callable[[Address, float], IStreamClientEndpoint] | None = None,
        application: Application | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        discover: bool | Discovery = False,
        fingerprints: Mapping[Address, bytes] | None = None,
        **options: Any,
    ) -> None:
        """
        :param reactor: the reactor that everything runs in.
        :param network: which network; a name alone means plain text. By default the one that a
            ticket is for, else ``mesh``.
        :param listen: where to listen: endpoint strings or endpoints. A node that listens
            nowhere dials others, and is not told to anybody.
        :param peers: bootstrap addresses, dialled for ever: ``"host:port"`` or pairs; or tickets,
            which name some, and the network. All addresses of a name are used.
        :param advertise: the address that others are told to dial; default: the first
            one listened on, with the LAN address in place of ``0.0.0.0``.
        :param credentials: TLS certificates; by default what the network's encryption asks for.
        :param endpoint_for: makes the endpoints that dial; for tests and tunnels.
        :param application: who is told what happens, instead of ``on_message`` and its like.
        :param state_dir: a directory that makes a node which is started again the same participant:
            it keeps its id, knows its peers, and is given nothing twice. One node has it for itself.
        :param discover: whether to look for nodes of this network in the local network, and be
            found; a `Discovery` says at which interfaces. See :doc:`/howto/discovery`.
        :param fingerprints: with TLS, SHA-256 of the only certificate that is accepted at an
            address, in addition to what tickets say.
        :param options: limits, see `Settings`; ``now``, ``wall`` and ``rng`` for tests.
        :raises BadArgument: an argument is unusable, or a ticket is for another network.
        :raises ImportError: TLS is wanted and its libraries are missing.
        """
        self._reactor = reactor
        if isinstance(network, str):
            network = Network(network)
        peers = list(peers)
        self.network, self._peers = join_through(network, peers)
        self.fingerprints = ticket.fingerprints_of(peers) | dict(fingerprints or {})
        self._credentials = credentials or credentials_for(self.network)
        listen = list(listen)
        #: Whether whoever dials us is shown our own certificate, whichever address is dialled.
        self._own_shown = all(isinstance(one, str) and not one.startswith("ssl:") for one in listen)
        self._listen = [
            server_from_description(reactor, item, self._credentials)
            if isinstance(item, str)
            else item
            for item in listen
        ]
        self._advertise = to_address(advertise) if advertise is not None else None
        self._salt = str(options.pop("salt", SALT))
        tools = {name: options.pop(name) for name in ("now", "wall", "rng") if name in options}
        self.ports: list[IListeningPort] = []
        self.on_message: Callable[[Delivery], object] | None = None
        self.on_join: Callable[[Connection], object] | None = None
        self.on_leave: Callable[[Connection, MeshError], object] | None = None
        self.on_gap: Callable[[int, str, str], object] | None = None
        self.errors: deque[str] = deque(maxlen=_ERRORS_KEPT)
        self.factory = MeshFactory(
            reactor,
            self.network,
            endpoint_for
            or (
                lambda address, timeout: client_endpoint(
                    reactor,
                    address,
                    self._credentials,
                    timeout,
                    self.names,
                    self.fingerprints.get(address),
                )
            ),
            application=application or self,
            settings=Settings.from_options(options),
            **tools,
        )
        settings = self.factory.settings
        self.state: NodeState | None = None
        if state_dir is not None:
            self.state = NodeState(
                state_dir,
                self.network,
                window=settings.seen_window,
                capacity=settings.seen_capacity,
                book_size=settings.book_size,
                now=self.factory.now,
                wall=self.factory.wall,
                salt=self._salt,
            )
        self.discovery: Discovery | None = None
        if discover is not False:
            self.discovery = Discovery() if discover is True else discover
        self.names = _BootstrapNames(self)
        self._save_call: IDelayedCall | None = None
        self._save_after = FIRST_SAVE
        self._streams: list[_Stream] = []
        self._reports = Reports(_log, self.factory.now)
        self._waiting: list[tuple[int, Deferred[MeshService]]] = []
        self._starting: list[Deferred[MeshService]] = []
        self._start_failure: Failure | None = None
        self._closed = False

    # --- life -------------------------------------------------------------------------

    def startService(self) -> None:
        """
        Start with the application it belongs to.

        :raises CannotListenError: a port is taken, as far as that is known at once.
        :raises StateUnusable: the state directory cannot be used.
        """
        if self.running:
            return
        at_once = True
        problem: list[Failure] = []

        def failed(failure: Failure) -> None:
            if at_once:
                problem.append(failure)
            else:
                self.start_failed(failure)

        self.start().addErrback(failed)
        at_once = False
        if problem:
            problem[0].raiseException()

    def start_failed(self, failure: Failure) -> None:
        """An endpoint that took its time has failed: there is no node. It is logged."""
        _log.failure("cannot listen, so there is no node", failure)

    def start(self) -> Deferred[MeshService]:
        """
        Listen, and begin to seek peers.

        :return: fires with the service when it listens, or fails with why it cannot.
        """
        if self._start_failure is not None:
            return fail(self._start_failure)
        if self.factory.started:
            return succeed(self)
        if self.state is not None and not self._starting:
            try:
                self.state.open()
            except StateUnusable:
                self._start_failure = Failure()
                return fail(self._start_failure)
            if isinstance(self._credentials, SelfMade):
                self.state.keep_certificate(self._credentials)
        started: Deferred[MeshService] = Deferred()
        self._starting.append(started)
        if len(self._starting) == 1:
            Service.startService(self)
            listening = DeferredList(
                [endpoint.listen(self.factory) for endpoint in self._listen],
                consumeErrors=True,
            )
            listening.addCallback(self._listening).addCallbacks(
                self._has_started, self._cannot_start
            )
        return started

    def _has_started(self, service: MeshService) -> None:
        starting, self._starting = self._starting, []
        for started in starting:
            started.callback(service)

    def _cannot_start(self, failure: Failure) -> None:
        self._start_failure = failure
        if self.state is not None:
            self.state.close()
        starting, self._starting = self._starting, []
        for started in starting:
            started.errback(failure)

    def _listening(self, results: list[tuple[bool, Any]]) -> MeshService:
        self.ports = [result for success, result in results if success]
        for success, result in results:
            if self._closed or not success:
                for port in self.ports:
                    port.stopListening()
                if not success:
                    result.raiseException()
        if self._closed:
            raise MeshClosed("this service was stopped before it listened")
        address = self._own_address()
        if self.state is not None:
            self.factory.start(self.state.identity, address)
            self.state.start(self.factory.node)
            self.factory.journal = self.state.write_ids
        else:
            self.factory.start(node_id(address, self.network.id, self._salt), address)
        for port in self.ports:
            where: Any = port.getHost()
            if hasattr(where, "port"):
                self.factory.node.dialer.add_own((where.host, where.port))
        for peer in self._peers:
            self.factory.pin(peer)
        if self.state is not None:
            self.factory.recall(self.state.peers)
            self._save_later()
        if self.discovery is not None:
            self.discovery.start(self)
        return self

    def _save_later(self) -> None:
        self._save_call = self._reactor.callLater(self._save_after, self._save)
        self._save_after = min(2 * self._save_after, SAVE_INTERVAL)

    def _save(self) -> None:
        self._save_later()
        if self.state is not None:
            self.state.save()

    def _own_address(self) -> Address:
        if self._advertise is not None and self._advertise[1]:
            return self._advertise
        if not self._listen:
            # Port 0 cannot be dialled, so nobody tries, or tells others to.
            return lan_address(), 0
        for port in self.ports:
            where: Any = port.getHost()
            host = getattr(where, "host", None)
            if host is None:
                continue
            if self._advertise is not None:
                host = self._advertise[0]
            elif host in _EVERYWHERE:
                here = lan_address()
                host = (host == "::" and here == _NOWHERE and lan_address_6()) or here
            return host, where.port
        raise BadArgument("a node that listens on no address needs advertise=(host, port)")

    def stopService(self) -> Deferred[None]:
        """
        Leave the network.

        :return: fires when ports and connections are closed, after a few seconds at most.
        """
        if self._closed:
            return succeed(None)
        self._closed = True
        if self.running:
            Service.stopService(self)
        waits: list[Deferred[Any]] = []
        if self._save_call is not None:
            self._save_call.cancel()
        if self.state is not None:
            self.state.save()  # while we still have peers
        if self.discovery is not None:
            waits.append(self.discovery.stop())
        for port in self.ports:
            stopped = port.stopListening()
            if stopped is not None:
                waits.append(stopped)
        waits.append(self.factory.close())
        for stream in self._streams:
            stream.end()
        for _, waiting in self._waiting:
            waiting.errback(Failure(MeshClosed("this service is stopping")))
        self._waiting.clear()
        done: Deferred[Any] = DeferredList(waits, consumeErrors=True)
        return cast("Deferred[None]", done.addCallback(lambda _: self._has_stopped()))

    def _has_stopped(self) -> None:
        self.factory.journal = None
        if self.state is not None:
            self.state.close()

    # --- what it does -----------------------------------------------------------------

    @property
    def id(self) -> bytes:
        """This node's id, once started."""
        return self.factory.node.id

    @property
    def address(self) -> Address:
        """Where others are told to dial this node, once started."""
        return self.factory.node.address

    @property
    def listening(self) -> list[Address]:
        """The hosts and ports it listens at, as it was told to: ``0.0.0.0`` is one."""
        hosts: list[Any] = [port.getHost() for port in self.ports]
        return [(host.host, host.port) for host in hosts if hasattr(host, "port")]

    @property
    def routing_table(self) -> Any:
        """The peers by id: a snapshot, readable from any thread."""
        return self.factory.routing_table

    @property
    def settled(self) -> frozenset[bytes]:
        """
        The ids of those peers that are here to stay, for which ``on_join`` has been called: a
        snapshot, readable from any thread. See `MeshFactory.settled`.
        """
        return self.factory.settled

    @property
    def status(self) -> Status:
        """What there is to know about this node, as a mapping that can be printed."""
        state = "closed" if self._closed else "Nominal"
        return status_of(
            self.factory,
            errors=list(self.errors),
            state=state,
            kept=self.state,
            discovery=self.discovery,
        )

    def ticket(self, others: int = 3) -> Ticket:
        """
        All that it takes to join this network, for another node's ``peers``.

        With TLS and a state directory it names the node's certificate, which is kept there.

        :param others: how many neighbours' addresses it names besides the node's own, for when
            this node is gone.
        :raises BadArgument: nobody can dial this node, and it has no neighbours that one could.
        """
        self._need_running()
        node = self.factory.node
        table = self.factory.routing_table
        links = [table[ident] for ident in self.settled if ident in table]
        theirs = (link.address for link in links if link.address is not None)
        usable = [one for one in theirs if one[1] and node.dialer.acceptable(one)]
        own = [self.address] if self.address[1] else []
        addresses = dict.fromkeys([*own, *sorted(usable)[:others]])
        if not addresses:
            raise BadArgument("nobody can dial this node or its neighbours, so it has no ticket")
        fingerprint = None
        if own and self._own_shown and self.state is not None:
            fingerprint = self.state.fingerprint
        made = Ticket(self.network, tuple(addresses), fingerprint)
        ticket.write(made)  # or it says now what is wrong
        return made

    def connect(self, host: str, port: int) -> Deferred[Connection]:
        """
        Connect to a node, and stay connected: when the link breaks it is dialled again.

        :return: fires with the connection once both ends have introduced themselves, or
            fails with the reason, within about ten seconds.
        """
        self._need_running()
        return self.factory.connect(to_address((host, port)))

    def when_connected(self, peers: int = 1) -> Deferred[MeshService]:
        """
        A Deferred that fires when at least so many peers have settled.

        A node of this package has when both ends agree to be neighbours; a plain node when its
        list of peers has come, and nothing was announced before it (or nothing has come at all for
        two seconds). Who merely has a look does not count.
        """
        if self._closed:
            return fail(MeshClosed("this service has been stopped"))
        if len(self.settled) >= peers:
            return succeed(self)
        waiting: Deferred[MeshService] = Deferred()
        self._waiting.append((peers, waiting))
        return waiting

    @overload
    def send(
        self,
        *packets: Any,
        flag: int = ...,
        type: int = ...,
        confirm: Literal[False] = ...,
        timeout: float = ...,
    ) -> Deferred[None]: ...

    @overload
    def send(
        self,
        *packets: Any,
        flag: int = ...,
        type: int = ...,
        confirm: Literal[True],
        timeout: float = ...,
    ) -> Deferred[Receipt]: ...

    def send(
        self,
        *packets: Any,
        flag: int = flags.BROADCAST,
        type: int = flags.BROADCAST,
        confirm: bool = False,
        timeout: float = CONFIRM_TIMEOUT,
    ) -> Deferred[None] | Deferred[Receipt]:
        """
        Send a message to everybody, or with ``flag=flags.whisper`` to the neighbours alone.

        :param flag: how it travels.
        :param type: its sub-flag.
        :param confirm: whether to find out who gets the message; see :doc:`/delivery`.
        :param timeout: seconds after which a confirmation says who is missing.
        :return: fires when the message has been handed to the peers' queues. A caller that
            waits for it is slowed down to what the network takes. With ``confirm`` it fires
            with a `Receipt`, when everybody has the message or the time is over.
        :raises NotSendable: a packet has no encoding.
        :raises MessageTooLarge: the message exceeds ``max_message``.
        :raises BadArgument: a flag is none, or this cannot be confirmed.
        """
        self._need_running()
        sending = self.factory.sending
        if confirm:
            marked = compose_marked(self.factory, flag, type, packets, timeout)
            confirmed: Deferred[Receipt] = Deferred()
            sending.items.append(
                lambda: self.factory.send_confirmed(marked, timeout).chainDeferred(confirmed)
            )
            sending.pump()
            return confirmed
        message = compose(self.factory, flag, type, packets)
        sending.items.append(message)
        done: Deferred[None] = Deferred()
        sending.items.append(lambda: done.callback(None))
        sending.pump()
        return done

    def survey(self, timeout: float = SURVEY_TIMEOUT) -> Deferred[Survey]:
        """
        Find out who is in the network: how far away, how long there and back, whose neighbour.
        Messages are not involved, and no application is told.

        Several who ask at once share one survey, and from one to the next half a second passes.

        :param timeout: seconds after which it is over, whoever has not answered.
        :return: fires with a `Survey` when everybody has answered who is named as a neighbour, nothing
            new has come for a second, or the time is over.
        :raises BadArgument: the timeout is no number of seconds up to 60.
        """
        self._need_running()
        return self.factory.survey(check_survey_timeout(timeout))

    def reply_to(
        self, target: bytes | str, packets: Sequence[Any], answered: bytes = b""
    ) -> Deferred[None]:
        """
        Bring a whisper to a node by its id; see `Delivery.reply`.

        :param answered: the id of a message of that node, if this answers one.
        """
        self._need_running()
        message = compose(self.factory, flags.WHISPER, flags.WHISPER, packets)
        return self.factory.reply(target, message, answered)

    async def messages(self) -> AsyncIterator[Delivery]:
        """
        The messages that arrive from now on, until the service stops.

        A reader that falls more than 10,000 messages behind loses the oldest ones; the
        log says so.
        """
        if self._closed:
            return
        stream = _Stream(self._reports)
        self._streams.append(stream)
        try:
            while (message := await stream.next()) is not None:
                yield message
        finally:
            self._streams.remove(stream)

    def _need_running(self) -> None:
        if self._closed or not self.factory.started:
            raise MeshClosed("this service is not running")

    # --- Application --------------------------------------------------------------------

    def message_received(self, message: Message, link: Connection) -> None:
        """Give a message to whoever listens; a mistake of theirs is logged and forgotten."""
        delivery = Delivery(message, link, self)
        for stream in self._streams:
            stream.put(delivery)
        self._call(self.on_message, delivery)

    def peer_settled(self, link: Connection) -> None:
        """A peer is here to stay."""
        self._call(self.on_join, link)
        count = len(self.settled)
        ready = [item for item in self._waiting if item[0] <= count]
        self._waiting = [item for item in self._waiting if item[0] > count]
        for _, waiting in ready:
            waiting.callback(self)

    def peer_gone(self, link: Connection, error: MeshError) -> None:
        """A peer that had settled has left."""
        self._call(self.on_leave, link, error)

    def link_failed(self, error: Exception, where: str) -> None:
        """A connection was refused, lost or never made."""
        self.errors.append(f"{where}: {error}")

    def reply_failed(self, error: MeshError) -> None:
        """A reply has not reached its receiver."""
        self.errors.append(str(error))

    def missed(self, count: int, reason: str, detail: str) -> None:
        """Messages cannot be brought to this node any more."""
        self.errors.append(detail)
        self._call(self.on_gap, count, reason, detail)

    def _call(self, callback: Callable[..., object] | None, *args: Any) -> None:
        if callback is None:
            return
        with _log.failuresHandled("in {callback}", callback=callback):
            result = callback(*args)
            if hasattr(result, "__await__"):
                Deferred.fromCoroutine(cast(Any, result)).addErrback(
                    lambda failure: _log.failure("in {callback}", failure, callback=callback)
                )


class _BootstrapNames(Names):
    """What a node has to do with the addresses of the names that it dials."""

    def __init__(self, mesh: MeshService) -> None:
        self._mesh = mesh

    def is_ours(self, address: Address) -> bool:
        """Whether it listens there, at whatever interface that is."""
        mesh = self._mesh
        if mesh.factory.node.dialer.is_ours(address):
            return True
        host, port = address
        if not any(here in _EVERYWHERE and port == number for here, number in mesh.listening):
            return False
        return any(one.has(host) for one in interfaces())

    def is_wanted(self, name: Address) -> bool:
        """Whether the application has given a name."""
        return self._mesh.factory.node.dialer.is_wanted(name)

    def acceptable(self, address: Address) -> bool:
        """As for an address that others name without a name."""
        return self._mesh.factory.node.dialer.acceptable(address)

    def found(self, name: Address, addresses: Sequence[Address]) -> None:
        """All addresses of a name that the application has given are candidates."""
        if self.is_wanted(name):
            for address in addresses:
                self._mesh.factory.heard(address, b"", _OF_NAMES)


class _Stream:
    """What one ``async for`` has not read yet."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._items: deque[Delivery] = deque()
        self._reader: Deferred[Delivery | None] | None = None
        self._ended = False

    def put(self, item: Delivery) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.callback(item)
            return
        if len(self._items) >= _BACKLOG:
            self._items.popleft()
            self._reports.say(
                LogLevel.warn, "not read", "messages()",
                "gap: a reader of messages() is too slow, and has lost its oldest message",
                event="gap",
            )  # fmt: skip
        self._items.append(item)

    def next(self) -> Deferred[Delivery | None]:
        if self._items:
            return succeed(self._items.popleft())
        if self._ended:
            return succeed(None)
        self._reader = Deferred()
        return self._reader

    def end(self) -> None:
        self._ended = True
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.callback(None)


def compose(factory: MeshFactory, flag: int, sub: int, packets: Sequence[Any]) -> Message:
    """
    Make a message of a node's own, in whatever thread that is.

    :raises BadArgument: the flags are the library's own.
    :raises NotSendable: a packet has no encoding.
    :raises MessageTooLarge: the message exceeds ``max_message``.
    """
    if flag is not flags.BROADCAST or sub is not flags.BROADCAST:
        _check_flags(flag, sub)
    return factory.node.composer.compose(flag, sub, packets, factory.wall())


def compose_marked(
    factory: MeshFactory, flag: int, sub: int, packets: Sequence[Any], timeout: float
) -> Message:
    """
    Make a broadcast that asks for receipts, in whatever thread that is.

    :raises BadArgument: it is none, or the timeout is no number of seconds up to `MOST_SECONDS`,
        or this node speaks 0.6 alone; and what `compose` raises.
    """
    if flag != flags.BROADCAST:
        raise BadArgument("only broadcasts can be confirmed: confirm=True needs flag=broadcast")
    if not factory.settings.extensions:
        raise BadArgument("with extensions=False nothing can be confirmed: 0.6 has no receipts")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise BadArgument(f"timeout is a number of seconds, not {timeout!r}")
    if not 0 < timeout <= MOST_SECONDS:
        raise BadArgument(f"a confirmation takes up to {MOST_SECONDS} s, not {timeout!r}")
    message = compose(factory, flag, sub, packets)
    return factory.node.composer.mark(message, ceil(timeout))


def check_survey_timeout(timeout: object) -> float:
    """
    How long a survey may take.

    :raises BadArgument: it is no number of seconds up to `LONGEST`.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise BadArgument(f"timeout is a number of seconds, not {timeout!r:.80}")
    if not 0 < timeout <= LONGEST:
        raise BadArgument(f"a survey takes up to {LONGEST:g} s, not {timeout!r}")
    return float(timeout)


def _check_flags(flag: object, sub: object) -> None:
    for name, number in (("flag", flag), ("type", sub)):
        if type(number) is not int or not 0 <= number < 2**64:
            raise BadArgument(f"{name} is a number from base.flags, not {number!r}")
    if flag == flags.RENEGOTIATE:
        raise BadArgument("flag=renegotiate is spoken between nodes, not by applications")
    if sub in flags.PRIVILEGED or sub in flags.EXTENSIONS:
        raise BadArgument(
            f"type={sub} is spoken between nodes; applications use broadcast, whisper, "
            f"or numbers from {flags.FIRST_FREE} on"
        )


def join_through(
    network: Network | None, peers: Iterable[str | Address | Ticket]
) -> tuple[Network, list[Address]]:
    """
    Which network is joined, and through whom.

    :param network: if somebody has said so; else tickets do.
    :param peers: addresses and tickets.
    :raises BadArgument: one of them is none, or they do not belong together.
    """
    addresses: dict[Address, None] = {}
    tickets = []
    for peer in peers:
        if isinstance(peer, str) and is_ticket(peer):
            peer = ticket.read(peer)
        if isinstance(peer, Ticket):
            tickets.append(peer)
            addresses |= dict.fromkeys(peer.addresses)
        else:
            addresses[to_address(peer)] = None
    of_tickets = ticket.agree(tickets)
    if None not in (network, of_tickets) and network != of_tickets:
        raise BadArgument(ticket.mismatch(of_tickets, network))
    return network or of_tickets or Network(), list(addresses)


def to_address(value: str | tuple[str, int]) -> Address:
    """
    A host and a port from ``"host:port"``, ``"[v6]:port"`` or a pair.

    :raises BadArgument: it is none of them.
    """
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        pair: tuple[Any, Any] = (host.removeprefix("[").removesuffix("]"), port)
        if not colon or not port.isdecimal():
            raise BadArgument(f"expected host:port, for example 192.0.2.7:4444, not {value!r}")
        pair = (pair[0], int(port))
    else:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise BadArgument(f"expected (host, port), not {value!r}")
        pair = (value[0], value[1])
    address = read_address(pair)
    if address is None and pair[1] == 0 and isinstance(pair[0], str):
        return pair[0], 0  # "whatever port we get"
    if address is None:
        raise BadArgument(f"this is no host and port that could be dialled: {value!r}")
    return address


def lan_address() -> str:
    """The address of the interface that leads outside, or ``127.0.0.1`` without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_OUTSIDE)
            return str(probe.getsockname()[0])
        except OSError:
            return _NOWHERE


def lan_address_6() -> str | None:
    """An IPv6 address of this machine that other machines know, if it has one."""
    for interface in leading_outside(interfaces()):
        for address in interface.six:
            if not IPv6Address(address).is_link_local:
                return address
    return None
