"""
The mesh socket: an alert and messaging network, as a script sees it.

>>> from py2p_twisted import mesh
>>> sock = mesh.mesh_socket('0.0.0.0', 4444)
>>> sock.connect('192.168.1.14', 4567)
<Connecting, under way>
>>> sock.send('this is', 'a test')

All of it may be used from any thread, also inside callbacks, and before a reactor runs.
In the reactor's own thread nothing waits; what would have to is refused there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, Literal, overload

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from py2p_twisted.base import (
    Confirming,
    Connecting,
    MsgPackable,
    Pending,
    Protocol,
    Replying,
    Surveying,
    base_connection,
    base_socket,
    flags,
    message,
)
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import MAX_ID, build, weigh
from py2p_twisted.core.message import Message as _CoreMessage
from py2p_twisted.core.network import Address, Network
from py2p_twisted.errors import BadArgument, ConnectTimeout, MeshClosed, MeshError
from py2p_twisted.net.discovery import Discovery
from py2p_twisted.net.endpoints import client_endpoint, server_endpoint
from py2p_twisted.net.factory import Application
from py2p_twisted.net.reports import LogLevel, Reports
from py2p_twisted.net.service import (
    CONFIRM_TIMEOUT,
    SURVEY_TIMEOUT,
    MeshService,
    check_survey_timeout,
    compose,
    compose_marked,
    to_address,
)
from py2p_twisted.net.status import Status
from py2p_twisted.net.tls import Credentials, credentials_for
from py2p_twisted.reactor_thread import Handover, Inbox, Worker, reactor_thread

_log = Logger(namespace="py2p_twisted.mesh")

#: The network of a socket that is not told another one.
default_protocol: Final = Protocol("mesh", "Plaintext")

#: Links that a socket seeks by itself. The constructor takes another number.
max_outgoing: Final = 4

#: Messages, and bytes of messages, that wait to be read at most. Older ones give way.
#: Source: docs/design.rst, "The documented face".
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024

#: Events that wait for a running callback at most; there are more only of refused strangers.
_MOST_EVENTS: Final = 1000

#: Seconds that listening may take.
_START_TIMEOUT: Final = 15.0

_ANYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound

_BROADCAST: Final = flags.broadcast

#: Sub-flags of messages that are queued for ``recv``; others are for handlers alone.
_QUEUED: Final = (flags.broadcast, flags.whisper)


class mesh_connection(base_connection):
    """A peer of a mesh socket."""

    def send(
        self,
        msg_type: int,
        *args: MsgPackable,
        id: bytes | None = None,
        time: int | None = None,
    ) -> None:
        """
        Send a message to this peer.

        :param msg_type: the main flag: ``flags.whisper`` for the peer alone,
            ``flags.broadcast`` to have it relayed.
        :param args: the sub-flag (``flags.whisper``) and the packets.
        :param id: another sender than this node.
        :param time: another stamp than now.
        :raises NotSendable: a packet has no encoding.
        :raises MeshClosed: the socket is closed.
        """
        self.server._send_to(self._link, msg_type, args, id, time)


class mesh_socket(base_socket):
    """
    A node of a mesh network.

    Events, as in pyee (``on``, ``once``, ``remove_listener``, ...):

    * ``connect(sock)``: the first peer is there, again after every time there was none;
    * ``message(sock)``: a message waits to be read with `recv`;
    * ``gap(sock, messages)``: these were lost, because nobody read them in time; or more than
      is known, while this node was cut off for too long (see `Lost`);
    * ``error(sock, exception)``: a connection or reply failed. Nobody has to listen.

    :ivar id: this node's id, bytes.
    :ivar out_addr: the address that others are told to dial.
    :ivar protocol: the network.
    """

    def __init__(
        self,
        addr: str,
        port: int,
        prot: Protocol = default_protocol,
        out_addr: tuple[str, int] | None = None,
        debug_level: int = 0,
        *,
        reactor: Any = None,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        state_dir: str | os.PathLike[str] | None = None,
        discover: bool | Discovery = False,
        **options: Any,
    ) -> None:
        """
        Make a node that listens.

        :param addr: the interface; ``'0.0.0.0'`` for all, announced as the LAN address.
        :param port: 0 takes any free one, which `out_addr` then shows.
        :param prot: the network, and whether it is encrypted.
        :param out_addr: where others can dial this node, if it is behind a port forward.
        :param debug_level: see `debug_level`.
        :param reactor: the reactor of a program that will call ``reactor.run()`` itself;
            by default the one that runs, or a new one in a thread.
        :param max_waiting: messages that may wait to be read.
        :param max_waiting_bytes: bytes of them.
        :param state_dir: a directory that makes a program which is started again the same
            participant; see ``MeshService``.
        :param discover: whether to find nodes of this network in the local network, and be found;
            see ``MeshService``.
        :param options: other limits, see ``py2p_twisted.core.settings.Settings``.
        :raises OSError: the address cannot be bound, for example because it is in use, or the state
            directory cannot be used (`StateUnusable`).
        :raises ValueError: an argument is unusable; unknown encryption is.
        :raises ImportError: SSL is asked for and cryptography is not installed.
        """
        super().__init__(Protocol(*prot), debug_level)
        if type(port) is not int or not 0 <= port < 65536:
            raise BadArgument(f"a port is a number from 0 to 65535, not {port!r}")
        network = Network(str(prot[0]), str(prot[1]))
        credentials = credentials_for(network)
        self._closed = False
        self._closing = threading.Lock()
        self._table: Mapping[bytes, mesh_connection] = MappingProxyType({})
        #: How many of them have settled.
        self._settled = 0
        self._table_changed = threading.Condition()
        self._worker: Worker | None = None
        #: What callers may be waiting for.
        self._pending: set[Pending[Any]] = set()
        self._inbox = Inbox(
            max_waiting,
            max_waiting_bytes,
            weigh,
        )
        # What callbacks have not been asked about yet.
        self._unhandled = Inbox(
            max_waiting,
            max_waiting_bytes,
            lambda items: weigh([item for item, _ in items]),
        )
        # What was not read in time and has not been told yet.
        self._lost = Inbox(max_waiting, max_waiting_bytes, weigh)
        self._losing = threading.Lock()
        self._gap_told = False
        self._reports = Reports(_log, monotonic)
        #: Events that wait for a callback that is running.
        self._events_due = 0
        self._thread = reactor_thread(reactor)
        self._reactor = self._thread.ensure_running()
        announced = out_addr
        if announced is None and addr not in _ANYWHERE:
            announced = (addr, port)
        options.setdefault("max_outgoing", max_outgoing)
        self._service = MeshService(
            self._reactor,
            network,
            listen=[self._server_endpoint(addr, port, credentials)],
            endpoint_for=self._client_endpoint(credentials),
            advertise=announced,
            credentials=credentials,
            application=_Bridge(self),
            state_dir=state_dir,
            discover=discover,
            **options,
        )
        self._factory = self._service.factory
        self._handover = Handover(self._thread, self._reactor, self._factory.sending)
        self._listen(addr, port)
        self._compose = self._factory.node.composer.compose
        self._wall = self._factory.wall
        self.id = self._service.id
        self.out_addr = self._service.address
        self._debug_level_changed()
        self._thread.when_gone(self._reactor_gone)
        # A program that just ends has said what it said.
        self._at_stop = self._thread.before_stop(self._reactor, self._stopping)

    def _server_endpoint(
        self, addr: str, port: int, credentials: Credentials | None
    ) -> IStreamServerEndpoint:
        """Where to listen; tests listen in memory."""
        return server_endpoint(self._reactor, addr, port, credentials)

    def _client_endpoint(
        self, credentials: Credentials | None
    ) -> Callable[[Address, float], IStreamClientEndpoint]:
        """How to dial; tests dial in memory."""
        return lambda there, timeout: client_endpoint(
            self._reactor, there, credentials, timeout, self._service.names
        )

    def _listen(self, addr: str, port: int) -> None:
        try:
            if self._thread.inside() or not self._reactor.running:
                problems: list[Failure] = []
                self._service.start().addErrback(problems.append)
                if problems:
                    problems[0].raiseException()
            else:
                self._thread.ask(self._service.start).result(_START_TIMEOUT)
        except CannotListenError as error:
            cause = error.socketError
            number = getattr(cause, "errno", None)
            raise OSError(
                number,
                f"cannot listen on {addr}:{port}: {getattr(cause, 'strerror', None) or cause}",
            ) from error
        if not self._factory.started:
            raise MeshClosed("the node did not start")

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._table)} peers"
        return "<mesh_socket {}:{}, {}>".format(*self.out_addr, state)

    # --- the network --------------------------------------------------------------------

    @property
    def routing_table(self) -> Mapping[bytes, mesh_connection]:
        """The peers that have introduced themselves, by id: a snapshot."""
        return self._table

    @property
    def awaiting_ids(self) -> list[mesh_connection]:
        """Connections whose other end has not introduced itself yet."""
        return [self._face(link) for link in list(self._factory.node.links.greeting)]

    @property
    def outgoing(self) -> Iterator[bytes]:
        """Ids of the peers that we dialled."""
        return (ident for ident, peer in self._table.items() if peer.outgoing)

    @property
    def incoming(self) -> Iterator[bytes]:
        """Ids of the peers that dialled us."""
        return (ident for ident, peer in self._table.items() if not peer.outgoing)

    def connect(self, addr: str, port: int, id: bytes | None = None) -> Connecting:
        """
        Connect to a node, and by it to the network. Returns at once.

        A link that was made this way is made again whenever it breaks.

        :param id: the id that must answer, if that matters.
        :return: may be waited for, awaited, or left alone:
            ``sock.connect('192.0.2.7', 4444).wait(10)`` raises why it failed.
        :raises BadArgument: this is no host and port.
        :raises MeshClosed: the socket is closed.
        """
        address = to_address((addr, port))
        if not address[1]:
            raise BadArgument("port 0 cannot be dialled")
        self._need_open()
        pending = Connecting(self._thread)
        self._print(1, "attempting connection to {}:{}", addr, port)
        self._cross(
            pending,
            lambda: self._factory.connect(address, id).addCallback(self._face),
        )
        return pending

    def wait_connected(self, timeout: float = 10.0, peers: int = 1) -> mesh_socket:
        """
        Wait until there are peers that are here to stay.

        Those are our neighbours, and the nodes of py2p. A node that merely has a look, as they do
        in a larger network, does not count.

        :param timeout: in seconds.
        :param peers: how many.
        :return: this socket.
        :raises TimeoutError: there are not so many by then; it says what failed lately.
        :raises BlockingInReactor: this is the reactor's thread.
        """
        if self._settled >= peers:
            return self
        self._thread.refuse_inside("wait_connected()")
        until = monotonic() + timeout
        with self._table_changed:
            while self._settled < peers:
                left = until - monotonic()
                self._need_open()
                if left <= 0:
                    raise ConnectTimeout(
                        f"{self._settled} of {peers} peers after {timeout:g} s: {self._lately()}"
                    )
                self._table_changed.wait(min(1.0, left))
        return self

    def _lately(self) -> str:
        """Why there are no more peers, as far as that is known."""
        told = list(self._errors)[-3:]
        undecided = len(self._table) - self._settled
        if undecided > 0:
            told.append(f"connected to {undecided} more, not known to stay")
        return "; ".join(told) or "no connection was tried"

    def request_peers(self) -> None:
        """Ask the neighbours whom they know; nodes do that by themselves when they need to."""
        self._need_open()
        self._handover.call(self._factory.request_peers)

    def survey(self, timeout: float = SURVEY_TIMEOUT) -> Surveying:
        """
        Find out who is in the network: how far away, how long there and back, whose neighbour.
        No message is sent, and no application is told.

        :param timeout: seconds after which it is over, whoever has not answered.
        :return: what may be waited for or awaited: it resolves to a ``Survey``.
        :raises ValueError: the timeout is no number of seconds up to 60.
        :raises RuntimeError: the socket is closed.
        """
        seconds = check_survey_timeout(timeout)
        pending = Surveying(self._thread)
        self._cross(pending, lambda: self._factory.survey(seconds))
        return pending

    def disconnect(self, handler: mesh_connection) -> None:
        """
        Close a connection, and have none with that peer until you `connect` to it again.

        :raises MeshClosed: the socket is closed.
        """
        self._need_open()
        link = handler._link
        self._handover.call(lambda: self._factory.disconnect(link))

    # --- messages -----------------------------------------------------------------------

    @overload
    def send(
        self,
        *args: MsgPackable,
        flag: int = ...,
        type: int = ...,
        timeout: float | None = ...,
        confirm: Literal[False] = ...,
    ) -> None: ...

    @overload
    def send(
        self,
        *args: MsgPackable,
        flag: int = ...,
        type: int = ...,
        timeout: float | None = ...,
        confirm: Literal[True],
    ) -> Confirming: ...

    def send(
        self,
        *args: MsgPackable,
        flag: int = flags.broadcast,
        type: int = flags.broadcast,
        timeout: float | None = None,
        confirm: bool = False,
    ) -> Confirming | None:
        """
        Send a message: each argument is a packet.

        Without peers a broadcast is kept for a while, for the first who comes. The call waits while
        more than 4 MiB wait to leave this process; a slow peer alone does not hold it up.

        :param flag: ``flags.broadcast``, to be relayed to everybody, or ``flags.whisper``,
            for the neighbours alone.
        :param type: the sub-flag; applications' own begin at 0x30 and reach handlers alone.
        :param timeout: seconds to wait for room.
        :param confirm: whether to find out who gets the message. The call then waits for nothing,
            and ``timeout`` are the seconds after which it is said who is missing, by default 10.
        :return: with ``confirm`` what may be waited for, awaited, or left alone: it resolves to a
            ``Receipt``, see :doc:`/delivery`.
        :raises TypeError: a packet has no encoding; it is named.
        :raises ValueError: the message is larger than ``max_message``, or a flag is none, or this
            cannot be confirmed.
        :raises WouldBlock: there was no room in time; in the reactor's thread at once.
        :raises RuntimeError: the socket is closed.
        """
        if confirm:
            return self._send_confirmed(flag, type, args, timeout)
        if flag is _BROADCAST and type is _BROADCAST:
            # What `compose` would do: this is the line that a busy sender lives in.
            sent = self._compose(flag, type, args, self._wall())
        else:
            sent = compose(self._factory, flag, type, args)
        self._handover.put(sent, timeout)
        return None

    def _send_confirmed(
        self, flag: int, sub: int, packets: Sequence[MsgPackable], timeout: float | None
    ) -> Confirming:
        seconds = CONFIRM_TIMEOUT if timeout is None else timeout
        marked = compose_marked(self._factory, flag, sub, packets, seconds)
        pending = Confirming(self._thread)
        self._cross(pending, lambda: self._factory.send_confirmed(marked, seconds))
        return pending

    def reply_to(self, target: bytes | str, *packets: MsgPackable) -> Replying:
        """
        Send a whisper to a node by its id, neighbour or not; see `message.reply`.

        A node that is no neighbour is looked for in the network, and dialled.
        """
        return self._reply_to(target, packets)

    def _reply_to(
        self, target: bytes | str, packets: Sequence[MsgPackable], answered: bytes = b""
    ) -> Replying:
        whisper = compose(self._factory, flags.whisper, flags.whisper, packets)
        pending = Replying(self._thread)
        self._cross(pending, lambda: self._factory.reply(target, whisper, answered))
        return pending

    def _send_to(
        self,
        link: Connection,
        flag: int,
        payload: tuple[MsgPackable, ...],
        sender: bytes | None,
        stamp: int | None,
    ) -> None:
        if not payload:
            raise BadArgument("a message needs a sub-flag, such as flags.whisper")
        if sender is not None and (not isinstance(sender, (bytes, str)) or len(sender) > MAX_ID):
            raise BadArgument(
                f"a sender is an id of {MAX_ID} characters at most, not {sender!r:.80}"
            )
        sent = compose(self._factory, flag, payload[0], payload[1:])
        as_it_is = sender is not None or stamp is not None
        if as_it_is:
            sent = build(
                flag,
                self.id if sender is None else sender,
                int(sent.time) if stamp is None else stamp,
                payload,
            )
        self._handover.call(lambda: self._factory.send_to(link, sent, as_it_is=as_it_is))

    def recv(self, quantity: int = 1, timeout: float | None = None) -> Any:
        """
        Take messages that have arrived, oldest first.

        :param quantity: 1 gives a `message` or ``None``; any other number a list of up to
            so many.
        :param timeout: seconds to wait for a first one; by default not at all.
        :raises BlockingInReactor: waiting is asked for in the reactor's thread.
        :raises MeshClosed: there is nothing left, and the reactor has ended, or this is a
            forked child.
        """
        if timeout is not None and not len(self._inbox):
            self._thread.refuse_inside("recv(timeout=...)")
        inbox = self._inbox
        most = max(0, quantity)
        found = inbox.take(most) if timeout is None else inbox.wait(timeout, most)
        if not found and most and self._thread.gone:
            raise MeshClosed(self._thread.gone)
        if quantity == 1:
            return message(found[0], self) if found else None
        return list(map(message, found, repeat(self)))

    def __iter__(self) -> Iterator[message]:
        """The messages as they arrive, until the socket is closed."""
        self._thread.refuse_inside("iterating over a socket")
        while found := self._inbox.wait(None):
            yield message(found[0], self)

    # --- what is wrong ------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """
        What there is to know about this node: a mapping that can be printed.

        It equals ``"Nominal"`` as long as nothing has gone wrong; ``errors`` holds the
        latest failures, tracebacks of callbacks among them.
        """
        from py2p_twisted.net.status import status_of

        state = "Nominal"
        if self._thread.gone:
            state = self._thread.gone
        elif self._closed:
            state = "closed"
        elif self._errors:
            state = f"{len(self._errors)} errors"
        worker = self._worker
        if worker is not None and worker.busy is not None:
            seconds = monotonic() - worker.busy
            if seconds > 1.0:
                state = f"a callback has been running for {seconds:.0f} s"
        return status_of(
            self._factory,
            errors=list(self._errors),
            state=state,
            kept=self._service.state,
            discovery=self._service.discovery,
        )

    # --- the end --------------------------------------------------------------------------

    def close(self, timeout: float = 5.0) -> None:
        """
        Leave the network: flush what waits to be sent, say goodbye, stop.

        May be called twice, and from a callback. No callback starts after it has returned.

        :param timeout: seconds to give peers and a running callback; in the reactor's
            thread nothing is waited for.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        until = monotonic() + timeout
        self._handover.close("this socket is closed")
        stopped = None if self._thread.gone else self._thread.ask(self._stop)
        if stopped is not None and not self._thread.inside() and self._reactor.running:
            try:
                stopped.result(timeout)
            except TimeoutError:
                _log.warn("peers did not take all messages within {timeout} s", timeout=timeout)
        self._thread.forget(self._reactor_gone)
        self._inbox.close()
        with self._table_changed:
            self._table, self._settled = MappingProxyType({}), 0
            self._table_changed.notify_all()
        if self._worker is not None:
            wait = 0.0 if self._thread.inside() else max(0.0, until - monotonic())
            self._worker.close(wait)

    def __enter__(self) -> mesh_socket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _stop(self) -> Deferred[None]:
        self._at_stop()
        return self._service.stopService()

    def _stopping(self) -> Deferred[None]:
        """The reactor is about to end; it may be one that nobody else tells us of."""
        self._handover.close(self._thread.gone)
        return self._service.stopService().addBoth(lambda _: self._reactor_gone(False))

    def _need_open(self) -> None:
        if self._closed:
            raise MeshClosed("this socket is closed")
        if self._thread.gone:
            raise MeshClosed(self._thread.gone)

    def _reactor_gone(self, forked: bool) -> None:
        """The reactor has ended, or is another process's: say so to whoever calls or waits."""
        if forked:
            self._closing = threading.Lock()
            self._table_changed = threading.Condition()
            self._table, self._settled = MappingProxyType({}), 0
            self._handover.forked(self._thread.gone)
            self._inbox.forked()
            if self._worker is not None:
                self._worker.forked()
        self._handover.close(self._thread.gone)
        for pending in list(self._pending):
            if not pending.done() and pending.set_running_or_notify_cancel():
                pending.set_exception(MeshClosed(self._thread.gone))
        self._inbox.close()
        with self._table_changed:
            self._table_changed.notify_all()

    # --- between the threads ----------------------------------------------------------------

    def _cross(self, pending: Pending[Any], start: Callable[[], Deferred[Any]]) -> None:
        """Start something in the reactor's thread, in line behind what was sent before."""
        self._need_open()
        self._pending.add(pending)
        pending.add_done_callback(self._pending.discard)

        def succeeded(value: Any) -> None:
            if pending.set_running_or_notify_cancel():
                pending.set_result(value)

        def failed(failure: Failure) -> None:
            if pending.set_running_or_notify_cancel():
                pending.set_exception(failure.value)

        self._handover.call(lambda: start().addCallbacks(succeeded, failed) and None)

    def _face(self, link: Connection) -> mesh_connection:
        """What users see of a core connection: always the same object."""
        owner = link.owner
        if owner.face is None:
            owner.face = mesh_connection(link, self)
        face: mesh_connection = owner.face
        return face

    def _callbacks_wanted(self) -> None:
        if self._worker is None and not self._closed:
            self._worker = self._make_worker(f"py2p-callbacks-{self.out_addr[1]}")

    def _make_worker(self, name: str) -> Worker:
        return Worker(name)

    def _debug_level_changed(self) -> None:
        def go() -> None:
            node = self._factory.node
            node.trace = self._print if self._debug_level > 0 else None
            self._factory.watch_traffic = self._debug_level >= 4

        if not self._closed and not self._thread.gone:
            self._thread.post(go)

    def _port_text(self) -> str:
        return str(self.out_addr[1])

    def _emit_soon(self, event: str, *args: Any) -> None:
        """Call an event's listeners in the callback thread."""
        worker = self._worker
        if worker is not None and self.listeners(event) and self._events_due < _MOST_EVENTS:
            self._events_due += 1
            worker.put(self._emit_waiting, event, *args)

    def _emit_waiting(self, event: str, *args: Any) -> None:
        self._events_due -= 1
        self._emit_now(event, *args)

    def _emit_now(self, event: str, *args: Any) -> None:
        if not self._closed and self.listeners(event):
            self.emit(event, self, *args)

    def _handle_next(self) -> None:
        """In the callback thread: handlers, then the queue, then the event."""
        waiting = self._unhandled.take()
        if not waiting or self._closed:
            return
        received, link = waiting[0]
        handlers = self._handlers
        if handlers:
            wrapped, connection = message(received, self), self._face(link)
            for handler in handlers:
                self._print(4, "checking handler: {}", handler)
                done = self._guarded(handler, wrapped, connection)
                self._print(4, "leaving handler: {}, {}", handler, "done" if done else "go on")
                if done:
                    return
        self._queue(received)

    def _queue(self, received: _CoreMessage) -> None:
        if received.items[3] not in _QUEUED:
            self._print(4, "ignoring a message of type {}", received.items[3])
            return
        lost = self._inbox.extend((received,))
        if lost:
            self._gap(lost)
        if self._worker is not None:
            self._emit_now("message")

    def _gap(self, lost: Sequence[_CoreMessage]) -> None:
        count = len(lost)
        self._errors.append(f"{count} messages were lost, because they were not read in time")
        self._reports.say(
            LogLevel.warn, "not read", self._port_text(),
            "gap: {count} messages were lost, because they were not read in time",
            event="gap", count=count,
        )  # fmt: skip
        if self._worker is not None and self.listeners("gap"):
            # Bounded like what is read: whoever does not read may not listen either.
            with self._losing:
                self._lost.extend(lost)
            if not self._gap_told:
                self._gap_told = True
                self._worker.put(self._tell_gap)

    def _tell_gap(self) -> None:
        self._gap_told = False
        lost = self._lost.take(len(self._lost))
        if lost:
            text = "they were not read in time"
            self._emit_now("gap", Lost(map(self._face_of, lost), len(lost), "not read", text))

    def _face_of(self, received: _CoreMessage) -> message:
        return message(received, self)


