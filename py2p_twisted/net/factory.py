"""
The factory: it owns the core node, and with it the routing table.

It makes a `MeshProtocol` for every connection, accepted or dialled, gives the node what
happens and carries out what the node decides, and tells an `Application` about it.

Everything runs in the reactor's thread, the application's methods included; they must
return soon. (`mesh_socket` puts a thread of its own between them and user code.)
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

from twisted.internet import error as twisted_error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from py2p_twisted import __version__
from py2p_twisted.core import flags
from py2p_twisted.core.actions import (
    Action,
    ClockDisagreement,
    Close,
    Confirmed,
    Connected,
    ConnectFailed,
    Dial,
    Dropped,
    Gap,
    Joined,
    Left,
    Receipted,
    Replaced,
    Replied,
    Settled,
    Surveyed,
    WakeAt,
)
from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import Address, Network, address_text
from py2p_twisted.core.node import Node
from py2p_twisted.core.receipts import Receipt
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.survey import Survey
from py2p_twisted.errors import (
    ConnectTimeout,
    Disconnected,
    LinkError,
    MeshClosed,
    MeshError,
    NetworkMismatch,
    ProbeEnded,
    SameId,
    SelfConnection,
    TooManyPeers,
    Unreachable,
    ViewFull,
)
from py2p_twisted.net.flow import TURN, Pace, SendQueue
from py2p_twisted.net.protocol import (
    CLOSE_TIMEOUT,
    MOST_CLOSING,
    REFUSAL_TIMEOUT,
    MeshProtocol,
)
from py2p_twisted.net.reports import Reports, printable, reason_of

_log = Logger(namespace="py2p_twisted.net")

#: Ends of links that are nobody's failure: somebody wants it so, or others are kept instead.
_NO_FAILURES = (Disconnected, ProbeEnded, ViewFull)


def uptime() -> float:
    """
    Seconds that never go back, and go on while the machine is suspended, where it can tell.

    By a clock that stands still meanwhile, waking up would look as if the time had been set.
    """
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class Application:
    """
    Who is told what happens in a node. Override what is of interest.

    All methods are called in the reactor's thread.
    """

    def message_received(self, message: Message, link: Connection) -> None:
        """A message has come in; ``link`` is the neighbour that brought it."""

    def messages_received(self, messages: Sequence[Message], link: Connection) -> None:
        """
        Messages have come in with one read; by default each is told by itself.

        :param messages: one of any kind, or several broadcasts whose sub-flag is broadcast,
            too.
        """
        for message in messages:
            self.message_received(message, link)

    def peer_joined(self, link: Connection, first: bool) -> None:
        """A peer stands in the routing table; ``first``: it was empty."""

    def peer_left(self, link: Connection, error: MeshError, last: bool) -> None:
        """A peer has left the routing table; ``last``: it is empty."""

    def peer_settled(self, link: Connection) -> None:
        """
        A peer that has joined is here to stay; see `MeshFactory.settled`.

        Most links of a mesh are made for a look, and end without this.
        """

    def peer_gone(self, link: Connection, error: MeshError) -> None:
        """A peer that had settled has left. `peer_left` has been called before."""

    def table_changed(self, table: Mapping[bytes, Connection]) -> None:
        """The routing table has changed. The mapping is a snapshot, it will not change."""

    def link_failed(self, error: Exception, where: str) -> None:
        """A connection was refused, lost or never made; ``where`` names its other end."""

    def reply_failed(self, error: MeshError) -> None:
        """A reply has not reached its receiver."""

    def missed(self, count: int, reason: str, detail: str) -> None:
        """
        Messages can not be brought to this node any more.

        :param count: how many; 0 if nobody knows.
        """

    def sent(self, message: Message, links: Sequence[Connection]) -> None:
        """A message goes out. Called only while ``MeshFactory.watch_traffic`` is set."""

    def originated(self, messages: Sequence[Message]) -> None:
        """
        This node sends messages of its own. Called only while ``MeshFactory.watch_own`` is set.

        The id of one that equals another of the same second is another one on its way.
        """


class Traffic(NamedTuple):
    """
    What connections have carried.

    :ivar frames_in: frames that have come in, duplicates among them.
    :ivar bytes_in: bytes that have come in.
    :ivar duplicates: frames that had come before.
    :ivar bytes_out: bytes that transports were given.
    """

    frames_in: int
    bytes_in: int
    duplicates: int
    bytes_out: int


def _carried(protocol: MeshProtocol) -> Traffic:
    link = protocol.link
    return Traffic(link.frames, link.bytes, link.duplicates, protocol.outbox.sent)


class MeshFactory(Factory):
    """
    Makes the connections of one node, and keeps them together.

    :ivar node: the core; ``None`` until `start`.
    :ivar network: the network it belongs to.
    :ivar sending: what waits to be sent by this node.
    :ivar closed_links: how many connections ended, by reason.
    :ivar traffic_of_ended: what ended connections had carried.
    :ivar messages_in: how many messages the application was given.
    :ivar messages_out: how many it has sent.
    :ivar parted: after `close`, the peers that have read all they were sent.
    :ivar cut_short: after `close`, those of which nobody knows.
    """

    noisy = False

    node: Node

    def __init__(
        self,
        reactor: Any,
        network: Network,
        endpoint_for: Callable[[Address, float], IStreamClientEndpoint],
        *,
        application: Application | None = None,
        settings: Settings | None = None,
        now: Callable[[], float] = uptime,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """
        :param reactor: provides ``IReactorTime``.
        :param endpoint_for: makes the endpoint that dials an address, with a timeout.
        :param now: a monotonic clock, in seconds.
        :param wall: seconds since 1970.
        """
        self.reactor: Any = reactor
        self.network = network
        self.application = application or Application()
        self.settings = settings or Settings()
        self.now = now
        self.wall = wall
        self.pace = Pace(reactor)
        self.sending = SendQueue(reactor, self.pace, self._originate)
        self.sending.flush = self.flush
        #: Protocols whose outboxes are flushed at the end of this turn.
        self.dirty: list[MeshProtocol] = []
        self.closed_links: Counter[str] = Counter()
        self.traffic_of_ended = Traffic(0, 0, 0, 0)
        self.messages_in = self.messages_out = 0
        self.parted: list[str] = []
        self.cut_short: list[str] = []
        self.watch_traffic = False
        self.watch_own = False
        #: Called before a turn writes or delivers anything, when the node keeps a state directory.
        self.journal: Callable[[], None] | None = None
        self.started = False
        self._closing = False
        self._rng = rng or random.Random()
        self._endpoint_for = endpoint_for
        self._reports = Reports(_log, now)
        self._wake: IDelayedCall | None = None
        self._wake_at = float("inf")
        self._dials: dict[int, Deferred[Any]] = {}
        self._protocols: dict[MeshProtocol, None] = {}
        #: Those among them that are being closed, oldest first.
        self._ending: dict[MeshProtocol, None] = {}
        self._settled: frozenset[bytes] = frozenset()
        self._waiting: dict[int, Deferred[Any]] = {}
        self._all_gone: list[Deferred[None]] = []
        #: What has arrived in this turn.
        self._arrived: list[tuple[Sequence[Message], Connection]] = []
        self._arrived_bytes = 0
        self._snapshot: Mapping[bytes, Connection] = MappingProxyType({})
        self._performers: dict[type, Callable[[Any], None]] = {
            Dial: self._do_dial,
            Close: self._do_close,
            Joined: self._do_joined,
            Settled: self._do_settled,
            Left: self._do_left,
            Replaced: self._do_replaced,
            Connected: self._do_connected,
            ConnectFailed: self._do_connect_failed,
            Replied: self._do_replied,
            Confirmed: self._do_confirmed,
            Receipted: self._do_receipted,
            Surveyed: self._do_surveyed,
            ClockDisagreement: self._do_clock,
            Dropped: self._do_dropped,
            Gap: self._do_gap,
            WakeAt: self._do_wake_at,
        }

    # --- life -----------------------------------------------------------------------------

    def start(self, ident: bytes, address: Address) -> None:
        """
        Begin to be a node. Until then, connections are refused.

        :param ident: the node's id.
        :param address: where others can dial it.
        """
        self.node = Node(
            ident=ident,
            network=self.network,
            address=address,
            effects=self,
            rng=self._rng,
            settings=self.settings,
            version=__version__,
        )
        self.node.composer.now = self.now
        self.started = True

    def close(self) -> Deferred[None]:
        """
        Leave the network: what is queued is written, connections are closed in good order.

        :return: fires when the last connection is gone; a few seconds at most.
        """
        done: Deferred[None] = Deferred()
        if not self.started or self._closing:
            if self._protocols:
                self._all_gone.append(done)
            else:
                done.callback(None)
            return done
        self._closing = True
        self.sending.drain()
        self.perform(self.node.close(self.now(), self.wall()))
        self.sending.close()
        for dialling in list(self._dials.values()):
            dialling.cancel()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self.flush()
        if self._protocols:
            self._all_gone.append(done)
        else:
            done.callback(None)
        return done

    # --- what upper floors do ---------------------------------------------------------------

    @property
    def routing_table(self) -> Mapping[bytes, Connection]:
        """
        The peers that have introduced themselves, by id: a snapshot that does not change.

        May be read from any thread.
        """
        return self._snapshot

    @property
    def settled(self) -> frozenset[bytes]:
        """
        The ids of the peers that are here to stay: a snapshot that does not change.

        These are our neighbours and the plain nodes. The routing table also has those who
        have not decided yet, or have a look and go again.

        May be read from any thread.
        """
        return self._settled

    @property
    def duplicates(self) -> int:
        """Frames that have come in, and had come before, on all connections ever."""
        return self.traffic.duplicates

    @property
    def traffic(self) -> Traffic:
        """What all connections ever have carried."""
        rows = [self.traffic_of_ended, *map(_carried, list(self._protocols))]
        return Traffic(*map(sum, zip(*rows, strict=True)))

    def connect(self, address: Address, expected: bytes | None = None) -> Deferred[Connection]:
        """
        Connect to a node, and stay connected.

        :return: fires with the connection; fails with what went wrong (`NetworkMismatch`,
            `HandshakeTimeout`, `SelfConnection`, ``ConnectionRefusedError``, ...) within
            about ten seconds.
        """
        done: Deferred[Connection] = Deferred()
        token, actions = self.node.connect(address, self.now(), self.wall(), expected=expected)
        self._waiting[token] = done
        self._act(actions)
        return done

    def pin(self, address: Address) -> None:
        """Dial a bootstrap address, and again, for ever."""
        self._act(self.node.pin(address, self.now(), self.wall()))

    def unpin(self, address: Address) -> None:
        """Dial a bootstrap address no more than any other; a link to it stays."""
        self._act(self.node.unpin(address, self.now(), self.wall()))

    def heard(self, address: Address, ident: bytes, source: bytes) -> None:
        """Take an address into the book that no peer has named; see ``core.node.Node.heard``."""
        if self.started and not self._closing:
            self._act(self.node.heard(address, ident, source, self.now(), self.wall()))

    def recall(self, peers: Sequence[tuple[Address, bytes]]) -> None:
        """Dial nodes that were known before this one was started anew, until there are enough."""
        self._act(self.node.recall(peers, self.now(), self.wall()))

    def reply(self, target: bytes | str, message: Message, answered: bytes = b"") -> Deferred[None]:
        """
        Bring a whisper to a node, neighbour or not.

        :param answered: the id of a message of that node, if this answers one.
        :return: fires when it has been handed to the node's link; fails with
            `ReplyFailed` when no way was found in time.
        """
        done: Deferred[None] = Deferred()
        token, actions = self.node.reply(
            target, message, self.now(), self.wall(), answered=answered
        )
        self._waiting[token] = done
        self._act(actions)
        return done

    def confirm(self, link: Connection) -> Deferred[None]:
        """
        Wait until a peer has dealt with all that it has been sent until now.

        :return: fires then; fails with the reason when the link ends first.
        """
        done: Deferred[None] = Deferred()
        token, actions = self.node.confirm(link, self.now(), self.wall())
        self._waiting[token] = done
        self._act(actions)
        return done

    def send_confirmed(self, message: Message, timeout: float) -> Deferred[Receipt]:
        """
        Send a broadcast, and find out who gets it. Called by an item of ``sending``, whose place
        the message takes.

        :param message: one that `Composer.mark` has made.
        :param timeout: seconds after which it is said who is missing.
        """
        done: Deferred[Receipt] = Deferred()
        token, actions = self.node.expect_receipts(message, timeout, self.now())
        self._waiting[token] = done
        self.sending.items.appendleft(message)
        self.perform(actions)
        return done

    def survey(self, timeout: float) -> Deferred[Survey]:
        """
        Find out who is in the network.

        :param timeout: seconds after which it is said who has answered.
        """
        done: Deferred[Survey] = Deferred()
        token, actions = self.node.survey(timeout, self.now(), self.wall())
        self._waiting[token] = done
        self._act(actions)
        return done

    def send_to(self, link: Connection, message: Message, *, as_it_is: bool = False) -> None:
        """Send one message to one peer; see ``core.node.Node.send_to``."""
        self.node.send_to(link, message, self.now(), as_it_is=as_it_is)
        self.flush()

    def request_peers(self) -> None:
        """Ask every neighbour for its peers."""
        self._act(self.node.request_peers(self.now(), self.wall()))

    def close_link(self, link: Connection, error: MeshError) -> None:
        """End one connection."""
        self._act(self.node.close_link(link, error, self.now(), self.wall(), flush=False))

    def disconnect(self, link: Connection) -> None:
        """End a connection, and turn its peer away until it is connected to again."""
        self._act(self.node.disconnect(link, self.now(), self.wall()))

    def _act(self, actions: Sequence[Action]) -> None:
        self.perform(actions)
        self.flush()

    def _originate(self, messages: Sequence[Message]) -> None:
        now = self.now()
        self.messages_out += len(messages)
        if self.watch_own:
            self.application.originated(messages)
        if not [message for message in messages if message.items[0] != flags.BROADCAST]:
            self.perform(self.node.broadcast(messages, now))  # the usual case
            return
        for flag, run in groupby(messages, _flag_of):
            if flag == flags.BROADCAST:
                self.perform(self.node.broadcast(tuple(run), now))
            else:
                self.node.whisper(tuple(run))

    # --- what transports do -------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> MeshProtocol | None:  # type: ignore[override]
        """A connection has been accepted."""
        if not self.started or self._closing:
            return None
        return MeshProtocol(self, None)

    def connection_made(self, protocol: MeshProtocol, now: float) -> None:
        """A transport is ready."""
        self._protocols[protocol] = None
        self._act(self.node.opened(protocol.link, now, self.wall()))

    def closing(self, protocol: MeshProtocol) -> None:
        """A connection is being closed in good order, which may take a while."""
        self._ending[protocol] = None
        if len(self._ending) > MOST_CLOSING and not self._closing:
            oldest = next(iter(self._ending))
            del self._ending[oldest]
            oldest.cut_off()

    def connection_lost(self, protocol: MeshProtocol, error: MeshError | None) -> None:
        """A transport is gone."""
        link = protocol.link
        refused = error if link.state is State.GREETING else None
        rows = zip(self.traffic_of_ended, _carried(protocol), strict=True)
        self.traffic_of_ended = Traffic(*map(sum, rows))
        actions = self.node.lost(link, error, self.now(), self.wall())
        self._protocols.pop(protocol, None)
        self._ending.pop(protocol, None)
        if self._closing and link.id:
            (self.parted if protocol.closed_well else self.cut_short).append(protocol.peer_name)
        self._act(actions)
        if refused is not None:
            self._refused(link, refused)
            self.application.link_failed(refused, protocol.peer_name)
        if not self._protocols:
            waiting, self._all_gone = self._all_gone, []
            for done in waiting:
                done.callback(None)

    def congestion_changed(self, protocol: MeshProtocol, congested: bool) -> None:
        """The queue of a peer has risen above high water, or fallen below low water."""
        protocol.link.congested = congested
        if not congested:
            # Called in the middle of a flush: take it up afterwards.
            self.reactor.callLater(0, self._drained, protocol)

    def _drained(self, protocol: MeshProtocol) -> None:
        if not self._closing and not protocol.link.congested:
            self._act(self.node.drained(protocol.link, self.now(), self.wall()))

    def flush(self) -> None:
        """
        End a turn: write what it has queued, one write a peer, then deliver what it has
        brought. Relaying comes before the application, whatever that does; what is kept for a
        restart comes before both.
        """
        if self.journal is not None:
            self.journal()
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for protocol in dirty:
                protocol.dirty = False
                protocol.outbox.flush()
        if self._arrived:
            self._hand_over()

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._arrived_bytes = 0
        for messages, link in arrived:
            self.messages_in += len(messages)
            self.application.messages_received(messages, link)

    # --- Effects: the core's data ---------------------------------------------------------------

    def send(self, message: Message, link: Connection) -> None:
        """Queue one message for one peer."""
        self.relay((message,), (link,))

    def relay(self, messages: Sequence[Message], links: Sequence[Connection]) -> None:
        """Queue messages for several peers."""
        dirty = self.dirty
        shared = len(links) > 1
        for link in links:
            protocol = link.owner
            protocol.outbox.put(link.policy.frames(messages, shared))
            if not protocol.dirty:
                protocol.dirty = True
                dirty.append(protocol)
        if self.watch_traffic:
            for message in messages:
                self.application.sent(message, links)

    def deliver(self, messages: Sequence[Message], link: Connection) -> None:
        """Keep messages for the application until the end of this turn."""
        self._arrived.append((messages, link))
        if len(messages) == 1:
            # Several are what stood in one read, plainly.
            self._arrived_bytes += len(messages[0].body)
            if self._arrived_bytes > TURN:
                if self.journal is not None:
                    self.journal()
                self._hand_over()

    # --- actions: the core's decisions ------------------------------------------------------------

    def perform(self, actions: Sequence[Action]) -> None:
        """Carry out decisions, in order."""
        for action in actions:
            self._performers[type(action)](action)

    def _do_dial(self, dial: Dial) -> None:
        try:
            endpoint = self._endpoint_for(dial.address, dial.timeout)
            dialling = endpoint.connect(_Outgoing(self, dial))
        except Exception as error:  # noqa: BLE001 - third-party endpoints, learnt addresses
            self._dial_failed(dial, Unreachable(f"this address cannot be dialled: {error}"))
            return
        self._dials[dial.serial] = dialling
        dialling.addErrback(lambda failure: self._dial_failed(dial, _translate(failure, dial)))

        def forget(_: object) -> None:
            self._dials.pop(dial.serial, None)

        dialling.addBoth(forget)

    def _dial_failed(self, dial: Dial, error: Exception) -> None:
        if self._closing:
            return
        where = address_text(*dial.address)
        if isinstance(error, SelfConnection):
            # A name under which nobody else is found yet, as with the first node of a network.
            _log.debug("{where} leads to this node alone, so far", where=where)
        else:
            self._reports.say(
                LogLevel.info, "dial", where, "no connection to {peer}: {error}",
                event="no connection", error=reason_of(error),
            )  # fmt: skip
            self.application.link_failed(error, where)
        self._act(self.node.dial_failed(dial, error, self.now(), self.wall()))

    def _do_close(self, action: Close) -> None:
        link, error = action.link, action.error
        protocol: MeshProtocol = link.owner
        self.closed_links[error.reason] += 1
        if isinstance(error, SelfConnection) and link.outgoing:
            self._learn_own(protocol)
        if isinstance(error, LinkError) and not link.id:
            self._refused(link, error)
            self.application.link_failed(error, link.owner.peer_name)
        elif isinstance(error, TooManyPeers):
            self._refused(link, error)  # worth a line in the log, but no trouble of ours
        refused = isinstance(error, (TooManyPeers, NetworkMismatch, SameId, SelfConnection))
        protocol.close(action.flush, REFUSAL_TIMEOUT if refused else CLOSE_TIMEOUT)

    def _learn_own(self, protocol: MeshProtocol) -> None:
        """An address that a name has led to is one of this node: the next time it is left out."""
        peer: Any = protocol.transport.getPeer() if protocol.transport is not None else None
        if hasattr(peer, "host") and hasattr(peer, "port"):
            self.node.dialer.led_here((peer.host, peer.port), self.now())

    def _refused(self, link: Connection, error: MeshError) -> None:
        """A connection ended before it had joined: somebody should know why."""
        where = link.owner.peer_name
        host = _host(where)
        verb = "no connection to" if link.outgoing else "refused"
        # Only an operator can do something about that, and has to.
        level = LogLevel.warn if isinstance(error, SameId) else LogLevel.info
        self._reports.say(
            level, error.reason, host, verb + " {where}: {error}", host=host,
            event="no connection" if link.outgoing else "refused", where=where,
            error=reason_of(error),
        )  # fmt: skip

    def _do_joined(self, action: Joined) -> None:
        link = action.link
        self._table_changed()
        where = link.owner.peer_name
        host = _host(where)
        if action.first:
            self._reports.note(
                LogLevel.info, "joined network {network} through {where}", host=host,
                event="joined", network=self.network.name, where=where,
            )  # fmt: skip
        self.application.peer_joined(link, action.first)

    def _do_settled(self, action: Settled) -> None:
        link = action.link
        if link.id in self._settled or link.id not in self.node.links.table:
            return  # over another connection; or the application has hung up meanwhile
        self._settled |= {link.id}
        where = link.owner.peer_name
        self._reports.note(
            LogLevel.info, "peer up: {peer} at {where}, {count} in all", host=_host(where),
            event="peer up", peer=printable(link.id), where=where, count=len(self._settled),
        )  # fmt: skip
        self.application.peer_settled(link)

    def _do_left(self, action: Left) -> None:
        link, error = action.link, action.error
        self._table_changed()
        where = link.owner.peer_name
        host = _host(where)
        # As often as "peer up", or a reader of the log would believe in peers that are gone. Of
        # those who merely had a look neither is said, unless somebody wants to know it all.
        settled = link.id in self._settled
        self._settled -= {link.id}
        self._reports.note(
            LogLevel.info if settled else LogLevel.debug,
            "peer down: {peer} at {where}, because {error}; {count} remain",
            host=host, event="peer down", peer=printable(link.id), where=where,
            reason=error.reason, error=reason_of(error), count=len(self._settled),
        )  # fmt: skip
        if action.last and not self._closing:
            self._reports.note(
                LogLevel.warn,
                "no peers left: what is sent now reaches nobody until one is back", host=host,
                event="alone", network=self.network.name,
            )  # fmt: skip
        self.application.peer_left(link, error, action.last)
        if settled:
            self.application.peer_gone(link, error)
        if isinstance(error, LinkError) and not isinstance(error, _NO_FAILURES):
            self.application.link_failed(error, link.owner.peer_name)

    def _do_replaced(self, action: Replaced) -> None:
        self._table_changed()
        _log.debug("another connection to {id} is used", id=printable(action.link.id))

    def _table_changed(self) -> None:
        self._snapshot = MappingProxyType(dict(self.node.links.table))
        self.application.table_changed(self._snapshot)

    def _do_connected(self, action: Connected) -> None:
        done = self._waiting.pop(action.token, None)
        if done is not None:
            done.callback(action.link)

    def _do_connect_failed(self, action: ConnectFailed) -> None:
        done = self._waiting.pop(action.token, None)
        if done is not None:
            done.errback(Failure(action.error))

    def _do_replied(self, action: Replied) -> None:
        if action.error is not None:
            _log.info("a reply was lost: {error}", error=reason_of(action.error))
            self.application.reply_failed(action.error)
        self._do_confirmed(action)

    def _do_confirmed(self, action: Confirmed | Replied) -> None:
        done = self._waiting.pop(action.token, None)
        if done is None:
            return
        if action.error is None:
            done.callback(None)
        else:
            done.errback(Failure(action.error))

    def _do_receipted(self, action: Receipted) -> None:
        done = self._waiting.pop(action.token, None)
        if done is not None:
            done.callback(action.receipt)

    def _do_surveyed(self, action: Surveyed) -> None:
        done = self._waiting.pop(action.token, None)
        if done is not None:
            done.callback(action.survey)

    def _do_clock(self, action: ClockDisagreement) -> None:
        if action.correction:
            _log.warn(
                "this machine's clock disagrees with its peers' by {seconds} s; "
                "stamps are corrected by that, but please set the clock",
                event="clock",
                seconds=action.correction,
            )
        else:
            _log.info("this machine's clock agrees with its peers' again", event="clock")

    def _do_gap(self, action: Gap) -> None:
        self._reports.note(
            LogLevel.warn,
            "this node has missed messages: {error}",
            event="gap", error=action.detail, count=action.count,
        )  # fmt: skip
        self.application.missed(action.count, action.reason, action.detail)

    def _do_dropped(self, action: Dropped) -> None:
        link = action.link
        self._reports.say(
            LogLevel.info, action.reason, printable(link.id) or link.owner.peer_name,
            "dropped a message from {where}: {reason}: {error}",
            host=_host(link.owner.peer_name),
            event="dropped", where=link.owner.peer_name, error=printable(action.detail),
        )  # fmt: skip

    def _do_wake_at(self, action: WakeAt) -> None:
        if self._wake is not None and self._wake.active():
            if self._wake_at == action.when:
                return
            self._wake.cancel()
        self._wake_at = action.when
        self._wake = self.reactor.callLater(max(0.0, action.when - self.now()), self._woken)

    def _woken(self) -> None:
        self._wake = None
        if not self._closing:
            self._act(self.node.woken(self.now(), self.wall()))


def _host(where: str) -> str:
    """The host of a peer's name."""
    return where.rpartition(":")[0].removeprefix("[").removesuffix("]")


