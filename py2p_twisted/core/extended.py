"""
What a node keeps of a neighbour that speaks mesh-ext, besides its connection.

The mechanisms of the extension share this: each field belongs to one of them, named in its
comment. A connection whose ``ext`` is ``None`` leads to a node that speaks 0.6 alone, or has
not said otherwise yet.
"""

from __future__ import annotations

from collections import deque

from py2p_twisted.core.timers import Timer


class Extended:
    """
    The extension's side of one connection.

    :ivar version: the highest that the peer speaks.
    :ivar caps: what else it can do, as bits.
    :ivar active: whether the link is one of our active view: payloads and announcements go
        over such links alone.
    :ivar rtt: seconds to the peer and back, smoothed; ``None`` until measured.
    """

    __slots__ = (
        "active",
        "asked",
        "asking",
        "asks_waiting",
        "behind",
        "caps",
        "digest_waiting",
        "digests_allowed",
        "digests_at",
        "ignored_until",
        "incomplete",
        "missing",
        "obtained_at",
        "offset",
        "pending",
        "ping_at",
        "ping_seq",
        "probe",
        "rtt",
        "serving",
        "strikes",
        "struck_at",
        "version",
        "wanted",
    )

    def __init__(self, version: int, caps: int, now: float) -> None:
        self.version = version
        self.caps = caps
        self.active = False
        #: Membership: we have asked the peer to be our neighbour.
        self.asking = False
        #: Membership: we made this link to compare what both ends have.
        self.probe = False
        # trees: short ids to announce
        self.pending: list[bytes] = []
        # repair: messages the peer has announced and we miss; those asked for, in order, and
        # until when they should have come; those to be asked for when it has answered.
        self.missing = 0
        self.asked: dict[bytes, float] = {}
        self.asks_waiting: deque[bytes] = deque()
        self.obtained_at = now
        self.strikes = 0
        self.struck_at = float("-inf")
        self.ignored_until = float("-inf")
        # repair, the other way round: what the peer has asked for and waits for
        self.wanted: deque[bytes] = deque()
        self.serving: Timer | None = None
        # anti-entropy: whether messages were withheld while the peer read too slowly; whether
        # more of its ids are to be had; how many digests we are willing to answer (at first as many
        # as anybody's, `anti_entropy.BURST`), and one that waits for that: its sums, and whether it
        # is mutual
        self.behind = False
        self.incomplete = False
        self.digests_allowed = float("inf")
        self.digests_at = now
        self.digest_waiting: tuple[bytes, bool] | None = None
        #: Seconds that its clock is ahead of ours, as it last said.
        self.offset: float | None = None
        # liveness
        self.rtt: float | None = None
        self.ping_seq = 0
        self.ping_at: float | None = None
