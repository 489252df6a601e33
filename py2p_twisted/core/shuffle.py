"""
How nodes get to know others: addresses exchanged along random walks.

::

    us --SHUFFLE(us, 6, ours)--> a --(us, 5, ours)--> ... --(us, 1, ours)--> z
    us <--SHUFFLE_REPLY(us, z's)-- a <------------------- ... <------------- z

Where a walk ends, both ends learn of each other's sample. Every node on the way remembers for ten
seconds where a walk came from and went to, and passes on one answer; nobody's address is in an answer
because it carried it. What a walk brings replaces in the passive view what was sent first.

Times are in seconds. Source: HyParView (Leitao et al. 2007), section 4.4;
docs/protocol/mesh-ext.rst, "Shuffles".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from py2p_twisted.core.connection import Connection
from py2p_twisted.core.dialer import Random
from py2p_twisted.core.extension import Entry, Kind, need, read_entries, write_entry
from py2p_twisted.core.message import MAX_ID
from py2p_twisted.core.settings import Settings
from py2p_twisted.core.views import PassiveView, pick, sample
from py2p_twisted.errors import BadExtension

#: How long the way of a walk is remembered: twelve hops take a second or two.
ROUTE_TIME: Final = 10.0
#: Walks remembered at a time. In a mesh every node passes on six walks in an interval of 30
#: seconds, so two in the time of one; the rest is room for bursts.
MOST_ROUTES: Final = 256


class _Route(NamedTuple):
    """One walk: whence, whither, and until when it is remembered; and what was sent, if ours."""

    origin: Connection | None
    target: Connection
    until: float
    sent: tuple[bytes, ...] = ()


class Shuffles:
    """
    Walks of addresses, our own and those of others.

    :ivar started: how many of our own have been sent off.
    :ivar ended: how many of others have ended here.
    """

    def __init__(
        self,
        own_id: bytes,
        settings: Settings,
        rng: Random,
        passive: PassiveView,
        *,
        neighbours: Callable[[], list[Connection]],
        send: Callable[..., None],
    ) -> None:
        """
        :param neighbours: the active view, without leaves.
        :param send: sends one extension frame: to whom, its kind and its fields.
        """
        self._own_id = own_id
        self._settings = settings
        self._rng = rng
        self._passive = passive
        self._neighbours = neighbours
        self._send = send
        self._routes: dict[bytes, _Route] = {}
        self.started = self.ended = 0

    def __len__(self) -> int:
        return len(self._routes)

    def start(self, own: Entry, now: float) -> None:
        """Send a walk of our own to a random neighbour, if there is one."""
        neighbours = self._neighbours()
        if not neighbours:
            return
        target = pick(self._rng, neighbours)
        others = [
            (link.address, link.id) for link in neighbours if link.address and link is not target
        ]
        passive = self._passive.sample(self._settings.shuffle_passive, (target.id,))
        entries = [own, *sample(self._rng, others, self._settings.shuffle_active), *passive]
        sent = tuple(ident for _, ident in passive)
        self._remember(self._own_id, _Route(None, target, now + ROUTE_TIME, sent))
        self.started += 1
        walk = self._settings.join_walk
        self._send(target, Kind.SHUFFLE, self._own_id, walk, _written(entries))

    def walked(self, link: Connection, fields: Sequence[Any], now: float) -> None:
        """
        A walk has come by: it goes on, or ends here and is answered.

        :raises BadExtension: it makes no sense.
        """
        origin, hops, listed = need(fields, bytes, int, list)[:3]
        entries = self._usable(listed)
        _check_origin(origin)
        if hops < 0:
            raise BadExtension(f"a walk has {hops} hops to go")
        if origin == self._own_id:
            return  # it went in a circle
        hops = min(hops, self._settings.join_walk) - 1
        onward = [other for other in self._neighbours() if other is not link and other.id != origin]
        if hops > 0 and onward:
            target = pick(self._rng, onward)
            self._remember(origin, _Route(link, target, now + ROUTE_TIME))
            self._send(target, Kind.SHUFFLE, origin, hops, _written(entries))
            return
        self.ended += 1
        answer = self._passive.sample(len(entries), (origin,))
        self._send(link, Kind.SHUFFLE_REPLY, origin, _written(answer))
        self._take(entries, link.id, [ident for _, ident in answer])

    def answered(self, link: Connection, fields: Sequence[Any], now: float) -> None:
        """
        The answer to a walk has come by, and goes back where that came from.

        :raises BadExtension: it makes no sense.
        """
        origin, listed = need(fields, bytes, list)[:2]
        entries = self._usable(listed)
        _check_origin(origin)
        route = self._routes.get(origin)
        if route is None or route.target is not link:
            return  # nobody asked it
        del self._routes[origin]
        if now > route.until:
            return
        if route.origin is None:
            self._take(entries, link.id, route.sent)
        elif route.origin in self._neighbours():
            self._send(route.origin, Kind.SHUFFLE_REPLY, origin, _written(entries))

    def gone(self, link: Connection) -> None:
        """A neighbour is one no longer: walks that passed through it will not be answered."""
        for origin, route in list(self._routes.items()):
            if link is route.origin or link is route.target:
                del self._routes[origin]

    def _take(self, entries: list[Entry], source: bytes, sent: Sequence[bytes]) -> None:
        for entry in entries:
            self._passive.add(entry, source, sent)

    def _usable(self, listed: list[Any]) -> list[Entry]:
        """No more of a list than we would send ourselves."""
        settings = self._settings
        most = 1 + settings.shuffle_active + settings.shuffle_passive
        return read_entries(listed)[:most]

    def _remember(self, origin: bytes, route: _Route) -> None:
        self._routes.pop(origin, None)
        self._routes[origin] = route
        if len(self._routes) > MOST_ROUTES:
            del self._routes[next(iter(self._routes))]


def _written(entries: list[Entry]) -> list[Any]:
    return [write_entry(entry) for entry in entries]


def _check_origin(origin: bytes) -> None:
    if not 0 < len(origin) <= MAX_ID:
        raise BadExtension(f"a walk of nobody: {origin!r:.80}")
