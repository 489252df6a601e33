"""
A machine that runs a node of the core: the driver, as `py2p_twisted.net` is one on Twisted.

It hands the node bytes, times and outcomes, carries out what the node decides, and is the
node's `Effects`. Everything that a turn has queued for one peer is one write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Final

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
from py2p_twisted.core.connection import Connection
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import Address
from py2p_twisted.core.node import Node
from py2p_twisted.core.queues import HIGH_WATER
from py2p_twisted.core.receipts import Receipt
from py2p_twisted.core.survey import Survey
from py2p_twisted.errors import (
    LinkError,
    MeshError,
    NetworkMismatch,
    SameId,
    SelfConnection,
    TooManyPeers,
)
from py2p_twisted.simulation.machine import READ, Birth, Machine
from py2p_twisted.simulation.wires import CLOSE_TIMEOUT, REFUSAL_TIMEOUT, End

if TYPE_CHECKING:
    from py2p_twisted.simulation.history import Sent

_NEVER: Final = float("inf")
_REFUSALS: Final = (TooManyPeers, NetworkMismatch, SameId, SelfConnection)


class Host(Machine):
    """
    A machine with one of our own nodes.

    :ivar node: the core.
    :ivar outcomes: what became of ``connect``, ``reply`` and ``confirm``, by token: ``None``
        if it went well, else the error.
    :ivar receipts: what became of ``confirm``, by token; ``surveys``: of ``survey``.
    :ivar frames: frames that have come in, over connections that are gone.
    :ivar duplicates: those of them that had come before.
    """

    def __init__(self, birth: Birth) -> None:
        super().__init__(birth)
        self.outcomes: dict[int, Exception | None] = {}
        self.receipts: dict[int, Receipt] = {}
        self.surveys: dict[int, Survey] = {}
        self.frames = self.duplicates = self.bytes = 0
        self._wake = _NEVER
        self._armed = _NEVER
        self.node = Node(
            ident=self.id,
            network=self.sim.network,
            address=self.address,
            effects=self,
            rng=self.rng,
            settings=self.settings,
        )
        self.node.composer.now = lambda: self.now

    @property
    def has_peers(self) -> bool:
        """Whether there is anybody in its routing table."""
        return bool(self.node.links.table)

    # --- counters ---------------------------------------------------------------------------

    def traffic(self) -> tuple[int, int, int]:
        """Frames that have come in, duplicates among them, and bytes: of all connections ever."""
        links = self.node.links
        return (
            self.frames + sum(link.frames for link in links),
            self.duplicates + sum(link.duplicates for link in links),
            self.bytes + sum(link.bytes for link in links),
        )

    def _settle(self, link: Connection) -> None:
        """A connection is over: keep what it has counted."""
        self.frames += link.frames
        self.duplicates += link.duplicates
        self.bytes += link.bytes
        link.frames = link.duplicates = link.bytes = 0

    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """What every container of the node and its driver holds, and may hold."""
        most = self.queue_limit + 2 * self.settings.max_message
        outboxes = {f"outbox for {end.other.machine.name}": (end.size, most) for end in self.ends}
        return {**self.node.sizes(), **outboxes}

    def counters(self) -> Mapping[str, int]:
        """What the node has counted."""
        return self.node.counters

    # --- what users do ------------------------------------------------------------------------

    def connect(self, address: Address) -> None:
        """Dial an address, and again and again: as ``--join`` does."""
        self.act(self.node.pin(address, self.now, self.wall))

    def broadcast(self, packets: tuple[Any, ...]) -> Sent:
        """Send to everybody, and tell the history."""
        message = self._compose(packets)
        return self._broadcast(message)

    def confirm(self, packets: tuple[Any, ...], timeout: float) -> tuple[Sent, int]:
        """Send to everybody; `receipts` will tell by the token who has got it."""
        message = self.node.composer.mark(self._compose(packets), ceil(timeout))
        token, actions = self.node.expect_receipts(message, timeout, self.now)
        self.act(actions)
        return self._broadcast(message), token

    def survey(self, timeout: float = 5.0) -> int:
        """Find out who is there; `surveys` will tell by the token."""
        token, actions = self.node.survey(timeout, self.now, self.wall)
        self.act(actions)
        return token

    def _compose(self, packets: tuple[Any, ...]) -> Message:
        return self.node.composer.compose(flags.BROADCAST, flags.BROADCAST, packets, self.wall)

    def _broadcast(self, message: Message) -> Sent:
        sim, node = self.sim, self.node
        before = set(node.seen.ids)
        sim.history.early = 0
        actions = node.broadcast((message,), self.now)
        # The node may have put a counter behind it, and with that given it another id.
        (ident,) = node.seen.ids.keys() - before
        sent = sim.history.sending(ident, self)
        self.act(actions)
        return sent

    def whisper(self, packets: tuple[Any, ...]) -> None:
        """Send to every neighbour."""
        message = self.node.composer.compose(flags.WHISPER, flags.BROADCAST, packets, self.wall)
        self.node.whisper((message,))
        self.flush()

    def reply(self, target: bytes | str, packets: tuple[Any, ...]) -> int:
        """Send to one node, wherever it is; `outcomes` will tell what became of the token."""
        message = self.node.composer.compose(flags.WHISPER, flags.WHISPER, packets, self.wall)
        token, actions = self.node.reply(target, message, self.now, self.wall)
        self.act(actions)
        return token

    def leave(self) -> None:
        """Say goodbye to everybody."""
        self.act(self.node.close(self.now, self.wall))

    # --- what happens to it ---------------------------------------------------------------------

    def received(self, end: End, data: bytes) -> None:
        """Bytes have come in: one turn of the reactor."""
        sim, node, link = self.sim, self.node, end.link
        end.heard = now = sim.now
        wall = now + self.wall_skew
        now += self.skew
        if len(data) > READ:
            for start in range(0, len(data), READ):
                if end.link is link and end in self.ends:
                    self._read(end, data[start : start + READ], now, wall)
            return
        actions = node.receive(link, data, now, wall)
        if actions:
            self.perform(actions)
        if self.dirty:
            self.flush()
        if link.unread:
            self._read_on_rest(link, now, wall)

    def _read(self, end: End, data: bytes, now: float, wall: float) -> None:
        self.act(self.node.receive(end.link, data, now, wall))
        if end.link.unread:
            self._read_on_rest(end.link, now, wall)

    def _read_on_rest(self, link: Connection, now: float, wall: float) -> None:
        while link.unread:
            self.act(self.node.receive(link, b"", now, wall))

    def opened(self, end: End) -> None:
        """A connection has been made: introduce ourselves."""
        end.opened()
        link = end.link = self.node.link(end.dial, self.now)
        link.owner = end
        self.act(self.node.opened(link, self.now, self.wall))

    def ended(self, end: End, error: MeshError | None) -> None:
        """A transport is gone."""
        self._settle(end.link)
        self.act(self.node.lost(end.link, error, self.now, self.wall))

    def dial_failed(self, outcome: tuple[Dial, Exception]) -> None:
        """A dial has come to nothing."""
        dial, error = outcome
        if self.alive:
            self.act(self.node.dial_failed(dial, error, self.now, self.wall))

    def too_slow(self, what: tuple[End, LinkError]) -> None:
        """A peer does not take what it is sent."""
        end, error = what
        if self.alive and end in self.ends:
            self.act(self.node.close_link(end.link, error, self.now, self.wall))

    def congested(self, end: End) -> None:
        """So much waits for a peer that it should not get more."""
        end.link.congested = True

    def relieved(self, end: End) -> None:
        """It has fallen below low water again: taken up after this turn, as the real driver does."""
        end.link.congested = False
        self.sim.at(self.sim.now, self._drained, end)

    def _drained(self, end: End) -> None:
        if self.running and not end.congested and end in self.ends:
            self.act(self.node.drained(end.link, self.now, self.wall))

    def stop(self) -> None:
        """The process is no more."""
        super().stop()
        for link in list(self.node.links):
            self._settle(link)

    # --- Effects ------------------------------------------------------------------------------------

    def send(self, message: Message, link: Connection) -> None:
        """Queue one message for one peer."""
        self.relay((message,), (link,))

    def relay(self, messages: Sequence[Message], links: Sequence[Connection]) -> None:
        """Queue messages for several peers."""
        dirty = self.dirty
        shared = len(links) > 1
        copies = 0
        for link in links:
            end: End = link.owner
            if end.state != 1 or (end.size > HIGH_WATER and end.overflows()):
                continue
            frames = link.policy.frames(messages, shared)
            end.frames += frames
            for frame in frames:
                end.size += len(frame)
            if not end.dirty:
                end.dirty = True
                dirty.append(end)
            if end.size > HIGH_WATER:
                end.crowd()
            if end.other.state < 4:
                copies += 1
        self.sim.history.relayed(messages, copies)

    def deliver(self, messages: Sequence[Message], link: Connection) -> None:
        """Messages for the application."""
        self.sim.history.delivered(self, messages, link.owner.other.machine)

    # --- actions --------------------------------------------------------------------------------------

    def act(self, actions: Sequence[Action]) -> None:
        """Carry out decisions, and end the turn."""
        if actions:
            self.perform(actions)
        if self.dirty:
            self.flush()

    def perform(self, actions: Sequence[Action]) -> None:
        """Carry out decisions, in order; one of an unknown type is an error of the simulation."""
        for action in actions:
            _PERFORMERS[type(action)](self, action)

    def _sleep_until(self, when: float | None) -> None:
        """Have one event for the node's timers, not earlier than needed."""
        if when is None:
            return
        self._wake = when
        if when < self._armed:
            self._armed = when
            sim = self.sim
            sim.at(max(sim.now, when - self.skew), self._due, when)

    def _due(self, armed: float) -> None:
        if armed != self._armed:
            return  # an earlier event has been put in its place
        self._armed = _NEVER
        if self.running:
            self._wake_up(self._wake)

    def _wake_up(self, when: float) -> None:
        now = self.now
        if when - now > 1e-9:
            self._sleep_until(when)  # the timer was put off
            return
        self._wake = _NEVER
        # Not a rounding error too early, or it would be woken again at once, and for ever.
        self.act(self.node.woken(max(now, when), self.wall))

    def woken(self) -> None:
        """The process runs again after it was suspended: what is overdue is done first."""
        if self._wake < _NEVER:
            self._armed = _NEVER
            self._wake_up(self._wake)

    def _do_dial(self, action: Dial) -> None:
        self.sim.dial(self, action)

    def _do_close(self, action: Close) -> None:
        end: End = action.link.owner
        error = action.error
        self.closings[error.reason] += 1
        self._settle(action.link)
        end.close(action.flush, REFUSAL_TIMEOUT if isinstance(error, _REFUSALS) else CLOSE_TIMEOUT)

    def _do_joined(self, action: Joined) -> None:
        if self.joined is None:
            self.joined = self.sim.now
        self.sim.history.note("up", self, action.link.owner.other.machine)

    def _do_left(self, action: Left) -> None:
        self.sim.history.note("down", self, action.link.owner.other.machine, action.error.reason)

    def _do_replaced(self, action: Replaced) -> None:
        self.sim.history.note("replaced", self, action.link.owner.other.machine)

    def _do_outcome(self, action: ConnectFailed | Replied | Confirmed) -> None:
        self.outcomes[action.token] = action.error

    def _do_receipted(self, action: Receipted) -> None:
        self.receipts[action.token] = action.receipt

    def _do_surveyed(self, action: Surveyed) -> None:
        self.surveys[action.token] = action.survey

    def _do_connected(self, action: Connected) -> None:
        self.outcomes[action.token] = None

    def _do_clock(self, action: ClockDisagreement) -> None:
        self.sim.history.note("clock", self, None, str(action.correction))

    def _do_dropped(self, action: Dropped) -> None:
        self.sim.history.dropped[action.reason] += 1

    def _do_gap(self, action: Gap) -> None:
        self.sim.history.gap(self, action)


_PERFORMERS: Final[dict[type, Callable[[Any, Any], None]]] = {
    Dial: Host._do_dial,
    Close: Host._do_close,
    Joined: Host._do_joined,
    Settled: lambda host, action: None,
    Left: Host._do_left,
    Replaced: Host._do_replaced,
    Connected: Host._do_connected,
    ConnectFailed: Host._do_outcome,
    Replied: Host._do_outcome,
    Confirmed: Host._do_outcome,
    Receipted: Host._do_receipted,
    Surveyed: Host._do_surveyed,
    ClockDisagreement: Host._do_clock,
    Dropped: Host._do_dropped,
    Gap: Host._do_gap,
    WakeAt: lambda host, action: host._sleep_until(action.when),
}
