"""
A node: the mechanisms put together, and what comes in routed to where it belongs.

A driver (`py2p_twisted.net`, or a simulation) calls the input methods with bytes, times
and outcomes, and carries out what they return: a list of `actions`, in order. Messages
leave through the `Effects` sink. No input method raises because of what a peer did.

::

    bytes --> Connection --> Node.received --> Flood ----------> effects.relay
                   |              |----------> Replies, Dialer
                   |              '----------> effects.deliver
                   '--> Node.introduced --> Links, Dialer, Policy

Times: ``now`` is the driver's monotonic clock, ``wall`` seconds since 1970 and used for
the wire's stamps alone. Not thread-safe: all calls come from one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from py2p_twisted.core import compression, flags
from py2p_twisted.core.actions import (
    Action,
    ClockDisagreement,
    Close,
    Confirmed,
    Connected,
    ConnectFailed,
    Dial,
    Dropped,
    Effects,
    Gap,
    Joined,
    Left,
    Replaced,
    Replied,
    Settled,
    WakeAt,
)
from py2p_twisted.core.clock import ACCEPTED, NetworkClock
from py2p_twisted.core.connection import (
    Connection,
    Handshake,
    State,
    greeting,
    read_address,
)
from py2p_twisted.core.dialer import Dialer, Random, is_name
from py2p_twisted.core.flood import Flood
from py2p_twisted.core.links import Links, replaces
from py2p_twisted.core.marker import asked_seconds
from py2p_twisted.core.mesh_ext import MeshExtension
from py2p_twisted.core.message import MAX_ID, Message, as_bytes, build, is_broadcast, parse
from py2p_twisted.core.network import Address, Network, address_text
from py2p_twisted.core.outgoing import STEP, Composer
from py2p_twisted.core.replies import Replies
from py2p_twisted.core.seen import SHORT, SeenCache
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timers
from py2p_twisted.errors import (
    BadField,
    ClosedByPeer,
    ContentError,
    Disconnected,
    DuplicateConnection,
    FrameTimeout,
    HandshakeTimeout,
    LinkError,
    LinkUnresponsive,
    MalformedMessage,
    MeshClosed,
    MeshError,
    MessageTooLarge,
    NetworkMismatch,
    ProbeEnded,
    SameId,
    SelfConnection,
    StaleMessage,
    TooManyPeers,
    Unreachable,
    ViewFull,
    WrongPeer,
)

#: Entries of a peers list that are sent, and used of one that was asked for.
#: Source: docs/design.rst, "Limits".
LIST_LENGTH: Final = 32
#: Entries used of a list that nobody asked for, and how often.
UNASKED_LENGTH: Final = 8
UNASKED_INTERVAL: Final = 10.0

#: Sub-flags that a node acts on itself.
_BUILT_IN: Final = frozenset({flags.HANDSHAKE, flags.PEERS, flags.REQUEST, flags.RESPONSE})

#: Refusals of honest nodes: what we have to tell them is still written.
_TOLD: Final = (Disconnected, NetworkMismatch, SameId, SelfConnection, TooManyPeers)

#: Peers whose disconnection is remembered.
_MOST_DISCONNECTED: Final = 256

_EVERYBODY: Final = ("*", b"*")

Trace = Callable[..., None]


class Node:
    """
    One participant of a network.

    :ivar id: this node's id.
    :ivar network: the network it belongs to.
    :ivar address: where others can dial it, as it announces.
    :ivar links: its connections; ``links.table`` is the routing table.
    :ivar version: what it tells others its version is.
    :ivar drops: messages that were dropped, by reason.
    :ivar trace: called with a debug level, a format and its arguments, when set.
    """

    def __init__(
        self,
        *,
        ident: bytes,
        network: Network,
        address: Address,
        effects: Effects,
        rng: Random,
        settings: Settings | None = None,
        version: str = "",
    ) -> None:
        self.id = ident
        self.network = network
        self.address = address
        self.settings = settings or Settings()
        self.version = version
        self.effects = effects
        self.rng = rng
        self.now = 0.0
        self.wall = 0.0
        self.composer = Composer(ident, self.settings.max_message)
        self.composer.random = rng.random
        self.links = Links()
        self.drops: Counter[str] = Counter()
        self.trace: Trace | None = None
        self.clock = NetworkClock()
        self.seen = SeenCache(self.settings.seen_window, self.settings.seen_capacity)
        self.timers = Timers()
        self.dialer = Dialer(
            self.settings,
            self.links,
            self.timers,
            rng,
            dial=self.decide,
            needed=self._needs_links,
            failed=lambda token, error: self.decide(ConnectFailed(token, error)),
        )
        self.dialer.add_own(address)
        self.replies = Replies(
            ident,
            self.settings,
            self.timers,
            ask=self._ask_for,
            dial=self._dial_for_reply,
            done=lambda token, error: self.decide(Replied(token, error)),
        )
        self.mesh = MeshExtension(self)
        self.flood = Flood(
            self.seen,
            self.links,
            effects,
            self.settings,
            self.mesh.trees,
            self.mesh.recent,
            self.mesh.repair,
            wall=lambda: self.wall,
        )
        #: Ids that are turned away, in the order in which they were disconnected.
        self._disconnected: dict[bytes, None] = {}
        #: Questions whose answers prove that a peer has got so far, with whom and for whom.
        self._proofs: dict[bytes, tuple[Connection, int]] = {}
        #: How far the wall clock is ahead of the monotonic one.
        self._ahead: float | None = None
        self._actions: list[Action] = []
        self._token = 0
        self._wake: float | None = None
        self._closed = False

    @property
    def relays(self) -> bool:
        """Whether there is anybody to relay to."""
        return len(self.links.open) > 1

    @property
    def counters(self) -> Counter[str]:
        """What has happened by mesh-ext, by name. May be read from any thread."""
        # Copied in one go each: adding looks at one name after the other.
        return self.mesh.counters.copy() + self.mesh.membership.counters.copy()

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Everything that peers can make grow, by name: how full it is, and can get."""
        settings = self.settings
        return {
            "ids": (len(self.seen), settings.seen_capacity + settings.seen_capacity // 16),
            "addresses": (len(self.dialer.known), settings.book_size),
            "incoming links": (self.links.inbound(), settings.max_inbound),
            "half-open links": (len(self.links.half_open()), settings.max_half_open),
            "messages for a first peer": (self.flood.unsent, settings.unsent_messages),
            "replies waiting": (len(self.replies), settings.max_replies),
            **self.mesh.sizes(),
        }

    # --- bookkeeping ---------------------------------------------------------------

    def decide(self, action: Action) -> None:
        """Have the driver do something, after this call."""
        self._actions.append(action)

    def _begin(self, now: float, wall: float) -> None:
        self.now = now
        if self._ahead is None or abs(wall - now - self._ahead) > STEP:
            self._stepped(wall - now)
        self.wall = wall

    def _stepped(self, ahead: float) -> None:
        """The clock on our wall was set, or we were suspended: what peers said is off by that."""
        if self._ahead is not None:
            turned = self.clock.stepped(ahead - self._ahead)
            self.composer.correction = self.clock.correction
            if turned:
                self.decide(ClockDisagreement(self.clock.correction))
        self._ahead = self.composer.ahead = ahead

    def _decisions(self) -> Sequence[Action]:
        """What has been decided since the last time, and when to wake."""
        when = self.timers.next()
        if when != self._wake:
            self._wake = when
            if when is not None:
                self._actions.append(WakeAt(when))
        if not self._actions:
            return ()
        actions, self._actions = self._actions, []
        return actions

    # --- connections come and go -----------------------------------------------------

    def link(self, dial: Dial | None, now: float) -> Connection:
        """
        A transport has been connected: make the core's side of it.

        Attach the driver's side to ``owner``, then call `opened`.

        :param dial: what led to it; ``None`` when the other end dialled.
        """
        link = Connection(self, self.seen, self.settings, dial=dial, now=now)
        link.on_resend(self._send_again)
        return link

    def opened(self, link: Connection, now: float, wall: float) -> Sequence[Action]:
        """Introduce ourselves on a new connection, and set its deadline."""
        self._begin(now, wall)
        settings = self.settings
        if self._closed:
            self._close(link, MeshClosed("this node is closing"), flush=False)
            return self._decisions()
        self.links.add(link)
        timeout = settings.dial_handshake_timeout if link.outgoing else settings.handshake_timeout
        link.deadline = self.timers.at(
            now + timeout, lambda: self._close(link, HandshakeTimeout(timeout), flush=False)
        )
        if not link.outgoing:
            half_open = self.links.half_open()
            if len(half_open) > settings.max_half_open:
                oldest = half_open[0]
                self._close(oldest, HandshakeTimeout(now - oldest.since), flush=False)
        self.effects.send(
            greeting(
                self.id,
                self.network.id,
                self.address,
                int(wall) + self.composer.correction,
                compression.METHODS,
            ),
            link,
        )
        return self._decisions()

    def receive(self, link: Connection, data: bytes, now: float, wall: float) -> Sequence[Action]:
        """Read what came in on a connection; errors end that connection alone."""
        self._begin(now, wall)
        try:
            link.receive_data(data, now)
        except LinkError as error:
            # The tracebacks hold the frame, and what it was inflated to, until the garbage
            # collector comes by.
            error.__traceback__ = error.__context__ = error.__cause__ = None
            self.flood.flush(link, now)
            self._close(link, error, flush=isinstance(error, _TOLD))
        else:
            self.flood.flush(link, now)
            if link.waiting and link.progress is None and link.state is not State.CLOSED:
                self._watch(link)
            if link.standby is not None:
                self._proved_alive(link)
            elif link.state is State.OPEN and link.deadline is not None:
                link.deadline.cancel()  # it was asked for a sign of life, and gave one
                link.deadline = None
        if self._actions or self.timers.next() != self._wake:
            return self._decisions()
        return ()

    def lost(
        self, link: Connection, error: MeshError | None, now: float, wall: float
    ) -> Sequence[Action]:
        """
        A connection's transport is gone.

        :param error: why; ``None`` when the peer closed it in good order.
        """
        self._begin(now, wall)
        if link.state is not State.CLOSED:
            self._gone(link, error or ClosedByPeer())
        return self._decisions()

    def close_link(
        self, link: Connection, error: MeshError, now: float, wall: float, *, flush: bool = False
    ) -> Sequence[Action]:
        """The driver, or the application, wants a connection to end."""
        self._begin(now, wall)
        self._close(link, error, flush=flush)
        return self._decisions()

    def end(self, link: Connection, error: MeshError, *, flush: bool) -> None:
        """One of the mechanisms wants a connection to end."""
        self._close(link, error, flush=flush)

    def drained(self, link: Connection, now: float, wall: float) -> Sequence[Action]:
        """A connection that was congested has room again."""
        self._begin(now, wall)
        self.mesh.drained(link)
        return self._decisions()

    def congestion_changed(self, link: Connection) -> None:
        """The driver has set, or cleared, ``link.congested``."""
        self.mesh.congestion_changed(link)

    def _close(self, link: Connection, error: MeshError, *, flush: bool) -> None:
        if link.state is State.CLOSED:
            return
        self.decide(Close(link, error, flush))
        self._gone(link, error)

    def _gone(self, link: Connection, error: MeshError) -> None:
        """Take a connection out of everything."""
        draining = link.state is State.DRAINING
        link.state = State.CLOSED
        link.forget()
        for timer in (link.deadline, link.progress):
            if timer is not None:
                timer.cancel()
        standby, link.standby = link.standby, None
        for other in self.links.open:
            if other.standby is link:
                other.standby = None
        for proof, (asked, token) in list(self._proofs.items()):
            if asked is link:
                del self._proofs[proof]
                self.decide(Confirmed(token, error))
        was_there = self.links.forget(link)
        if not draining and not was_there:
            # Never joined, or on standby; there it may have said, and asked for, all there is.
            self.mesh.repair.gone(link, self.now)
            self._dial_failed(link.dial, error)
            if isinstance(error, SelfConnection) and link.dial is not None:
                self._led_here(link.dial.address)
            return
        if draining:
            self.mesh.repair.gone(link, self.now)
            return
        if standby is not None and standby.state is State.OPEN and not self._closed:
            self._join(standby, replaced=link)
            return
        self._left(link, error)

    def _led_here(self, address: Address) -> None:
        # A name may be that of others as well; which address it was the driver knows.
        if not is_name(address[0]):
            self.dialer.led_here(address, self.now)

    def _left(self, link: Connection, error: MeshError) -> None:
        """A peer has left the routing table."""
        self.decide(Left(link, error, last=not self.links.table))
        unwanted = isinstance(error, (ViewFull, ProbeEnded)) or (
            # The other end had a look at us, or keeps others.
            isinstance(error, ClosedByPeer) and link.ext is not None and not link.ext.active
        )
        self.dialer.lost(link, self.now, again=not self._closed and not unwanted, full=unwanted)
        if self.settings.extensions:
            self.mesh.left(link, error)
        else:
            self.mesh.trees.relinked()
        if not self._closed and not unwanted:
            self._ask_around()

    def evict(self, link: Connection, error: MeshError) -> None:
        """A link leaves the active view: what is on its way is still read."""
        if link.state is State.OPEN:
            standby, link.standby = link.standby, None
            self._drain(link, error)
            self._left(link, error)
            if standby is not None and standby.state is State.OPEN:
                self._join(standby)  # nobody waits for the old one any more

    # --- handshake -------------------------------------------------------------------

    def introduced(self, link: Connection, handshake: Handshake) -> None:
        """
        A peer has introduced itself: accept it, refuse it, or choose between two links.

        :raises LinkError: it is refused.
        """
        if handshake.network != self.network.id:
            raise NetworkMismatch(handshake.network, self.network.id)
        if handshake.id == self.id:
            if handshake.address in (None, self.address):
                raise SelfConnection
            raise SameId(address_text(*handshake.address))
        expected = link.dial.expected if link.dial is not None else None
        if expected is not None and expected != handshake.id:
            raise WrongPeer(expected, handshake.id)
        if link.deadline is not None:
            link.deadline.cancel()
            link.deadline = None
        link.agree(handshake)
        link.ahead = handshake.stamp - self.wall
        if handshake.id in self._disconnected:
            if not self.dialer.asked_for(link):
                raise Disconnected
            del self._disconnected[handshake.id]
        if link.outgoing:
            # Who dials us can do so under as many names as it likes.
            self._learn_clock(handshake.id, handshake.stamp)
        old = self.links.table.get(handshake.id)
        if old is not None:
            self._choose(old, link)
        elif not link.outgoing and self.links.inbound() >= self.settings.max_inbound:
            # It may have come to the only address it knows, so tell it others.
            self._introduce(link)
            raise TooManyPeers(self.settings.max_inbound)
        else:
            self._join(link)

    def _choose(self, old: Connection, new: Connection) -> None:
        """Two connections to one peer: both ends must keep the same one."""
        new.opened()
        if replaces(self.id, new.id, new.outgoing):
            standby, old.standby = old.standby, None
            self._join(new, replaced=old)
            self._drain(old)
            if standby is not None:
                self._settle(standby, new)
        elif self.now - old.heard <= self.settings.probe_timeout:
            self._keep(old, new)
        else:
            # The rule says that the old one stays. But if it is dead, which nobody has
            # noticed yet, its peer would be kept out by it.
            self.links.set_aside(new)
            if old.standby is not None:
                self._settle(old.standby, old)
            old.standby = new
            self._probe(old)

    def _keep(self, old: Connection, new: Connection) -> None:
        """
        The old connection stays.

        A reference node may have lost track of it in the same moment (it stores the newer
        one whatever it decides), so the old one has to prove that somebody listens.
        """
        self._settle(new, old)
        self._probe(old)

    def _settle(self, link: Connection, kept: Connection) -> None:
        """A connection has served its purpose: another one to the same peer is kept."""
        for token in self.dialer.connected(link, self.now):
            self.decide(Connected(token, kept))
        self._drain(link)

    def _probe(self, link: Connection) -> None:
        """Ask for a sign of life: 0.6 has no ping, but everybody answers this."""
        timeout = self.settings.probe_timeout
        if link.deadline is None:
            link.deadline = self.timers.at(
                self.now + timeout,
                lambda: self._close(link, LinkUnresponsive(timeout), flush=False),
            )
        self._request_list(link)

    def _proved_alive(self, old: Connection) -> None:
        standby, old.standby = old.standby, None
        if old.deadline is not None:
            old.deadline.cancel()
            old.deadline = None
        if standby is not None and standby.state is State.OPEN and old.state is State.OPEN:
            self._keep(old, standby)

    def _drain(self, link: Connection, error: MeshError | None = None) -> None:
        """Write nothing more to a connection, and read what is still on its way."""
        error = error or DuplicateConnection()
        self.links.set_aside(link)
        link.state = State.DRAINING
        for timer in (link.deadline, link.progress):
            if timer is not None:
                timer.cancel()
        link.progress = None
        link.deadline = self.timers.at(
            self.now + self.settings.drain_time,
            lambda: self._close(link, error, flush=True),
        )

    def _join(self, link: Connection, *, replaced: Connection | None = None) -> None:
        """A peer enters the routing table, or changes its connection there."""
        first = not self.links.table
        link.opened()
        self.links.join(link)
        if replaced is None:
            self.decide(Joined(link, first))
        else:
            self.decide(Replaced(replaced, link))
        for token in self.dialer.connected(link, self.now):
            self.decide(Connected(token, link))
        # The list that follows a handshake counts as asked for.
        link.lists_awaited += 1
        self._introduce(link)
        if self.settings.extensions:
            self.mesh.joined(link, replaced)
        else:
            self.mesh.trees.relinked()
            self.decide(Settled(link))
        self.flood.peer_joined(link, self.now)
        for token, message in self.replies.found(link.id):
            self._whisper(link, message)
            self.decide(Replied(token, None))

    def _introduce(self, link: Connection) -> None:
        """Say what we speak and whom we know. In this order: the list alone is a plain node's."""
        if self.settings.extensions:
            self.mesh.greet(link)
        self._send_peers(link)

    # --- what the application does -----------------------------------------------------

    def connect(
        self, address: Address, now: float, wall: float, *, expected: bytes | None = None
    ) -> tuple[int, Sequence[Action]]:
        """
        Connect to a node, and keep connected.

        :param expected: the id that must answer, if that matters.
        :return: a token, which `Connected` or `ConnectFailed` will name.
        """
        self._begin(now, wall)
        self._token += 1
        token = self._token
        link = self.links.at(address)
        if self._closed:
            self.decide(ConnectFailed(token, MeshClosed("this node is closed")))
        elif self.dialer.is_ours(address):
            self.decide(ConnectFailed(token, SelfConnection()))
        elif link is not None and expected in (None, link.id):
            self.dialer.pin(address, now)  # wanted from now on, whoever has dialled
            if self.settings.extensions:
                self.mesh.membership.asked_for(link, now)
            self.decide(Connected(token, link))
        else:
            self.dialer.connect(address, token, now, expected)
        return token, self._decisions()

    def disconnect(self, link: Connection, now: float, wall: float) -> Sequence[Action]:
        """End a connection, and want none with that peer until the application asks for one."""
        self._begin(now, wall)
        addresses = [link.address, link.dial.address if link.dial is not None else None]
        if link.id:
            addresses += self.dialer.addresses_of(link.id)
            self._disconnected[link.id] = None
            if len(self._disconnected) > _MOST_DISCONNECTED:
                del self._disconnected[next(iter(self._disconnected))]
        same = [other for other in self.links if other.id == link.id] if link.id else [link]
        for other in same:
            other.standby = None  # it is not to take over
        for other in same:
            self._close(other, Disconnected(), flush=True)
        for address in addresses:
            if address is not None:
                self.dialer.forget(address)
        return self._decisions()

    def pin(self, address: Address, now: float, wall: float) -> Sequence[Action]:
        """Dial an address, and again and again, for ever: a bootstrap address."""
        self._begin(now, wall)
        self.dialer.pin(address, now)
        return self._decisions()

    def unpin(self, address: Address, now: float, wall: float) -> Sequence[Action]:
        """End a `pin`; a link to the address stays."""
        self._begin(now, wall)
        self.dialer.unpin(address)
        return self._decisions()

    def heard(
        self, address: Address, ident: bytes, source: bytes, now: float, wall: float
    ) -> Sequence[Action]:
        """
        Somebody who is no peer says where a node may live: it is dialled if links are needed.

        :param ident: who that is said to be; empty if nobody knows.
        :param source: who says it; each source has one share of the book.
        """
        self._begin(now, wall)
        if not self._closed and ident != self.id and ident not in self._disconnected:
            self.dialer.learned([(address, ident)], source, now)
            # With a scope it is of use to this machine alone, so nobody else should be told.
            known = ident and self.settings.extensions and "%" not in address[0]
            if known and self.dialer.acceptable(address):
                self.mesh.membership.passive.add((address, ident), source)
        return self._decisions()

    def recall(
        self, peers: Sequence[tuple[Address, bytes]], now: float, wall: float
    ) -> Sequence[Action]:
        """Dial nodes that were known before this one was started anew; see `Dialer.recall`."""
        self._begin(now, wall)
        self.dialer.recall(peers, now)
        return self._decisions()

    def known_peers(self) -> list[tuple[Address, bytes]]:
        """
        Nodes to know after a restart, the best first: neighbours, other peers, those that could
        be neighbours, and the rest of the book.

        :return: where they live, and their ids, as far as they are known; ``book_size`` at most.
        """
        found: dict[Address, bytes] = {}
        links = sorted(self.links.open, key=lambda link: not (link.ext and link.ext.active))
        for link in links:
            if link.dial is not None:
                found.setdefault(link.dial.address, link.id)
            elif link.address is not None and self.dialer.acceptable(link.address):
                found.setdefault(link.address, link.id)
        for address, ident in [*self.mesh.membership.passive.entries, *self.dialer.worth_keeping()]:
            found.setdefault(address, ident)
        return list(found.items())[: self.settings.book_size]

    def dial_failed(
        self, dial: Dial, error: Exception, now: float, wall: float
    ) -> Sequence[Action]:
        """A transport could not be connected."""
        self._begin(now, wall)
        self._dial_failed(dial, error)
        return self._decisions()

    def _dial_failed(self, dial: Dial | None, error: Exception) -> None:
        self.dialer.dial_failed(dial, error, self.now)
        if dial is not None and self.settings.extensions:
            self.mesh.dial_failed(dial.address)

    def visit(self, address: Address, ident: bytes) -> bool:
        """
        One of the mechanisms wants a link: dial once.

        :return: whether that is possible.
        """
        if self._closed or not self.settings.max_outgoing or ident in self._disconnected:
            return False
        return self.dialer.visit(address, ident, self.now)

    def _needs_links(self) -> bool:
        """Whether the dialler should seek links of its own choice."""
        ours = sum(link.outgoing for link in self.links.open)
        if ours + len(self.dialer.under_way) >= self.settings.max_outgoing:
            return False
        return not self.settings.extensions or self.mesh.membership.wants_more

    def broadcast(self, messages: Sequence[Message], now: float) -> Sequence[Action]:
        """Send messages of our own to everybody."""
        self.now = now
        self.flood.originate(messages, now)
        if self.timers.next() != self._wake:
            return self._decisions()
        return ()

    def expect_receipts(
        self, message: Message, timeout: float, now: float
    ) -> tuple[int, Sequence[Action]]:
        """
        Find out who gets a broadcast of our own, which is sent next.

        :param message: one that `Composer.mark` has made.
        :param timeout: seconds after which it is said who is missing.
        :return: a token, which `Receipted` will name.
        """
        self.now = now
        self._token += 1
        self.mesh.receipts.expect(message.id[:SHORT], self._token, timeout, now)
        return self._token, self._decisions()

    def survey(self, timeout: float, now: float, wall: float) -> tuple[int, Sequence[Action]]:
        """
        Find out who is in the network.

        :param timeout: seconds after which it is said who has answered.
        :return: a token, which `Surveyed` will name.
        """
        self._begin(now, wall)
        self._token += 1
        token = self._token
        self.mesh.surveys.ask(token, timeout, now)
        return token, self._decisions()

    def whisper(self, messages: Sequence[Message]) -> None:
        """Send messages of our own to every neighbour, and no further."""
        peers = self.links.open
        if peers:
            self.effects.relay(messages, peers)

    def send_to(
        self, link: Connection, message: Message, now: float, *, as_it_is: bool = False
    ) -> None:
        """
        Send a message of our own to one peer.

        :param as_it_is: its sender or time are of the application's choice, so whether it
            equals another message is the application's business too.
        """
        if link.state is not State.OPEN:
            # Another connection may have taken its place.
            link = self.links.table.get(link.id, link)
            if link.state is not State.OPEN:
                return
        if is_broadcast(message):
            if as_it_is:
                self.seen.add(message.id, now)
            else:
                (message,) = self.flood.note_own((message,), now)
            self.flood.hold((message,), now)
        self._whisper(link, message)

    def reply(
        self,
        target: bytes | str,
        message: Message,
        now: float,
        wall: float,
        *,
        answered: bytes = b"",
    ) -> tuple[int, Sequence[Action]]:
        """
        Bring a whisper to a node, wherever it is.

        :param target: its id, in the type in which it names itself.
        :param answered: the id of a message of that node, if this answers one: it is brought
            back the way that one came, where that is possible.
        :return: a token, which `Replied` will name.
        """
        self._begin(now, wall)
        self._token += 1
        token = self._token
        link = self.links.table.get(as_bytes(target))
        if self._closed:
            self.decide(Replied(token, MeshClosed("this node is closed")))
        elif link is not None:
            self._whisper(link, message)
            self.decide(Replied(token, None))
        else:
            until = now + self.settings.reply_timeout

            def search(whisper: Message) -> None:
                link = self.links.table.get(as_bytes(target))
                if self._closed:
                    self.decide(Replied(token, MeshClosed("this node is closing")))
                    return
                if link is None:
                    self.replies.search(target, token, whisper, self.now, self.wall, until=until)
                    return
                self._whisper(link, whisper)
                self.decide(Replied(token, None))

            if not (answered and self.settings.extensions) or not self.mesh.routing.start(
                as_bytes(target), answered, message, token, search, now
            ):
                search(message)
        return token, self._decisions()

    def replied(self, token: int) -> None:
        """A reply has arrived the way that its message came."""
        self.decide(Replied(token, None))

    def read_routed(self, body: bytes) -> Message:
        """
        Understand a reply that has come along a tree.

        :raises ContentError: it cannot be used.
        """
        try:
            message = parse(sha256(body).digest(), body)
        except MalformedMessage as error:
            # Its maker's fault, not that of the neighbour who brings it.
            raise BadField(str(error)) from None
        if message.flag != flags.WHISPER or not _for_the_application(message.items[3]):
            raise BadField("a routed reply is a whisper for the application")
        return message

    def note_gap(self, reason: str, detail: str) -> None:
        """The application has missed nobody knows how much."""
        self.decide(Gap(reason, 0, detail))

    def learn_clock(self, link: Connection, stamp: float) -> None:
        """A neighbour has told what its clock says."""
        if link.outgoing or (link.ext is not None and link.ext.active):
            self._learn_clock(link.id, stamp)

    def _learn_clock(self, ident: bytes, stamp: float) -> None:
        turned = self.clock.learn(ident, stamp, self.wall)
        self.composer.correction = self.clock.correction
        if turned:
            self.decide(ClockDisagreement(self.clock.correction))

    def confirm(self, link: Connection, now: float, wall: float) -> tuple[int, Sequence[Action]]:
        """
        Ask a peer something that it answers after it has dealt with all it was sent before.

        0.6 has no acknowledgement. But every node answers a request that it can answer, in its
        turn: nodes of ours know where they live themselves, 0.6 nodes where their neighbours
        do, so both are asked.

        :return: a token, which `Confirmed` will name.
        """
        self._begin(now, wall)
        self._token += 1
        token = self._token
        if link.state is not State.OPEN:
            self.decide(Confirmed(token, Unreachable("there is no such link any more")))
            return token, self._decisions()
        proof = sha256(b"%b %d %d" % (self.id, token, int(wall * 1000))).hexdigest().encode()
        self._proofs[proof] = (link, token)
        for target in (link.raw_id, self.id):
            question = (proof, target)
            self._whisper(link, self.composer.compose(flags.WHISPER, flags.REQUEST, question, wall))
        return token, self._decisions()

    def request_peers(self, now: float, wall: float) -> Sequence[Action]:
        """Ask every neighbour for its peers."""
        self._begin(now, wall)
        for link in self.links.open:
            self._request_list(link)
        return self._decisions()

    def woken(self, now: float, wall: float) -> Sequence[Action]:
        """The time named by `WakeAt` has come."""
        self._begin(now, wall)
        self._wake = None
        self.timers.due(now)
        self.mesh.recent.tidy(now)
        return self._decisions()

    def close(self, now: float, wall: float) -> Sequence[Action]:
        """Leave the network: every connection is flushed and closed, nobody dialled any more."""
        self._begin(now, wall)
        self._closed = True
        error = MeshClosed("this node is closing")
        self.dialer.stop(error)
        self.mesh.stop()
        self.replies.stop(error)
        for link in list(self.links):
            self._close(link, error, flush=True)
        return self._decisions()

    # --- messages ----------------------------------------------------------------------

    def timely(self, stamp: float) -> bool:
        """Whether a broadcast's stamp is of our time."""
        return self.clock.accepts(stamp, self.wall)

    def received_run(
        self, link: Connection, messages: Sequence[Message], shorts: Sequence[bytes]
    ) -> None:
        """
        Broadcasts for the application, checked and noted: pass them on, deliver them.

        :param shorts: their short ids.
        """
        self.flood.relay_run(messages, link, self.now, shorts)
        self.effects.deliver(messages, link)

    def received(self, link: Connection, message: Message) -> None:
        """
        Route a message to where it belongs.

        :raises ContentError: it cannot be used.
        """
        flag, _, stamp, sub = message.items[:4]
        # 0.6 nodes on Python compare, so to them 5.0 is 5.
        built_in = isinstance(sub, (int, float)) and sub in _BUILT_IN
        if flag == flags.BROADCAST:
            if built_in:
                if self._misplaced(message, sub):
                    raise BadField(
                        f"sub-flag {sub} is between neighbours, and this one was flooded"
                    )
                # Before it goes on: our neighbours would put the blame on us.
                _check_built_in(message, sub)
            # Our own clock is asked first, and here: nearly always it agrees.
            if not -ACCEPTED <= stamp - self.wall <= ACCEPTED and not self.clock.accepts(
                stamp, self.wall
            ):
                self._stale(link, message)
                return
            self.flood.relay(message, link, self.now)
        if self.trace is not None:
            self.trace(1, "message received: {}", message)
        if not built_in:
            if sub == flags.EXTENSION and flag == flags.WHISPER and self.settings.extensions:
                self.mesh.received(link, message)
                return
            if type(sub) is int and sub in flags.EXTENSIONS:
                self._drop(link, "unknown extension", f"this node does not know extension {sub}")
                return
            if flag == flags.BROADCAST:
                # Those that are read in runs have nothing behind their array.
                if (seconds := asked_seconds(message.body)) and self.settings.extensions:
                    self.mesh.receipts.delivered(message.id[:SHORT], seconds, link, self.now)
            elif self.mesh.routing.came_twice(message.id):
                return
            self.effects.deliver((message,), link)
        elif sub == flags.PEERS:
            self._read_peers(link, message)
        elif sub == flags.REQUEST:
            self._read_request(link, message)
        elif sub == flags.RESPONSE:
            self._read_response(message)

    def repeated(self, link: Connection, idents: Sequence[bytes]) -> None:
        """An extended peer has brought messages that had come before."""
        if link.ext is not None and link.ext.active:
            self.mesh.trees.repeated(link, idents, self.now)

    def _misplaced(self, message: Message, sub: int) -> bool:
        """Whether one flooded message would make the whole network act on its links."""
        if sub == flags.REQUEST:
            return len(message.payload) > 1 and message.payload[1] in _EVERYBODY
        return sub != flags.RESPONSE

    def _stale(self, link: Connection, message: Message) -> None:
        # Not the neighbour's fault: 0.6 nodes relay whatever is stamped in the future.
        self.seen.refuse(message.id)
        link.drops[StaleMessage.reason] += 1
        away = message.time - self.wall
        self._drop(link, StaleMessage.reason, f"its stamp is {away:+.0f} s away from our clock")
        if self.trace is not None:
            self.trace(2, "dropped, its stamp {} is not of our time: {}", message.time, message)

    def dropped(self, link: Connection, error: ContentError) -> None:
        """Count a message that could not be used."""
        self._drop(link, error.reason, str(error))
        if self.trace is not None:
            self.trace(2, "dropped a message from {}: {}", link, error)

    def _drop(self, link: Connection, reason: str, detail: str) -> None:
        """Count a message that is of no use, and say so."""
        self.drops[reason] += 1
        self.decide(Dropped(link, reason, detail))

    def _send_again(self, link: Connection) -> None:
        if link.last_sent is not None and link.state is State.OPEN:
            self.effects.send(link.last_sent, link)

    def _whisper(self, link: Connection, message: Message) -> None:
        link.last_sent = message
        self.effects.send(message, link)

    # --- peers lists ---------------------------------------------------------------------

    def _send_peers(self, link: Connection) -> None:
        """
        Tell a peer whom we know.

        Ids go as text: the only form in which a Python 3 reference node uses them.
        """
        others = [other for other in self.links.open if other.address and other is not link]
        self.rng.shuffle(others)
        entries = [
            [list(other.address or ()), other.id.decode("utf-8", "replace")]
            for other in others[:LIST_LENGTH]
        ]
        # Not through the composer: a list that is too long for it would be our own bug.
        self.effects.send(build(flags.WHISPER, self.id, self.stamp(), (flags.PEERS, entries)), link)

    def ask_for_list(self, link: Connection) -> None:
        """Ask a peer for its peers, unless it is asked already."""
        if not link.lists_awaited:
            self._request_list(link)

    def _request_list(self, link: Connection) -> None:
        link.lists_awaited += 1
        # As bytes: a Python 3 reference node hangs up on the text.
        self.effects.send(build(flags.WHISPER, self.id, self.stamp(), (flags.REQUEST, b"*")), link)

    def _ask_around(self) -> None:
        """A peer is gone: if that leaves us short of links, ask the others whom they know."""
        if sum(link.outgoing for link in self.links.open) < self.settings.max_outgoing:
            for link in self.links.open:
                if link.ext is None:
                    self.ask_for_list(link)
        self.dialer.seek(self.now)

    def _read_peers(self, link: Connection, message: Message) -> None:
        entries = message.payload[1] if len(message.payload) > 1 else None
        if not isinstance(entries, list):
            raise BadField("a peers message without a list")
        if link.ext is None:
            self.mesh.shepherd.list_came(link, self.now)
        if link.lists_awaited:
            link.lists_awaited -= 1
            most = LIST_LENGTH
        elif self.now - link.list_used >= UNASKED_INTERVAL:
            link.list_used = self.now
            most = UNASKED_LENGTH
        else:
            self._drop(link, "unasked peers list", "nobody asked for it")
            return
        addresses: list[tuple[Address, bytes]] = []
        for entry in entries[:most]:
            if not isinstance(entry, list) or len(entry) != 2:
                continue
            address, ident = read_address(entry[0]), entry[1]
            if address is None or not isinstance(ident, (bytes, str)) or len(ident) > MAX_ID:
                continue
            if as_bytes(ident) != self.id and as_bytes(ident) not in self._disconnected:
                addresses.append((address, as_bytes(ident)))
        self.dialer.learned(addresses, link.id, self.now)
        if link.ext is None and self.settings.extensions:
            self.mesh.shepherd.heard(
                (address, ident)
                for address, ident in addresses
                if self.dialer.acceptable(address) and ident not in self.mesh.membership.passive
            )

    def stamp(self) -> int:
        """What we say the time is: whole seconds since 1970."""
        return int(self.wall) + self.composer.correction

    # --- requests and responses ------------------------------------------------------------

    def _read_request(self, link: Connection, message: Message) -> None:
        payload = message.payload
        if len(payload) > 1 and payload[1] in _EVERYBODY:
            if link.state is State.OPEN:
                self._send_peers(link)
            return
        _check_built_in(message, flags.REQUEST)
        request_id, wanted = payload[1], payload[2]
        key = as_bytes(wanted)
        if key == self.id:
            # Port 0 cannot be dialled, and a plain node would try.
            address: Address | None = self.address if self.address[1] else None
        else:
            neighbour = self.links.table.get(key)
            address = neighbour.address if neighbour is not None else None
        if address is None or not isinstance(request_id, (bytes, str)):
            return
        packets = (request_id, [list(address), wanted])
        try:
            answer = self.composer.compose(flags.BROADCAST, flags.RESPONSE, packets, self.wall)
        except MessageTooLarge:
            return  # whoever makes such questions does not wait for answers
        # On the link that the request came by; from there it is relayed.
        self.send_to(link, answer, self.now)

    def _read_response(self, message: Message) -> None:
        _check_built_in(message, flags.RESPONSE)
        payload = message.payload
        proven = self._proofs.pop(as_bytes(payload[1]), None)
        if proven is not None:
            self.decide(Confirmed(proven[1], None))
            return
        found = payload[2]
        address = read_address(found[0]) if isinstance(found, list) and found else None
        if address is not None:
            self.replies.answered(as_bytes(payload[1]), address)

    def _ask_for(self, request_id: bytes, target: bytes | str) -> None:
        request = self.composer.compose(
            flags.BROADCAST, flags.REQUEST, (request_id, target), self.wall
        )
        self.flood.originate((request,), self.now)

    def _dial_for_reply(self, address: Address, ident: bytes) -> None:
        if not self.dialer.is_ours(address):
            self.dialer.seek_peer(address, ident, self.now)

    # --- unfinished frames --------------------------------------------------------------------

    def _watch(self, link: Connection) -> None:
        """A frame has been started: look now and then whether it gets on."""
        started, frame, had = self.now, link.frames, link.bytes
        settings = self.settings

        def look() -> None:
            link.progress = None
            if link.frames != frame or not link.waiting:
                if link.waiting:
                    self._watch(link)
                return
            nonlocal had
            elapsed = self.now - started
            rate = (link.bytes - had) / settings.progress_interval
            had = link.bytes
            if rate < settings.progress_rate:
                self._close(
                    link,
                    FrameTimeout(f"a frame gets on at {rate:.0f} bytes a second"),
                    flush=False,
                )
            elif elapsed >= settings.frame_timeout:
                self._close(
                    link, FrameTimeout(f"a frame is unfinished after {elapsed:.0f} s"), flush=False
                )
            else:
                link.progress = self.timers.at(self.now + settings.progress_interval, look)

        link.progress = self.timers.at(self.now + settings.progress_interval, look)


def _check_built_in(message: Message, sub: int) -> None:
    """
    Check what a node acts on itself, as far as it is flooded.

    :raises BadField: nobody could make use of it.
    """
    payload = message.payload
    if sub == flags.REQUEST and (len(payload) < 3 or not isinstance(payload[2], (bytes, str))):
        raise BadField("a request names a request id and a node id")
    if sub == flags.RESPONSE and (len(payload) < 3 or not isinstance(payload[1], (bytes, str))):
        raise BadField("a response names a request id and a node")


def _for_the_application(sub: object) -> bool:
    """
    Whether a whisper with this sub-flag is none that nodes act on themselves.

    0.6 nodes on Python compare, so to them 5.0 is 5 and true is 1.
    """
    return not isinstance(sub, (int, float)) or not (
        sub in flags.PRIVILEGED or sub in flags.EXTENSIONS
    )
