"""
What happened, compactly; what it amounts to; and whether it was right.

For every broadcast two arrays hold, by participant, when it arrived and over how many hops: five
bytes a delivery, so that ten thousand nodes and hundreds of messages fit. From these come the
figures that delivery is judged by:

=========  ======================================================================================
coverage   (message, eligible node) pairs that were delivered, of all such pairs; eligible: has
           joined two seconds before the send, and is alive at the end; never the sender
RMR        payload copies sent to living processes for every delivery, minus one: 0 is a tree
last       seconds until the last eligible node had a message
LDH        hops on the way to that node
=========  ======================================================================================

`History.check` says what was wrong: see there.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from py2p_twisted.core import flags
from py2p_twisted.core.message import Message

if TYPE_CHECKING:
    from py2p_twisted.core.actions import Gap
    from py2p_twisted.simulation.machine import Machine

#: How long before a send a node must have joined to be owed the message.
#: Source: docs/delivery.rst.
SETTLED: Final = 2.0

#: Violations that are kept; all are counted.
MOST_VIOLATIONS: Final = 100


class Sent:
    """
    One broadcast and its way through the network.

    :ivar id: the message's id.
    :ivar sender: who sent it.
    :ivar time: when, in virtual seconds.
    :ivar hops: by participant: 0 for not delivered, else one more than the hops it took; 255
        stands for more.
    :ivar after: by participant: seconds from the send to the delivery.
    :ivar count: deliveries.
    :ivar copies: payload copies that were sent.
    """

    __slots__ = ("after", "copies", "count", "hops", "id", "sender", "time")

    def __init__(self, ident: bytes, sender: Machine, time: float, size: int) -> None:
        self.id = ident
        self.sender = sender
        self.time = time
        self.hops = bytearray(size)
        self.after = array("f", bytes(4 * size))
        self.count = 0
        self.copies = 0

    def __repr__(self) -> str:
        return f"<Sent {self.id[:4].hex()} by {self.sender.name} at {self.time:.3f}>"

    def has(self, machine: Machine) -> bool:
        """Whether it was delivered there, or sent by it."""
        return machine.index < len(self.hops) and self.hops[machine.index] > 0


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What a number of broadcasts came to.

    :ivar sends: how many there were.
    :ivar pairs: (message, eligible node) pairs.
    :ivar missing: those that were not delivered.
    :ivar coverage: percent that were.
    :ivar rmr: redundancy; 0 for no message.
    :ivar mean: seconds to the last eligible node: mean, median, 99th percentile, most.
    :ivar hops: on the way to that node, mean and most.
    """

    sends: int
    pairs: int
    missing: int
    coverage: float
    rmr: float
    mean: float
    p50: float
    p99: float
    most: float
    hops: float
    most_hops: int


