"""
Looking after plain nodes, which cannot look after themselves.

A 0.6 node forgets a peer when its link breaks, repairs nothing, and drops what is older than
a minute. Who can do better does it for it:

* a plain peer that comes back after its link broke is given what came since shortly before
  (at most `MOST_PUSHED` messages; pushing all that is held would be a storm when links flap);
* every ``shepherd_interval`` one plain peer is asked whom it knows, and while we have fewer
  than `GOAL` plain peers one plain node that is known and not connected is dialled; with more,
  now and then.

Such a link stays. A 0.6 node on Python 3 whose peer hangs up asks all its other peers for
theirs, in a form for which its like hang up in turn: whoever merely looked in on plain nodes
would tear their network apart.

Times are in seconds. Source: docs/protocol/mesh-ext.rst, "Plain nodes".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.dialer import LEARNED_PAUSE
from py2p_twisted.core.links import Links
from py2p_twisted.core.message import Message
from py2p_twisted.core.network import Address
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.timers import Timer, Timers

#: Messages that a plain peer is given when it is back, how old they may be by their stamps,
#: and how long before the break they may have come. 0.6 drops what is older than 60 s.
MOST_PUSHED: Final = 16
OLDEST_PUSHED: Final = 55.0
BEFORE: Final = 2.0

#: Plain peers that a node wants, and how many it has at most by its own doing. With as many
#: extended nodes as plain ones each of those has four links that are looked after, too.
GOAL: Final = 4
MOST: Final = 16

#: With enough of them, one look in so many leads to a visit.
SELDOM: Final = 6

#: A peer that has not announced an extension for so long speaks 0.6 alone.
UNDECIDED: Final = 2.0

#: Plain nodes that are remembered; as many that are not, and addresses where nobody answered.
_MOST_KNOWN: Final = 256


class Random(Protocol):
    """What is used of ``random.Random``."""

    def random(self) -> float:
        """A number from 0 to 1."""


class Shepherd:
    """Remembers plain nodes, visits them, and gives them what they missed."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        recent: RecentMessages,
        timers: Timers,
        rng: Random,
        counters: Counter[str],
        *,
        dial: Callable[[Address, bytes], bool],
        ask: Callable[[Connection], None],
        give: Callable[[Message, Connection], None],
        settled: Callable[[Connection], None] = lambda link: None,
    ) -> None:
        """
        :param dial: has a node dialled once; whether that is possible.
        :param ask: asks a peer for its list.
        :param give: sends a message to a peer, as it is.
        :param settled: called with a peer that has turned out to be a plain node.
        """
        self._settings = settings
        self._links = links
        self._recent = recent
        self._timers = timers
        self._rng = rng
        self._counters = counters
        self._dial = dial
        self._ask = ask
        self._give = give
        self._settled = settled
        #: Plain nodes by id: their address, and when we lost them; ``None`` if we have not, or
        #: have made up for it. The least recent first.
        self._known: dict[bytes, tuple[Address, float | None]] = {}
        #: Nodes that are not plain, as we have found out.
        self._extended: dict[bytes, None] = {}
        #: Where nobody answered, and when: it may be the address of a victim.
        self._failed: dict[Address, float] = {}
        #: Whom we dial to see how they are, and by when something must have come of it.
        self._visiting: dict[Address, float] = {}
        self._timer: Timer | None = None
        self._looks = 0
        #: Peers that have said neither that they speak mesh-ext nor anything else.
        self._undecided: dict[Connection, Timer] = {}

    def __len__(self) -> int:
        return len(self._known)

    def joined(self, link: Connection, now: float) -> None:
        """A peer has joined that may be a plain node: see whether it announces anything."""
        if link.outgoing and link.dial is not None and link.dial.address in self._visiting:
            del self._visiting[link.dial.address]
        self._undecided[link] = self._timers.at(now + UNDECIDED, partial(self._time_is_up, link))
        if link.id in self._known and (lost := self._known[link.id][1]) is not None:
            self._known[link.id] = (self._known[link.id][0], None)
            self._push(link, lost, now)

    def list_came(self, link: Connection, now: float) -> None:
        """
        A peer has sent a list of peers.

        Who speaks mesh-ext says so before: one that has not is a plain node.
        """
        if link in self._undecided:
            self._decide(link, now)

    def hello_came(self, link: Connection) -> None:
        """A peer has announced mesh-ext, maybe after it had been taken for a plain node."""
        if (timer := self._undecided.pop(link, None)) is not None:
            timer.cancel()
        self._known.pop(link.id, None)
        self._note_extended(link.id)

    def is_plain(self, link: Connection) -> bool:
        """Whether a peer has turned out to speak 0.6 alone."""
        return link.ext is None and link not in self._undecided

    def _note_extended(self, ident: bytes) -> None:
        self._extended.pop(ident, None)
        self._extended[ident] = None
        if len(self._extended) > _MOST_KNOWN:
            del self._extended[next(iter(self._extended))]

    def _time_is_up(self, link: Connection) -> None:
        self._decide(link, self._timers.now)

    def _decide(self, link: Connection, now: float) -> None:
        timer = self._undecided.pop(link, None)
        if timer is not None:
            timer.cancel()
        if link.state is not State.OPEN:
            return
        if link.ext is not None:
            self.hello_came(link)
            return
        if link.address is not None:
            self._remember(link.id, link.address, None)
        self._settled(link)
        if self._timer is None:
            self._arm(now)

    def _remember(self, ident: bytes, address: Address, lost: float | None) -> None:
        self._known.pop(ident, None)
        self._known[ident] = (address, lost)
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def left(self, link: Connection, now: float) -> None:
        """A link has ended."""
        if (timer := self._undecided.pop(link, None)) is not None:
            timer.cancel()
        if link.ext is None and link.id in self._known:
            self._remember(link.id, self._known[link.id][0], now)

    def dial_failed(self, address: Address) -> None:
        """A dial has come to nothing."""
        if address in self._visiting:
            del self._visiting[address]
            self._failed.pop(address, None)
            self._failed[address] = self._timers.now
            if len(self._failed) > _MOST_KNOWN:
                del self._failed[next(iter(self._failed))]
            for ident, (known, _) in list(self._known.items()):
                if known == address:
                    del self._known[ident]

    def _push(self, link: Connection, lost: float, now: float) -> None:
        """Give a plain peer what came since shortly before it was lost."""
        missed = self._recent.after(max(lost - BEFORE, now - OLDEST_PUSHED), MOST_PUSHED)
        for message in missed:
            if message.via != link.id:
                self._counters["pushed to plain peers"] += 1
                self._give(message, link)

    def heard(self, entries: Iterable[tuple[Address, bytes]]) -> None:
        """A plain peer has named others; those that are not known to be extended may be plain."""
        for address, ident in entries:
            if ident in self._known or ident in self._extended:
                continue
            if self._timers.now >= self._failed.get(address, float("-inf")) + LEARNED_PAUSE:
                self._remember(ident, address, None)

    def _arm(self, now: float) -> None:
        interval = self._settings.shepherd_interval * (0.75 + 0.5 * self._rng.random())
        self._timer = self._timers.at(now + interval, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._timers.now
        for address in [where for where, until in self._visiting.items() if now >= until]:
            del self._visiting[address]  # as a second link to somebody, say
        plain = [link for link in self._links.open if link.ext is None]
        if plain:
            self._ask(plain[int(self._rng.random() * len(plain))])
        self._looks += 1
        away = [ident for ident in self._known if ident not in self._links.table]
        wanted = len(plain) < GOAL or (len(plain) < MOST and not self._looks % SELDOM)
        if away and wanted and len(self._visiting) < GOAL:
            ident = away[int(self._rng.random() * len(away))]
            address = self._known[ident][0]
            if self._dial(address, ident):
                self._counters["plain nodes visited"] += 1
                settings = self._settings
                patience = settings.dial_timeout + settings.dial_handshake_timeout + 1.0
                self._visiting[address] = now + patience
        if plain or self._known:
            self._arm(now)

    def stop(self) -> None:
        """The node is closing."""
        if self._timer is not None:
            self._timer.cancel()
