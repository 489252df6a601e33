"""
Every limit and interval of a node, with its reason.

All of them are constructor arguments (``MeshService(..., max_message=...)``) and shown by
``status``. Sizes are in bytes, times in seconds. Their sources
stand in docs/design.rst, "Limits".
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from py2p_twisted.core import framing, seen
from py2p_twisted.errors import BadArgument

#: What is counted.
_WHOLE: Final = (
    "max_message",
    "max_outgoing",
    "max_inbound",
    "max_half_open",
    "content_errors",
    "renegotiations",
    "seen_capacity",
    "max_replies",
    "book_size",
    "book_share",
    "unsent_messages",
    "active_view",
    "passive_view",
    "join_walk",
    "passive_walk",
    "shuffle_active",
    "shuffle_passive",
    "retention_messages",
    "retention_bytes",
    "tree_origins",
    "tree_messages",
    "announce_batch",
    "missing_per_peer",
    "routed_replies",
)

#: What must be more than zero.
_POSITIVE: Final = (
    "progress_interval",
    "active_view",
    "announce_batch",
    "tree_messages",
    "shuffle_interval",
    "probe_interval",
    "ping_interval",
    "dead_after",
    "graft_timeout",
    "repair_timeout",
    "shepherd_interval",
)

#: What a node that runs may be given anew: it is read each time it is needed, nothing is built to
#: its measure, and what the peers agree on does not depend on it.
LIVE: Final = (
    "max_outgoing",
    "max_inbound",
    "max_half_open",
    "handshake_timeout",
    "dial_timeout",
    "dial_handshake_timeout",
    "progress_interval",
    "progress_rate",
    "frame_timeout",
    "content_errors",
    "renegotiations",
    "reply_timeout",
    "max_replies",
    "unsent_age",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a node allows itself and others."""

    #: Largest message body that is sent, received or inflated.
    max_message: int = framing.MAX_MESSAGE
    #: Outgoing links that a node seeks by itself, from the addresses it learns; with 0 it
    #: dials nobody but whom the application asks for, who are not counted. Source: py2p 0.6,
    #: ``max_outgoing``.
    max_outgoing: int = 4
    #: Incoming links that are kept; who comes later is told other addresses.
    max_inbound: int = 64
    #: Incoming connections that have not introduced themselves yet. When one more
    #: comes, the one that has been silent longest goes.
    max_half_open: int = 64
    #: How long an incoming connection may take to introduce itself.
    handshake_timeout: float = 10.0
    #: How long an outgoing one may take to be accepted, and then to introduce itself;
    #: together ten seconds, by which ``connect`` has succeeded or failed.
    dial_timeout: float = 4.0
    dial_handshake_timeout: float = 6.0
    #: A started frame is looked at this often, must have brought this many bytes a
    #: second by then, and be complete in this time.
    progress_interval: float = 10.0
    progress_rate: int = 1024
    frame_timeout: float = 60.0
    #: A silent link that is asked for a sign of life has this long to give one.
    probe_timeout: float = 2.0
    #: How long a surplus connection is still read before it is closed, so that nothing
    #: in flight on it is lost.
    drain_time: float = 1.0
    #: Broken messages a minute that a neighbour may bring: honest 0.6 nodes relay what
    #: they do not check.
    content_errors: int = 10
    #: Renegotiations per connection.
    renegotiations: int = 8
    #: The seen cache: how long an id is remembered, and how many are. A copy can be accepted until
    #: 20 minutes after its stamp (`clock.ACCEPTED`); so no message comes twice while fewer than
    #: ``seen_capacity / 1200`` come a second, about 65. Source: docs/delivery.rst, "How long a
    #: message is known".
    seen_window: float = seen.WINDOW
    seen_capacity: int = seen.CAPACITY
    #: How long a reply may take to find a sender that is not a neighbour.
    reply_timeout: float = 10.0
    #: Replies that wait for their sender to be found.
    max_replies: int = 256
    #: Addresses kept, and how many of them one peer may have told us.
    book_size: int = 512
    book_share: int = 64
    #: Own broadcasts kept while there is no peer, and for how long: 0.6 nodes drop what
    #: is older than 60 s.
    unsent_messages: int = 16
    unsent_age: float = 55.0

    # --- mesh-ext 1; source of all that follows: docs/protocol/mesh-ext.rst, "Parameters" ---

    #: Whether to speak mesh-ext to nodes that do; without it, everybody is flooded.
    extensions: bool = True
    #: Neighbours among extended nodes; two at least, unless ``max_outgoing`` is 0.
    #: Source: HyParView (Leitao et al. 2007), fanout + 1.
    active_view: int = 5
    #: Addresses of extended nodes kept to replace neighbours. Source: HyParView.
    passive_view: int = 30
    #: Hops of a newcomer's address, and of them until it is noted on the way. Source: HyParView.
    join_walk: int = 6
    passive_walk: int = 3
    #: How often addresses are exchanged, and how many of each view. Source: HyParView; the
    #: interval is ours.
    shuffle_interval: float = 30.0
    shuffle_active: int = 3
    shuffle_passive: int = 4
    #: How often a node outside the view is asked what it has, and how long such a link stays.
    probe_interval: float = 20.0
    probe_time: float = 3.0
    #: A silent extended peer is asked for a sign of life, and given up.
    ping_interval: float = 2.0
    dead_after: float = 6.0
    #: How long messages are kept to repair what others miss: the least of these, of half of
    #: ``seen_window``, and of half of ``seen_capacity``: an id must outlive its message.
    retention: float = 600.0
    retention_messages: int = 20_000
    retention_bytes: int = 64 * 1024 * 1024
    #: Origins whose trees are remembered, and after how much a tree is built anew.
    tree_origins: int = 4096
    tree_messages: int = 256
    tree_age: float = 300.0
    #: But not before it has served so long: growing one costs a round trip of flooding.
    tree_rest: float = 30.0
    #: Announcements wait so long, or until there are so many.
    announce_delay: float = 0.02
    announce_batch: int = 1000
    #: How long after an announcement the message itself is asked for, at least (it adapts to
    #: what is observed); the same for ids of a digest.
    graft_timeout: float = 0.3
    repair_timeout: float = 0.2
    #: Announced messages that one peer may have outstanding with us.
    missing_per_peer: int = 5000
    #: How often a plain node is asked for its list and another one visited.
    shepherd_interval: float = 10.0
    #: Replies on their way through this node.
    routed_replies: int = 1024

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "extensions":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise BadArgument(f"{item.name} must be a number, zero or more, not {value!r}")
        for name in _WHOLE:
            if type(getattr(self, name)) is not int:
                raise BadArgument(f"{name} must be a whole number, not {getattr(self, name)!r}")
        if type(self.extensions) is not bool:
            raise BadArgument(f"extensions must be True or False, not {self.extensions!r}")
        for name in _POSITIVE:
            if not getattr(self, name):
                raise BadArgument(f"{name} must be more than 0, not 0")
        if self.dead_after <= self.ping_interval:
            raise BadArgument(
                f"dead_after ({self.dead_after:g} s) must be more than ping_interval "
                f"({self.ping_interval:g} s)"
            )
        if self.active_view < 2 and self.max_outgoing:
            raise BadArgument(
                f"active_view must be 2 at least, not {self.active_view}: nodes that seek one "
                "neighbour each make no mesh; only with max_outgoing=0 it may be 1"
            )
        if self.seen_capacity < 4096:
            # What one read can bring has to fit.
            raise BadArgument(f"seen_capacity must be 4096 at least, not {self.seen_capacity}")
        if not 1024 <= self.max_message <= 2**31:
            raise BadArgument(
                f"max_message must be between 1 KiB and 2 GiB, not {self.max_message}"
            )

    @property
    def effective_retention(self) -> float:
        """How long a message is really kept: its id must outlive it."""
        return min(self.retention, self.seen_window / 2)

    @property
    def effective_retention_messages(self) -> int:
        """How many messages are really kept: as many ids again must come before one is forgotten."""
        return min(self.retention_messages, self.seen_capacity // 2)

    def change(self, name: str, value: int | float) -> None:
        """
        Change one setting of a node that runs, everywhere: all its parts share this object.

        :param name: one of `LIVE`.
        :param value: one that `from_options` has accepted together with all others.
        """
        if name not in LIVE:
            raise BadArgument(f"{name} cannot be changed while a node runs")
        object.__setattr__(self, name, value)  # frozen for everybody else

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Settings:
        """
        Settings from keyword arguments.

        :raises BadArgument: an option is unknown or its value unusable.
        """
        known = {item.name for item in fields(cls)}
        for name in options:
            if name not in known:
                raise BadArgument(f"unknown option {name!r}; there are {', '.join(sorted(known))}")
        return cls(**options)