class History:
    """
    Everything that happened in a run.

    :ivar sent: the broadcasts, in order.
    :ivar events: what happened besides: (when, what, at whom, with whom, detail).
    :ivar gaps: what nodes have told of messages that are lost for them.
    :ivar dropped: messages that nodes had no use for, by reason.
    :ivar deliveries: broadcasts that were delivered.
    :ivar whispers: messages of other kinds that were delivered: (when, where, packets).
    :ivar foreign: broadcasts that were delivered and that nobody had sent by `Simulation.send`.
    :ivar violations: what was wrong, as far as it is noticed at once.
    :ivar doubles: second deliveries at plain 0.6 nodes, which those allow.
    """

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.events: list[tuple[float, str, int, int, str]] = []
        self.gaps: list[tuple[float, int, str, int]] = []
        self.dropped: Counter[str] = Counter()
        self.deliveries = 0
        self.whispers: list[tuple[float, int, tuple[Any, ...]]] = []
        self.foreign = 0
        self.violations: list[str] = []
        self.violated = 0
        self.doubles = 0
        self.machines: list[Machine] = []
        self._by_id: dict[bytes, Sent] = {}
        #: Copies of a message that is not known here yet: it is just being sent.
        self.early = 0

    # --- recording -------------------------------------------------------------------------

    def sending(self, ident: bytes, sender: Machine) -> Sent:
        """A broadcast has just been sent."""
        sent = self._by_id.get(ident)
        if sent is None:
            sent = Sent(ident, sender, sender.sim.now, len(self.machines))
            sent.hops[sender.index] = 1
            self._by_id[ident] = sent
            self.sent.append(sent)
        elif sender.ours:
            self.violation(f"{sender.name} sent two messages with one id")
        sent.copies += self.early
        return sent

    def relayed(self, messages: Sequence[Message], copies: int) -> None:
        """Copies have been sent to peers."""
        by_id = self._by_id
        for message in messages:
            sent = by_id.get(message.id)
            if sent is not None:
                sent.copies += copies
            elif message.items[0] == flags.BROADCAST:
                self.early += copies

    def delivered(self, machine: Machine, messages: Sequence[Message], via: Machine) -> None:
        """Messages have reached an application, through a neighbour."""
        by_id = self._by_id
        index = machine.index
        now = machine.sim.now
        for message in messages:
            sent = by_id.get(message.id)
            if sent is None:
                if message.items[0] == flags.BROADCAST:
                    self.foreign += 1
                else:
                    self.whispers.append((now, index, message.payload))
                continue
            hops = sent.hops
            if index >= len(hops):
                more = len(self.machines) - len(hops)
                hops.extend(bytes(more))
                sent.after.frombytes(bytes(4 * more))
            if hops[index]:
                self._again(machine, sent)
                continue
            hops[index] = min(255, hops[via.index] + 1) if via.index < len(hops) else 255
            sent.after[index] = now - sent.time
            sent.count += 1
            self.deliveries += 1

    def _again(self, machine: Machine, sent: Sent) -> None:
        if not machine.ours:
            self.doubles += 1
        elif sent.sender is machine:
            self.violation(f"{machine.name} was delivered its own message {sent!r}")
        else:
            self.violation(f"{machine.name} was delivered {sent!r} twice")

    def note(
        self, what: str, machine: Machine, other: Machine | None = None, detail: str = ""
    ) -> None:
        """Something has happened to a machine."""
        number = -1 if other is None else other.index
        self.events.append((machine.sim.now, what, machine.index, number, detail))

    def gap(self, machine: Machine, gap: Gap) -> None:
        """A node tells its application that messages are lost for it."""
        self.gaps.append((machine.sim.now, machine.index, gap.reason, gap.count))

    def violation(self, text: str) -> None:
        """Something is wrong."""
        self.violated += 1
        if len(self.violations) < MOST_VIOLATIONS:
            self.violations.append(text)

    # --- what it amounts to -----------------------------------------------------------------

    def eligible(self, sent: Sent, *, plain: bool = False) -> Iterator[Machine]:
        """
        Who is owed a message.

        :param plain: the plain 0.6 nodes instead of our own.
        """
        by = sent.time - SETTLED
        for machine in self.machines:
            if (
                machine.died is None
                and machine.joined is not None
                and machine.joined <= by
                and machine is not sent.sender
                and machine.ours is not plain
            ):
                yield machine

    def figures(self, sends: Iterable[Sent] | None = None, *, plain: bool = False) -> Figures:
        """
        What some broadcasts came to, by default all.

        :param plain: count the plain 0.6 nodes instead of our own.
        """
        chosen = self.sent if sends is None else list(sends)
        pairs = missing = 0
        lasts: list[float] = []
        depths: list[int] = []
        for sent in chosen:
            hops, after, size = sent.hops, sent.after, len(sent.hops)
            last, depth = -1.0, 0
            for machine in self.eligible(sent, plain=plain):
                index = machine.index
                pairs += 1
                if index >= size or not hops[index]:
                    missing += 1
                elif after[index] > last:
                    last, depth = after[index], hops[index] - 1
            if last >= 0:
                lasts.append(last)
                depths.append(depth)
        lasts.sort()
        copies = sum(sent.copies for sent in chosen)
        count = sum(sent.count for sent in chosen)
        return Figures(
            sends=len(chosen),
            pairs=pairs,
            missing=missing,
            coverage=100.0 * (pairs - missing) / pairs if pairs else 100.0,
            rmr=copies / count - 1 if count else 0.0,
            mean=sum(lasts) / len(lasts) if lasts else 0.0,
            p50=quantile(lasts, 0.5),
            p99=quantile(lasts, 0.99),
            most=lasts[-1] if lasts else 0.0,
            hops=sum(depths) / len(depths) if depths else 0.0,
            most_hops=max(depths, default=0),
        )

    def check(self, *, complete: bool = True, sends: Iterable[Sent] | None = None) -> list[str]:
        """
        What was wrong: second deliveries, a sender that got its own message, containers above
        their caps (as far as `Simulation.check_sizes` was called), and what is missing.

        A message is owed to all who are eligible when its sender is a living node of ours, or when
        any of them has it. (What died with its sender before anybody living had it is nobody's
        fault, and plain nodes send to whom they have at that moment.)

        :param complete: whether what is missing counts; plain flooding does not promise it.
        :param sends: the broadcasts for which it counts, by default all.
        """
        found = list(self.violations)
        if self.violated > len(found):
            found.append(f"and {self.violated - len(found)} more")
        if not complete:
            return found
        for sent in self.sent if sends is None else sends:
            eligible = list(self.eligible(sent))
            without = [machine.name for machine in eligible if not sent.has(machine)]
            kept = sent.sender.ours and sent.sender.died is None
            if without and (kept or len(without) < len(eligible)):
                names = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
                found.append(f"{len(without)} of {len(eligible)} are without {sent!r}: {names}")
        return found

    def digest(self) -> str:
        """A checksum over all that happened: two runs of one seed have the same."""
        total = sha256()
        for sent in self.sent:
            total.update(b"%b %d %r " % (sent.id, sent.sender.index, sent.time))
            total.update(bytes(sent.hops) + sent.after.tobytes() + b"%d" % sent.copies)
        total.update(repr((self.events, self.gaps, self.whispers)).encode())
        total.update(repr((sorted(self.dropped.items()), self.violations)).encode())
        return total.hexdigest()


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of them lies; 0 for none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