class Lost(list[message]):
    """
    What a ``gap`` is about: the messages, as far as there are any.

    :ivar number: how many were lost; 0 if nobody knows.
    :ivar reason: a short stable word: ``"not read"``, ``"apart for too long"`` or ``"not held
        any more"``.
    :ivar detail: what is known, for people.
    """

    def __init__(self, items: Iterable[message], number: int, reason: str, detail: str) -> None:
        super().__init__(items)
        self.number = number
        self.reason = reason
        self.detail = detail


class _Bridge(Application):
    """What the node says in the reactor's thread, brought to where users are."""

    def __init__(self, sock: mesh_socket) -> None:
        self._sock = sock

    def messages_received(self, messages: Sequence[_CoreMessage], link: Connection) -> None:
        sock = self._sock
        if sock._worker is not None:
            super().messages_received(messages, link)
            return
        # Several at once are broadcasts of no special type.
        if len(messages) > 1 or messages[0].items[3] in _QUEUED:
            lost = sock._inbox.extend(messages)
            if lost:
                sock._gap(lost)

    def message_received(self, received: _CoreMessage, link: Connection) -> None:
        sock = self._sock
        worker = sock._worker
        if worker is None:
            sock._queue(received)
            return
        lost = sock._unhandled.extend(((received, link),))
        if lost:
            # Their jobs are still there, so no new one is needed.
            sock._gap([item for item, _ in lost])
        else:
            worker.put(sock._handle_next)

    def peer_joined(self, link: Connection, first: bool) -> None:
        self._sock._print(1, "connected to {}", link.id)
        if first:
            self._sock._emit_soon("connect")

    def peer_left(self, link: Connection, error: MeshError, last: bool) -> None:
        self._sock._print(1, "connection to {} has been closed: {}", link.id, error)

    def peer_settled(self, link: Connection) -> None:
        self._count_settled()

    def peer_gone(self, link: Connection, error: MeshError) -> None:
        self._count_settled()

    def _count_settled(self) -> None:
        sock = self._sock
        with sock._table_changed:
            sock._settled = len(sock._factory.settled)
            sock._table_changed.notify_all()

    def table_changed(self, table: Mapping[bytes, Connection]) -> None:
        sock = self._sock
        faces = MappingProxyType({ident: sock._face(link) for ident, link in table.items()})
        with sock._table_changed:
            sock._table = faces
            sock._table_changed.notify_all()

    def link_failed(self, error: Exception, where: str) -> None:
        sock = self._sock
        text = str(error) if where in str(error) else f"{where}: {error}"
        sock._errors.append(text)
        sock._print(1, "no connection with {}", text)
        sock._emit_soon("error", error)

    def reply_failed(self, error: MeshError) -> None:
        sock = self._sock
        sock._errors.append(str(error))
        sock._emit_soon("error", error)

    def missed(self, count: int, reason: str, detail: str) -> None:
        sock = self._sock
        sock._errors.append(detail)
        sock._emit_soon("gap", Lost((), count, reason, detail))

    def sent(self, sent: _CoreMessage, links: Any) -> None:
        self._sock._print(4, "sending {} to {}", sent, list(links))


# the spellings of py2p 0.6.757
MeshConnection = mesh_connection
MeshSocket = mesh_socket
