"""
What the core decides, as values; and the sink its data goes into.

Rare decisions come back from every input method of the node as a list of frozen values,
in the order in which they are to be carried out. Data does not: an object per message and
peer would cost more than everything else, so messages go into `Effects`, a narrow sink
that a driver implements and a test records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from py2p_twisted.core.network import Address
from py2p_twisted.errors import MeshError

if TYPE_CHECKING:
    from py2p_twisted.core.connection import Connection
    from py2p_twisted.core.message import Message
    from py2p_twisted.core.receipts import Receipt
    from py2p_twisted.core.survey import Survey


class Effects(Protocol):
    """Where a node's data goes. Every method returns at once and raises nothing."""

    def send(self, message: Message, link: Connection) -> None:
        """Send one message to one peer, as ``link.policy.frame(message)``."""

    def relay(self, messages: Sequence[Message], links: Sequence[Connection]) -> None:
        """Send messages to several peers, in order: what a turn has brought, at once."""

    def deliver(self, messages: Sequence[Message], link: Connection) -> None:
        """
        Give messages that came in over ``link`` to the application, in order.

        :param messages: one of any kind, or several broadcasts whose sub-flag is broadcast,
            too, that stood in one read.
        """


@dataclass(frozen=True, slots=True)
class Dial:
    """
    Open a connection, then call ``Node.link(dial)``, or ``Node.dial_failed(dial, ...)``.

    :ivar address: whom to dial.
    :ivar expected: the id that must answer, where it matters who does.
    :ivar timeout: seconds that the transport may take.
    :ivar serial: tells dials of one address apart.
    """

    address: Address
    expected: bytes | None
    timeout: float
    serial: int


@dataclass(frozen=True, slots=True)
class Close:
    """
    End a connection.

    :ivar error: why; for the log, the counters, and whoever waits for this link.
    :ivar flush: whether what is queued for the peer should still be written.
    """

    link: Connection
    error: MeshError
    flush: bool


@dataclass(frozen=True, slots=True)
class Joined:
    """
    A peer has entered the routing table.

    :ivar first: the table was empty before.
    """

    link: Connection
    first: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """
    A peer that has joined is here to stay: one of our neighbours, or a plain node.

    Others have a look and go again, which is the ordinary life of a mesh and no news.
    """

    link: Connection


@dataclass(frozen=True, slots=True)
class Left:
    """
    A peer has left the routing table.

    :ivar last: the table is empty now.
    """

    link: Connection
    error: MeshError
    last: bool


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another connection to the same peer has taken the place of the one in the table."""

    old: Connection
    link: Connection


@dataclass(frozen=True, slots=True)
class Connected:
    """What ``Node.connect`` was asked for has come true, over this link."""

    token: int
    link: Connection


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """What ``Node.connect`` was asked for has failed."""

    token: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Replied:
    """
    A reply has been handed to its receiver's link, or has failed.

    :ivar error: why it failed, ``None`` if it did not.
    """

    token: int
    error: MeshError | None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """
    A peer has dealt with all that it was sent until ``Node.confirm``, or has gone.

    :ivar error: why nobody knows, ``None`` if it has.
    """

    token: int
    error: MeshError | None


@dataclass(frozen=True, slots=True)
class Receipted:
    """
    Who has a message of ours is known, as far as it can be.

    :ivar token: the one of ``Node.expect_receipts``.
    """

    token: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Surveyed:
    """
    Who is in the network is known, as far as it can be.

    :ivar token: the one of ``Node.survey``.
    """

    token: int
    survey: Survey


@dataclass(frozen=True, slots=True)
class ClockDisagreement:
    """
    Our clock has turned out to be wrong, or right again.

    :ivar correction: seconds that are now added to our stamps.
    """

    correction: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """
    A message was of no use; its link goes on.

    :ivar reason: one of the words that ``Node.drops`` counts by.
    :ivar detail: what was wrong with it, for people.
    """

    link: Connection
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Gap:
    """
    The application has missed something that cannot be brought to it any more.

    :ivar reason: a short stable word.
    :ivar count: how many messages, as far as that is known, else 0.
    :ivar detail: what is known, for people.
    """

    reason: str
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Call ``Node.woken`` at this time (monotonic seconds); replaces any earlier one."""

    when: float


Action = (
    Dial
    | Close
    | Joined
    | Settled
    | Left
    | Replaced
    | Connected
    | ConnectFailed
    | Replied
    | Confirmed
    | Receipted
    | Surveyed
    | ClockDisagreement
    | Dropped
    | Gap
    | WakeAt
)
