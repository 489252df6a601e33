"""
Digests: two nodes find out what only one of them has.

Each end of a new link sends a digest of the messages that it holds. Who receives one
compares it with its own, and where they differ sends the ids of what it holds itself, in
pages; the other asks for those that it misses (`repair`)::

    a                                                  b
    |-- DIGEST(count, sums, mutual, edge) -------------->|   compares with its own
    |<----------- DIGEST_IDS(ids of differing buckets) --|
    |-- GRAFT(what a misses) ---> ...                    |   and the same the other way round,
                                                             as b activates the link, or if
                                                             the digest was mutual

So each link, from its first moment on, carries every message that one of its ends has: as
itself, or announced, or in a digest. That is why nothing is lost.

A digest is one sum over a few messages, and 64 over many: with traffic there is always a
difference somewhere, and only the ids of the buckets that differ are sent. The *edge* is the latest message that has been forgotten, and how long ago it came. Who was there at
that time and does not know that message has missed it, and maybe others before it: `MeshExtension`
tells the application, since this peer cannot bring them any more.

Source: docs/protocol/mesh-ext.rst, "Digests".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from py2p_twisted.core.connection import Connection, State
from py2p_twisted.core.extension import PAGE, Kind, write_ids
from py2p_twisted.core.recent import RecentMessages
from py2p_twisted.core.seen import SHORT
from py2p_twisted.core.timers import Timers

#: More messages than this are told in so many buckets, less in one: a digest has 1 KiB then,
#: as the ids of 64 messages have.
FEW: Final = 256
BUCKETS: Final = 64

#: Digests of one peer that are answered: so many at once, and so many a second.
BURST: Final = 4.0
RATE: Final = 1.0

#: A digest that has to wait is looked at so many seconds after its turn.
MARGIN: Final = 0.1


class AntiEntropy:
    """Compares what we hold with what neighbours hold."""

    def __init__(
        self,
        recent: RecentMessages,
        counters: Counter[str],
        *,
        send: Callable[..., None],
        timers: Timers,
        now: Callable[[], float],
    ) -> None:
        """
        :param send: sends an extension frame: to whom, kind, fields.
        """
        self._recent = recent
        self._counters = counters
        self._send = send
        self._timers = timers
        self._now = now
        #: The sums of a version of the store, by how many buckets.
        self._sums: dict[int, tuple[int, list[bytes]]] = {}

    def compare(self, link: Connection, *, mutual: bool = False) -> None:
        """
        Tell a peer in short what we hold, so that it tells us what else there is.

        :param mutual: whether the peer is to do the same.
        """
        if link.ext is None or link.state is not State.OPEN:
            return
        self._counters["digests"] += 1
        count = len(self._recent)
        sums = self._sums_of(BUCKETS if count > FEW else 1)
        forgotten, age = self._recent.edge(self._now())
        self._send(
            link, Kind.DIGEST, count, b"".join(sums), int(mutual), forgotten, int(age * 1000)
        )

    def asked(self, link: Connection, sums: bytes, now: float, *, mutual: bool) -> None:
        """
        A peer's digest has come: send the ids of what it may not have.

        A digest too many waits, and gives way to a later one. None is ignored: its sender would
        never hear of what had been withheld from it.

        :param sums: 16 bytes for each of its buckets.
        :param mutual: whether it wants ours.
        """
        ext = link.ext
        if ext is None or link.state is not State.OPEN:
            return
        ext.digests_allowed = min(BURST, ext.digests_allowed + (now - ext.digests_at) * RATE)
        ext.digests_at = now
        if ext.digests_allowed < 1 or (link.congested and self._timers is not None):
            self._counters["digests deferred"] += 1
            if ext.digest_waiting is None:
                wait = max(MARGIN, (1 - ext.digests_allowed) / RATE + MARGIN)
                self._timers.at(now + wait, partial(self._asked_before, link))
            else:
                mutual = mutual or ext.digest_waiting[1]
            ext.digest_waiting = (sums, mutual)
            return
        ext.digests_allowed -= 1
        self._recent.tidy(now)
        buckets = len(sums) // SHORT
        ours = self._sums_of(buckets)
        differing = {
            number
            for number, own in enumerate(ours)
            if own != sums[number * SHORT : (number + 1) * SHORT]
        }
        if not differing:
            return
        self._counters["digests that differed"] += 1
        if mutual:
            self.compare(link)
        shorts = self._recent.in_buckets(differing, buckets)
        while page := list(islice(shorts, PAGE)):
            self._send(link, Kind.DIGEST_IDS, write_ids(page))

    def _asked_before(self, link: Connection) -> None:
        """It is the turn of a digest that had to wait."""
        ext = link.ext
        if ext is None or ext.digest_waiting is None or link.state is not State.OPEN:
            return
        (sums, mutual), ext.digest_waiting = ext.digest_waiting, None
        self.asked(link, sums, self._timers.now, mutual=mutual)

    def _sums_of(self, buckets: int) -> list[bytes]:
        version, sums = self._sums.get(buckets, (-1, []))
        if version != self._recent.version:
            sums = self._recent.sums(buckets)
            self._sums[buckets] = (self._recent.version, sums)
        return sums
