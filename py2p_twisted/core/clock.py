"""
Whose clock is right: stamps, compared with the clocks of our peers.

0.6 nodes drop broadcasts whose stamp is more than 60 s old, so a node whose clock is slow
would be mute without noticing. Every handshake carries its sender's time and so reveals
an *offset*, their clock minus ours. The median of the offsets decides two things:

* what we stamp: with three or more peers that agree on more than 20 s, the corrected
  time; else our own. (When our clock is set while we run, fewer peers will do.)
* what we accept: stamps within 20 minutes of our own time *or* of the corrected time.
  (Either, so that lying peers can widen the window but can never make us refuse what our
  own clock finds right.)

Times are in seconds. Source: docs/design.rst, "Clocks".
"""

from __future__ import annotations

from statistics import median_low
from typing import Final

#: How far a stamp may be from the time, both ways. A message is thus accepted for twice
#: as long at most, which is how long `seen.WINDOW` remembers ids.
ACCEPTED: Final = 20 * 60

#: Disagreement that is put down to a wrong clock rather than to travel time.
DISAGREEMENT: Final = 20

#: Peers it takes to overrule our own clock.
QUORUM: Final = 3

#: No correction goes further: whoever is a day off has other problems.
LARGEST_CORRECTION: Final = 24 * 60 * 60

#: Offsets of peers that are gone are kept, up to this many.
_REMEMBERED: Final = 32


class NetworkClock:
    """
    The offsets that peers have revealed, and what follows from them.

    :ivar correction: seconds to add to our own clock when stamping; 0 for a good clock.
    """

    def __init__(self) -> None:
        self._offsets: dict[bytes, float] = {}
        self._median = 0.0
        self._stepped = False
        #: Whose offsets are from before our clock was set.
        self._stale: set[bytes] = set()
        self.correction = 0

    def learn(self, peer: bytes, stamp: float, wall: float) -> bool:
        """
        Take in what a peer's handshake says the time is.

        :param peer: its id; only its latest statement counts.
        :return: whether our own clock has just turned out to be wrong (or right again).
        """
        offsets = self._offsets
        offsets.pop(peer, None)
        self._stale.discard(peer)
        offset = stamp - wall
        offsets[peer] = max(-LARGEST_CORRECTION, min(LARGEST_CORRECTION, offset))
        if len(offsets) > _REMEMBERED:
            oldest = next(iter(offsets))
            del offsets[oldest]
            self._stale.discard(oldest)
        return self._conclude()

    def stepped(self, seconds: float) -> bool:
        """
        Our own clock was set: everybody else has become as much slower.

        Or we were suspended, and everybody else was not. So what was said before counts only
        until somebody has told the time again.

        :param seconds: by how much it was set forward.
        :return: as for `learn`.
        """
        # It was right by what few peers there are, or wrong and is right now: their word counts.
        self._stepped = True
        for peer, offset in self._offsets.items():
            shifted = offset - seconds
            self._offsets[peer] = max(-LARGEST_CORRECTION, min(LARGEST_CORRECTION, shifted))
        self._stale = set(self._offsets)
        return self._conclude() if self._offsets else False

    def _conclude(self) -> bool:
        stale = self._stale
        fresh = [offset for peer, offset in self._offsets.items() if peer not in stale]
        offsets = fresh or self._offsets.values()
        self._median = median_low(offsets)
        before = self.correction
        off = abs(self._median) > DISAGREEMENT
        if fresh and not off:
            self._stepped = False  # our clock is right: few peers cannot overrule it any more
        wrong = off and (len(offsets) >= QUORUM or self._stepped)
        self.correction = round(self._median) if wrong else 0
        return bool(before) != wrong

    @property
    def offset(self) -> float:
        """Seconds that our peers are ahead of our own clock: the median of what they said."""
        return self._median

    def accepts(self, stamp: float, wall: float) -> bool:
        """Whether a broadcast with this stamp is of our time."""
        return abs(stamp - wall) <= ACCEPTED or abs(stamp - wall - self._median) <= ACCEPTED