def _flag_of(message: Message) -> int:
    return message.items[0]  # type: ignore[no-any-return]


class _Outgoing(Factory):
    """Makes the one protocol of one dial."""

    noisy = False

    def __init__(self, mesh: MeshFactory, dial: Dial) -> None:
        self._mesh = mesh
        self._dial = dial

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return MeshProtocol(self._mesh, self._dial)


def _translate(failure: Failure, dial: Dial) -> Exception:
    """Twisted's connection errors as the built-in ones that people catch."""
    error = failure.value
    where = address_text(*dial.address)
    if isinstance(error, MeshError):
        return error
    if failure.check(twisted_error.ConnectionRefusedError):
        return ConnectionRefusedError(f"{where} refuses connections: is a node listening there?")
    if failure.check(twisted_error.TimeoutError):
        return ConnectTimeout(f"{where} did not answer within {dial.timeout:g} s")
    if failure.check(twisted_error.DNSLookupError):
        return Unreachable(f"{dial.address[0]} is no known host")
    if failure.check(twisted_error.ConnectingCancelledError):
        return MeshClosed("this node is closing")
    if isinstance(error, twisted_error.ConnectError) and isinstance(error.args[0], Failure):
        # It was closed while it was being made: Twisted has that in a Failure, traceback and all.
        error = error.args[0].value
    return Unreachable(f"{where} cannot be reached: {error}")
