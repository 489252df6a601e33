"""
What a node remembers of others that are not its neighbours.

`PassiveView`: addresses of extended nodes, a random and changing sample of the mesh, from
which lost neighbours are replaced. `Attempts`: what became of dials, so that nobody is asked
again too soon::

    answered   forgotten; the address is *proven*
    refused    10 s, doubled each time, at most 320 s; 2 s while we have no neighbour at all
    failed     proven: like refused, at most 30 s, since a cut may heal any moment;
               else 15 minutes: it may be the address of a victim

Who tells us addresses may be a liar, hence shares: no neighbour can fill more than a quarter of the
passive view, and what it says never changes where a node that we know already lives. Times
are in seconds. Source: docs/protocol/mesh-ext.rst, "Views".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, TypeVar

from py2p_twisted.core.dialer import LEARNED_PAUSE, Random
from py2p_twisted.core.extension import Entry
from py2p_twisted.core.network import Address

#: One neighbour may fill one part in so many of the passive view. Source: docs/design.rst,
#: "Limits": a quarter.
SHARES: Final = 4
#: How long who refused us is left alone, at first and at most.
REFUSED_PAUSE: Final = 10.0
MOST_REFUSED_PAUSE: Final = 320.0
#: The same while we have nobody: one dial in two seconds is what isolation is worth.
LONELY_PAUSE: Final = 2.0
#: How long a proven address that failed is left alone at most: as long as the shortest
#: reboot takes, and the cut that a mesh has to mend within seconds.
PROVEN_PAUSE: Final = 30.0
#: Addresses whose attempts are remembered, of each kind; as many as the book holds.
MOST_ATTEMPTS: Final = 512

T = TypeVar("T")


def pick(rng: Random, items: Sequence[T]) -> T:
    """One of several, at random."""
    return items[min(int(rng.random() * len(items)), len(items) - 1)]


def sample(rng: Random, items: Iterable[T], count: int) -> list[T]:
    """Up to ``count`` of several, in random order."""
    left = list(items)
    chosen: list[T] = []
    while left and len(chosen) < count:
        at = min(int(rng.random() * len(left)), len(left) - 1)
        left[at], left[-1] = left[-1], left[at]
        chosen.append(left.pop())
    return chosen


class PassiveView:
    """
    A bounded sample of nodes that could become neighbours.

    :ivar capacity: how many it holds at most.
    :ivar added: how many have ever been noted, and one.
    """

    def __init__(self, capacity: int, rng: Random, *, acceptable: Callable[[Entry], bool]) -> None:
        """:param acceptable: whether a node belongs in here at all."""
        self.capacity = capacity
        self.added = 1
        self._share = -(-capacity // SHARES)
        self._rng = rng
        self._acceptable = acceptable
        #: Where a node lives, and who said so (``b""``: we know it ourselves).
        self._nodes: dict[bytes, tuple[Address, bytes]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, ident: object) -> bool:
        return ident in self._nodes

    @property
    def entries(self) -> list[Entry]:
        """All that are in it."""
        return [(address, ident) for ident, (address, _) in self._nodes.items()]

    def add(self, entry: Entry, source: bytes = b"", spare: Collection[bytes] = ()) -> bool:
        """
        Note a node, in place of another if need be.

        :param source: who said it; ``b""``: we know it ourselves.
        :param spare: ids that are to make room first.
        :return: whether it is new here.
        """
        address, ident = entry
        if ident in self._nodes:
            if not source:
                self._nodes[ident] = (address, source)
            return False
        if not self.capacity or not self._acceptable(entry):
            return False
        if source:
            of_source = [key for key, (_, who) in self._nodes.items() if who == source]
            if len(of_source) >= self._share:
                del self._nodes[pick(self._rng, of_source)]
        if len(self._nodes) >= self.capacity:
            going = [key for key in spare if key in self._nodes] or list(self._nodes)
            del self._nodes[pick(self._rng, going)]
        self._nodes[ident] = (address, source)
        self.added += 1
        return True

    def discard(self, ident: bytes) -> None:
        """Forget a node, if it is in here."""
        self._nodes.pop(ident, None)

    def discard_address(self, address: Address) -> None:
        """Forget whoever is said to live at an address."""
        for ident in [key for key, (where, _) in self._nodes.items() if where == address]:
            del self._nodes[ident]

    def sample(self, count: int, without: Collection[bytes] = ()) -> list[Entry]:
        """Up to ``count`` of them, in random order."""
        usable = (entry for entry in self.entries if entry[1] not in without)
        return sample(self._rng, usable, count)


class _Attempt:
    """What became of the last attempts at an address."""

    __slots__ = ("count", "failed", "when")

    def __init__(self) -> None:
        self.count = 0
        self.failed = False
        self.when = 0.0


class Attempts:
    """Whom not to dial again yet."""

    def __init__(self) -> None:
        self._attempts: dict[Address, _Attempt] = {}
        self._proven: dict[Address, None] = {}

    def __len__(self) -> int:
        return max(len(self._attempts), len(self._proven))

    def answered(self, address: Address) -> None:
        """We dialled, and an extended node has said hello."""
        attempt = self._attempts.get(address)
        if attempt is not None and attempt.failed:
            del self._attempts[address]
        self._proven.pop(address, None)
        self._proven[address] = None
        if len(self._proven) > MOST_ATTEMPTS:
            del self._proven[next(iter(self._proven))]

    def refused(self, address: Address, now: float) -> None:
        """It lives, and does not want us for a neighbour now."""
        self._note(address, now, failed=False)

    def failed(self, address: Address, now: float) -> None:
        """Nobody answered there, or somebody else."""
        self._note(address, now, failed=True)

    def _note(self, address: Address, now: float, *, failed: bool) -> None:
        attempt = self._attempts.pop(address, None) or _Attempt()
        if attempt.failed is not failed:
            attempt.count = 0
        attempt.count += 1
        attempt.failed, attempt.when = failed, now
        self._attempts[address] = attempt  # last: the one that has been left alone longest goes
        if len(self._attempts) > MOST_ATTEMPTS:
            del self._attempts[next(iter(self._attempts))]

    def pardon(self) -> None:
        """The mesh has changed: who refused us may have room now."""
        for address in [key for key, item in self._attempts.items() if not item.failed]:
            del self._attempts[address]

    def may(self, address: Address, now: float, *, lonely: bool) -> bool:
        """
        Whether an address may be tried.

        :param lonely: we have no neighbour at all.
        """
        attempt = self._attempts.get(address)
        if attempt is None:
            return True
        pause = min(MOST_REFUSED_PAUSE, REFUSED_PAUSE * 2.0 ** min(attempt.count - 1, 16))
        if not attempt.failed:
            pause = LONELY_PAUSE if lonely else pause
        elif address in self._proven:
            pause = min(pause, PROVEN_PAUSE)
        else:
            pause = LEARNED_PAUSE
        return now >= attempt.when + pause
